"""Every test of this folder needs a CUDA device; without one it is skipped, and says why."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dualshard.worker.device import Device, find

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "worker"))  # `layer_cases`
FOUND = find("auto")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent != HERE:
            continue
        item.add_marker(pytest.mark.gpu)
        item.add_marker(pytest.mark.xdist_group("gpu"))
        if FOUND.device is None:
            item.add_marker(pytest.mark.skip(reason=FOUND.line))


@pytest.fixture
def device() -> Device:
    assert FOUND.device is not None
    return FOUND.device


@pytest.fixture
def cupy(device: Device) -> Iterator[Any]:
    """CuPy's module, on a stream of its own as a lane has one."""
    stream = device.stream()
    with stream.current():
        yield device.xp
        stream.mark().wait()
