"""The search for a device, and what it says."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from dualshard.common.errors import UserError
from dualshard.worker.device import Found, find


class NoDriver(RuntimeError):
    """As CuPy's CUDARuntimeError."""


def cupy_with(count: int | Exception) -> ModuleType:
    def devices() -> int:
        if isinstance(count, Exception):
            raise count
        return count

    made = ModuleType("cupy")
    made.__version__ = "14.2.0"
    runtime = SimpleNamespace(getDeviceCount=devices, CUDARuntimeError=NoDriver)
    made.cuda = SimpleNamespace(runtime=runtime)
    return made


NO_DRIVER = cupy_with(NoDriver("cudaErrorInsufficientDriver: too  old"))


def test_the_cpu_needs_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy_with(AssertionError("it was searched for")))
    assert find("cpu") == Found(None, "")


@pytest.mark.parametrize(
    ("cupy", "why"),
    [
        (None, "CuPy is not installed"),
        (NO_DRIVER, "CuPy 14.2.0 finds none: cudaErrorInsufficientDriver: too old"),
        (cupy_with(0), "CuPy 14.2.0 finds none"),
    ],
)
def test_auto_falls_back_and_says_what_was_looked_for(
    cupy: ModuleType | None, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    found = find("auto")
    assert found.device is None
    assert found.line == f"device auto: no CUDA device ({why}): computing on the CPU"


@pytest.mark.parametrize(
    ("cupy", "asked", "expected"),
    [
        (
            None,
            "cuda:0",
            "but CuPy is not installed; pip install 'dualshard[gpu]', or set worker.device=cpu",
        ),
        (
            NO_DRIVER,
            "cuda:0",
            "but CuPy 14.2.0 finds none: cudaErrorInsufficientDriver: too old; install the NVIDIA "
            "driver and see that nvidia-smi lists the device, or set worker.device=cpu",
        ),
        (
            cupy_with(1),
            "cuda:1",
            "but there is 1; the last one is cuda:0, or set worker.device=cpu",
        ),
        (
            cupy_with(4),
            "cuda:7",
            "but there are 4; the last one is cuda:3, or set worker.device=cpu",
        ),
    ],
)
def test_a_device_that_is_asked_for_and_not_there_is_one_line(
    cupy: ModuleType | None, asked: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(UserError) as refused:
        find(asked)
    assert str(refused.value) == (
        f"worker.device = {asked}: expected a CUDA device of this number on the worker's machine, "
        + expected
    )


def test_an_installation_that_is_broken_is_not_taken_for_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    (tmp_path / "cupy.py").write_text("import no_such_library_of_cuda\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    line = find("auto").line
    assert "CuPy cannot be imported: ModuleNotFoundError: No module named 'no_such_library" in line
