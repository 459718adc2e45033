"""Page-locked buffers of the host on the way to a device and back. No arithmetic.

Only copies from and to page-locked memory run beside the work of other streams; pages that were
locked once are used again and again, for locking them takes longer than copying.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.types import Array, Metrics
from .device import Device, Mark, Stream

SLOTS = 4
"""Buffers of a lane: inputs and labels of a minibatch, while those of the one before go up."""


class Staging:
    """Takes arrays up to a device, each through a page-locked buffer. Belongs to one thread."""

    def __init__(self, device: Device, stream: Stream) -> None:
        self._device, self._stream = device, stream
        self._buffers: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)] * SLOTS
        self._marks: list[Mark | None] = [None] * SLOTS
        self._turn = 0

    def put(self, array: Array) -> Any:
        """A copy of `array` on the device, in the order of the stream, which must be current.

        `array` may be overwritten at once: it is copied here before this returns.
        """
        slot, self._turn = self._turn, (self._turn + 1) % SLOTS
        mark = self._marks[slot]
        if mark is not None:
            mark.wait()  # the copy that last went through this buffer
        if self._buffers[slot].size < array.nbytes:
            self._buffers[slot] = self._device.pinned(array.nbytes)
        buffer = self._buffers[slot][: array.nbytes].view(array.dtype).reshape(array.shape)
        np.copyto(buffer, array)
        target = self._device.xp.empty(array.shape, array.dtype)
        self._stream.upload(buffer, target)
        self._marks[slot] = self._stream.mark()
        return target


class Measures:
    """Brings the measures of some minibatches down, all in one copy. Belongs to one lane.

    A measure may be a number, or an array of the device with one element, which nobody waits for
    before `bring`.
    """

    def __init__(self, device: Device, stream: Stream) -> None:
        self._device, self._stream = device, stream
        self._found: list[dict[str, Any]] = []
        self._away: list[Any] = []
        self._buffer: NDArray[np.uint8] = np.empty(0, np.uint8)

    def add(self, metrics: Metrics) -> None:
        """The measures of the next minibatch."""
        self._found.append(dict(metrics))

    def bring(self) -> None:
        """Give the stream, which must be current, the copy of all that was added."""
        xp = self._device.xp
        self._away = [
            xp.asarray(value, np.float32).reshape(1)
            for metrics in self._found
            for value in metrics.values()
            if isinstance(value, xp.ndarray)
        ]
        if self._away:
            size = 4 * len(self._away)
            if self._buffer.size < size:
                self._buffer = self._device.pinned(max(size, 256))
            together = xp.concatenate(self._away)
            self._stream.download(together, self._buffer[:size].view(np.float32))

    def read(self) -> list[Metrics]:
        """The measures of each minibatch, once the copy is done; then it starts anew."""
        brought = iter(self._buffer[: 4 * len(self._away)].view(np.float32).tolist())
        found = [
            {
                name: next(brought) if isinstance(value, self._device.xp.ndarray) else float(value)
                for name, value in metrics.items()
            }
            for metrics in self._found
        ]
        self._found, self._away = [], []
        return found
