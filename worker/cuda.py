"""A CUDA device through CuPy: the one file that knows how CuPy copies, streams and waits.

Imported by `device.find` once a device is there: making a stream without one raises. CuPy's current
device and stream are the calling thread's own.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import cupy
import numpy as np
from cupy.cuda import runtime
from numpy.typing import NDArray

from ..common.types import Array
from .device import Device, Mark, Stream


class CudaMark(Mark):
    """An event. The waiting thread sleeps: spinning would take a core from the servers."""

    def __init__(self, stream: Any) -> None:
        self.event = cupy.cuda.Event(block=True, disable_timing=True)
        self.event.record(stream)

    def wait(self) -> None:
        self.event.synchronize()


class CudaStream(Stream):
    """A stream that does not wait for the null stream."""

    def __init__(self, device: Any) -> None:
        self._device = device
        with device:
            self._stream = cupy.cuda.Stream(non_blocking=True)

    def current(self) -> AbstractContextManager[None]:
        return self._current()

    @contextmanager
    def _current(self) -> Iterator[None]:
        with self._device, self._stream:
            yield

    def upload(self, source: Array, target: Any) -> None:
        _check(source, target)
        addresses = target.data.ptr, source.ctypes.data
        self._copy(*addresses, source.nbytes, runtime.memcpyHostToDevice)

    def download(self, source: Any, target: Array) -> None:
        _check(source, target)
        assert target.flags.writeable
        addresses = target.ctypes.data, source.data.ptr
        self._copy(*addresses, target.nbytes, runtime.memcpyDeviceToHost)

    def _copy(self, to: int, begin: int, size: int, kind: int) -> None:
        with self._device:
            runtime.memcpyAsync(to, begin, size, kind, self._stream.ptr)

    def mark(self) -> CudaMark:
        with self._device:
            return CudaMark(self._stream)

    def after(self, mark: Mark) -> None:
        assert isinstance(mark, CudaMark)
        with self._device:
            self._stream.wait_event(mark.event)


class Cuda(Device):
    """CUDA device `number`, as `CUDA_VISIBLE_DEVICES` counts them."""

    def __init__(self, number: int) -> None:
        self.name, self.xp = f"cuda:{number}", cupy
        self._device = cupy.cuda.Device(number)

    def stream(self) -> CudaStream:
        return CudaStream(self._device)

    def pinned(self, size: int) -> NDArray[np.uint8]:
        with self._device:
            memory = cupy.cuda.alloc_pinned_memory(max(size, 1))
        return np.frombuffer(memory, np.uint8, size)  # the array keeps the memory

    def pin(self, array: Array) -> bool:
        assert array.flags.c_contiguous
        try:
            with self._device:
                runtime.hostRegister(array.ctypes.data, array.nbytes, 0)
        except runtime.CUDARuntimeError:
            return False
        return True


def _check(source: Any, target: Any) -> None:
    assert source.dtype == target.dtype
    assert source.shape == target.shape
    assert source.flags.c_contiguous
    assert target.flags.c_contiguous
