"""What a reader of a measurement must know about the machine and the programs. Only reads."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import scipy.linalg.cython_blas  # noqa: F401 (loads the BLAS that the layers call)
from threadpoolctl import threadpool_info


def machine_facts() -> dict[str, str]:
    """Facts by name, in the order in which they are printed."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "load average": f"{os.getloadavg()[0]:.1f} in the minute before",
        "versions": ", ".join(
            [
                f"Python {platform.python_version()}",
                *(
                    _installed(name)
                    for name in ("numpy", "scipy", "numba", "pyzmq", "torch", "ray")
                ),
            ]
        ),
        "BLAS": ", ".join(blas_libraries()),
        "environment": ", ".join(_chosen_kernels()) or "no OPENBLAS_* variable is set",
    }


def _processor() -> str:
    """The model name that the kernel tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _installed(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"no {package}"


def blas_libraries() -> list[str]:
    """Each BLAS in this process: whose it is, its version, and the kernels it has chosen."""
    return [
        f"{Path(found['filepath']).parent.name.removesuffix('.libs')}: {found['internal_api']} "
        f"{found['version']} with {found.get('architecture', 'unknown')} kernels"
        for found in threadpool_info()
        if found["user_api"] == "blas"
    ]


def _chosen_kernels() -> list[str]:
    """The variables by which someone has told OpenBLAS how to compute; dualshard sets none."""
    return [
        f"{name}={value}"
        for name, value in sorted(os.environ.items())
        if name.startswith("OPENBLAS_") and name != "OPENBLAS_NUM_THREADS"
    ]
