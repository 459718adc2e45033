"""What a device is to a worker, and the search for one. No arithmetic.

A device lends memory, streams and copies between its memory and the host's; it is looked for when
the job asks, and never assumed. Here is the contract, and `find`; the one kind there is stands in
`cuda`, which is imported, as CuPy is, once a device has been found. Tests fill the contract with
NumPy (tests/worker/host_device.py).

**Order.** Each stream does its work in the order in which it was given, and copies return before
they are done. A host array that is lent to a copy belongs to its stream until a `Mark` made after
it has passed. Streams do not wait for each other, unless told to by `after`.
"""

import importlib
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.errors import UserError, describe
from ..common.types import Array

NO_CUPY = "pip install 'dualshard[gpu]'"
NO_DRIVER = "install the NVIDIA driver and see that nvidia-smi lists the device"


class Mark(ABC):
    """A point in the work of a stream. Any thread may wait for it, any number of times."""

    @abstractmethod
    def wait(self) -> None:
        """Return once all that the stream was given before is done; without the GIL meanwhile."""


class Stream(ABC):
    """A row of work on a device. One thread at a time may give it work."""

    @abstractmethod
    def current(self) -> AbstractContextManager[None]:
        """Within it, whatever this thread computes with `xp` goes to this stream."""

    @abstractmethod
    def upload(self, source: Array, target: Any) -> None:
        """Copy a host array into one of the device's; same dtype and shape, both contiguous."""

    @abstractmethod
    def download(self, source: Any, target: Array) -> None:
        """Copy an array of the device into one of the host's; same dtype and shape, contiguous."""

    @abstractmethod
    def mark(self) -> Mark:
        """The point that the stream has been given work up to."""

    @abstractmethod
    def after(self, mark: Mark) -> None:
        """What the stream is given from now on waits for a mark of another stream."""


class Device(ABC):
    """Memory and streams of one device. Any thread may call it."""

    name: str
    """`cuda:0`, as in settings."""

    xp: ModuleType
    """The module whose arrays lie there: cupy."""

    @abstractmethod
    def stream(self) -> Stream:
        """A new stream."""

    @abstractmethod
    def pinned(self, size: int) -> NDArray[np.uint8]:
        """`size` bytes of page-locked memory of the host: only from there do copies run beside
        the work of other streams."""

    @abstractmethod
    def pin(self, array: Array) -> bool:
        """Page-lock the memory of an array, for the rest of the process; whether the system allows
        it. If not, copies work all the same, but hold up whoever asks for them."""


@dataclass(frozen=True)
class Found:
    """What a search came to: a device, or None for the host; `line` tells people about it."""

    device: Device | None
    line: str = ""


def find(asked: str) -> Found:
    """The device that `worker.device` asks for: `cpu`, `auto` or `cuda:N`.

    Imports CuPy unless `cpu` is asked for (a second); starts nothing on a device.

    Raises:
        UserError: `cuda:N` was asked for and is not there; it says why, and what to do.
    """
    if asked == "cpu":
        return Found(None)
    count, problem, fix = _count_devices()
    number = 0 if asked == "auto" else int(asked.removeprefix("cuda:"))
    if number < count:
        device: Device = importlib.import_module("..cuda", __name__).Cuda(number)
        return Found(device, f"device {asked}: computing on {device.name}")
    if asked == "auto":
        return Found(None, f"device auto: no CUDA device ({problem}): computing on the CPU")
    if count:
        problem = f"there {'is' if count == 1 else 'are'} {count}"
        fix = f"the last one is cuda:{count - 1}"
    expected = f"a CUDA device of this number on the worker's machine, but {problem}"
    raise UserError("worker.device", asked, expected, f"{fix}, or set worker.device=cpu")


def _count_devices() -> tuple[int, str, str]:
    """The number of CUDA devices; where there is none, why so, and what to do about it."""
    try:
        cupy = importlib.import_module("cupy")
    except ModuleNotFoundError as missing:
        if missing.name != "cupy":
            return 0, f"CuPy cannot be imported: {describe(missing)}", NO_CUPY
        return 0, "CuPy is not installed", NO_CUPY
    except ImportError as broken:
        return 0, f"CuPy cannot be imported: {describe(broken)}", NO_CUPY
    try:
        count = int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError as refused:
        words = " ".join(str(refused).split())
        return 0, f"CuPy {cupy.__version__} finds none: {words}", NO_DRIVER
    return count, "" if count else f"CuPy {cupy.__version__} finds none", NO_DRIVER
