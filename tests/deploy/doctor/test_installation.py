"""The checks of the installation, with packages and devices that are made up."""

import sys
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

from dualshard.deploy.doctor import installation
from dualshard.deploy.doctor.installation import (
    check_blas,
    check_compiler,
    check_gpu,
    check_optional,
    check_packages,
    check_python,
    requirements,
)

WANTED = [
    Requirement(text)
    for text in (
        "numpy>=2.0",
        "pyzmq>=26",
        'pyarrow>=16; extra == "parquet"',
        'torch>=2.4; extra == "torch"',
        'pytest>=8.2; extra == "test"',
        'tomli>=2; python_version < "3.11"',
    )
]


def have(**versions):
    return lambda package: versions.get(package, "")


@pytest.mark.parametrize(
    ("version", "state"), [((3, 10, 9), "fail"), ((3, 11, 0), "ok"), ((3, 13, 1), "ok")]
)
def test_python_must_be_new_enough(version, state):
    found = check_python(version)
    assert found.state == state
    assert found.what.startswith(f"Python {'.'.join(map(str, version))} on Linux")


def test_packages_are_shown_with_their_versions():
    found = check_packages(WANTED, have(numpy="2.4.6", pyzmq="27.3.0"))
    assert (found.state, found.what) == ("ok", "numpy 2.4.6, pyzmq 27.3.0")


def test_packages_that_are_missing_or_too_old_are_named_with_the_command():
    found = check_packages(WANTED, have(numpy="1.26.4"))
    assert found.state == "fail"
    assert found.what == (
        "numpy 1.26.4 is installed, needed is >=2.0; pyzmq is not installed, needed is >=26"
    )
    assert found.fix == f"{sys.executable} -m pip install 'numpy>=2.0' 'pyzmq>=26'"


def test_optional_packages_hinder_nobody_unless_they_are_too_old():
    found = check_optional(WANTED, have(pyarrow="26.0.1"))
    assert (found.state, found.what) == (
        "ok",
        "installed: pyarrow 26.0.1; not installed: torch (torch)",
    )
    found = check_optional(WANTED, have(pyarrow="3.0", torch="2.13.0+cpu"))
    assert (found.state, found.what) == (
        "warn",
        "pyarrow 3.0 is installed, needed is >=16; installed: torch 2.13.0+cpu",
    )
    assert found.fix == f"{sys.executable} -m pip install --upgrade 'dualshard[parquet]'"


def test_what_this_project_needs_is_read_from_its_own_metadata():
    needed = {one.name for one in requirements() if one.marker is None}
    assert {"numpy", "pyzmq", "click", "rich"} <= needed


def test_the_compiler_tells_where_it_keeps_its_code(tmp_path):
    kernel = SimpleNamespace(_cache=SimpleNamespace(cache_path=str(tmp_path)))
    found = check_compiler(lambda function: kernel)
    assert found.state == "ok"
    assert found.what.endswith(f", keeps machine code in {tmp_path}")


@pytest.mark.parametrize("path", [None, "/nowhere/at/all"])
def test_a_compiler_without_a_cache_is_a_warning(path):
    kernel = SimpleNamespace(_cache=SimpleNamespace(cache_path=path))
    found = check_compiler(lambda function: kernel)
    assert found.state == "warn"
    assert "cannot keep what it has compiled" in found.what
    assert "NUMBA_CACHE_DIR" in found.fix


def test_a_compiler_that_breaks_is_a_failure(monkeypatch):
    def broken(function):
        raise OSError("no LLVM")

    monkeypatch.setattr(installation, "njit", broken)
    found = check_compiler()
    assert found.state == "fail"
    assert "cannot compile: OSError: no LLVM" in found.what


def test_blas_is_named():
    assert check_blas(lambda: ["scipy: openblas 0.3.30"]).what.startswith("scipy: openblas 0.3.30")
    assert check_blas(list).state == "fail"


def test_a_device_without_cupy_is_a_warning_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # imports as if it were not installed
    found = check_gpu(tmp_path)
    assert found.state == "ok"
    assert found.what.endswith("computing on the CPU")
    (tmp_path / "nvidia0").touch()
    found = check_gpu(tmp_path)
    assert found.state == "warn"
    assert found.what.startswith(f"nvidia0 in {tmp_path}, but no CUDA device (CuPy ")
    assert found.fix == "pip install 'dualshard[gpu]'"
