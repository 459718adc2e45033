"""Checks of what is installed: Python, packages, the compiler and its cache, BLAS, a GPU."""

import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from packaging.requirements import InvalidRequirement, Requirement

from ...common.compiled import compiled
from ...common.errors import describe
from .findings import Check, Finding, fail, ok, warn

OLDEST_PYTHON = (3, 11)
FOR_DEVELOPERS = {"dev", "test"}
"""Extras of the package that nobody needs in order to train."""


def checks() -> list[tuple[str, Check]]:
    """The checks of this file, by the names of their findings."""
    return [
        ("Python", check_python),
        ("packages", lambda: check_packages(requirements(), installed)),
        ("optional packages", lambda: check_optional(requirements(), installed)),
        ("compiler", check_compiler),
        ("BLAS", check_blas),
        ("GPU", check_gpu),
    ]


def check_python(version: Sequence[int] = sys.version_info[:3]) -> Finding:
    """The interpreter and the system."""
    shown = ".".join(map(str, version))
    libc = " ".join(platform.libc_ver()) or "unknown libc"
    what = (
        f"Python {shown} on {platform.system()} {platform.release()} {platform.machine()}, {libc}"
    )
    if tuple(version[:2]) < OLDEST_PYTHON:
        return fail("Python", what, "make the environment anew with Python 3.11 or later")
    if platform.system() != "Linux":
        return fail("Python", what, "dualshard runs on Linux: use a machine or container of it")
    return ok("Python", what)


def requirements() -> list[Requirement]:
    """What the installed dualshard says that it needs, extras included."""
    texts = importlib.metadata.requires("dualshard") or []
    found = []
    for text in texts:
        try:
            found.append(Requirement(text))
        except InvalidRequirement:  # nothing that we have written
            continue
    return found


def installed(package: str) -> str:
    """Its version; empty if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def check_packages(wanted: Sequence[Requirement], version: Callable[[str], str]) -> Finding:
    """The packages without which nothing works."""
    needed = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    have = {one.name: version(one.name) for one in needed}
    wrong = [_wrong(one, have[one.name]) for one in needed if not _fits(one, have[one.name])]
    if wrong:
        asked = " ".join(
            f"'{one.name}{one.specifier}'" for one in needed if not _fits(one, have[one.name])
        )
        return fail("packages", "; ".join(wrong), f"{_pip()} install {asked}")
    return ok("packages", ", ".join(f"{name} {have[name]}" for name in sorted(have)))


def check_optional(wanted: Sequence[Requirement], version: Callable[[str], str]) -> Finding:
    """The packages that one part or another can use."""
    present, missing, wrong = [], [], []
    for one, extra in _extras(wanted):
        have = version(one.name)
        if not have:
            missing.append(f"{one.name} ({extra})")
        elif _fits(one, have):
            present.append(f"{one.name} {have}")
        else:
            wrong.append((_wrong(one, have), f"'dualshard[{extra}]'"))
    what = "; ".join(
        [
            *[text for text, _ in wrong],
            f"installed: {', '.join(present) or 'none'}",
            *([f"not installed: {', '.join(missing)}"] if missing else []),
        ]
    )
    if wrong:
        fix = f"{_pip()} install --upgrade {' '.join(sorted({extra for _, extra in wrong}))}"
        return warn("optional packages", what, fix)
    return ok("optional packages", what)


def _extras(wanted: Sequence[Requirement]) -> list[tuple[Requirement, str]]:
    """Requirements of extras, and which one of them wants each."""
    names = [name for name in _extra_names() if name not in FOR_DEVELOPERS]
    return [
        (one, name)
        for one in wanted
        for name in names
        if one.marker is not None
        and one.marker.evaluate({"extra": name})
        and not one.marker.evaluate({"extra": ""})
    ]


def _extra_names() -> list[str]:
    return importlib.metadata.metadata("dualshard").get_all("Provides-Extra") or []


def _fits(one: Requirement, version: str) -> bool:
    return bool(version) and one.specifier.contains(version, prereleases=True)


def _wrong(one: Requirement, version: str) -> str:
    found = f"{version} is installed" if version else "is not installed"
    return f"{one.name} {found}, needed is {str(one.specifier) or 'any version'}"


def _pip() -> str:
    return f"{sys.executable} -m pip"


def _add_one(values: Any) -> None:
    for index in range(values.size):
        values[index] += 1.0


def check_compiler(kept: Callable[[Any], Any] = compiled) -> Finding:
    """numba compiles a loop, and there is a folder in which it can keep machine code."""
    values = np.zeros(3, np.float32)
    try:
        njit(_add_one)(values)
    except Exception as error:
        return fail(
            "compiler",
            f"numba {installed('numba')} cannot compile: {describe(error)}",
            f"{_pip()} install --force-reinstall numba llvmlite",
        )
    if not np.array_equal(values, np.ones(3, np.float32)):
        return fail(
            "compiler",
            f"numba {installed('numba')} compiles wrong code for {platform.processor()}",
            f"{_pip()} install --upgrade numba llvmlite",
        )
    folder = kept(_add_one)._cache.cache_path  # numba looks for one when it decorates
    if not folder or not os.access(folder, os.W_OK):
        return warn(
            "compiler",
            f"numba {installed('numba')} compiles, but cannot keep what it has compiled: each "
            "process compiles anew, for 5 to 20 s",
            f"make {Path(__file__).parents[2]} writable for this user, or set NUMBA_CACHE_DIR to a "
            "folder that is",
        )
    return ok("compiler", f"numba {installed('numba')}, keeps machine code in {folder}")


def loaded_blas() -> list[str]:
    """Each BLAS that NumPy and our compiled layers call."""
    from ...bench.machine import blas_libraries

    return blas_libraries()


def check_blas(libraries: Callable[[], list[str]] = loaded_blas) -> Finding:
    """The BLAS behind NumPy and our compiled layers."""
    found = libraries()
    if not found:
        return fail(
            "BLAS",
            "none was found behind NumPy and SciPy",
            f"{_pip()} install --force-reinstall numpy scipy",
        )
    return ok("BLAS", "; ".join(found) + "; roles use it with one thread a lane")


def check_gpu(devices: Path = Path("/dev")) -> Finding:
    """A CUDA device, as a worker with `worker.device = auto` would find it."""
    from ...worker.device import NO_CUPY, NO_DRIVER, find

    found = find("auto")
    what = found.line.removeprefix("device auto: ")
    nodes = sorted(path.name for path in devices.glob("nvidia[0-9]*"))
    if found.device is None and nodes:
        fix = NO_CUPY if "CuPy is not installed" in what else NO_DRIVER
        return warn("GPU", f"{', '.join(nodes)} in {devices}, but {what}", fix)
    return ok("GPU", what)
