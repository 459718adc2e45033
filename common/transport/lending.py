"""Arrays on their way out: sent as they lie, not copied.

Their buffers are lent to ZeroMQ until the reply returns. An array frame that came in goes out again
as ZeroMQ's own message, and memory that stays where it is can be made known once: pyzmq otherwise
wakes a thread of its own for each buffer that it has sent.
"""

from collections.abc import Sequence

import numpy as np
import zmq

from ..types import Array
from ..wire import Frame

COPY_BELOW = 1 << 19
"""Bytes below which a copy is cheaper than lending a buffer to ZeroMQ, which costs about 90 µs: the
thread that pyzmq wakes to give it back. (Processor time of echoes of 64, 128, 256, 512, 1024 KiB
with a copy: 0.51, 0.58, 0.83, 0.92, 1.08 of that with a loan.)"""
READY_FROM = 1 << 15
"""Bytes from which a message of ZeroMQ's that exists already is cheaper than a copy."""

_NOBLOCK = int(zmq.NOBLOCK)
_MORE = _NOBLOCK | int(zmq.SNDMORE)


class Loans:
    """The messages of ZeroMQ's that exist already. Not thread-safe: it belongs to the loop."""

    def __init__(self) -> None:
        self._lent: dict[int, Array] = {}
        self._frames: dict[tuple[int, int], zmq.Frame] = {}

    def lend(self, block: Array) -> None:
        """Slices of this array, or of what it is a slice of, will be sent again and again."""
        while isinstance(block.base, np.ndarray):  # slices know the first array, not their parent
            block = block.base
        self._lent[id(block)] = block

    def send(self, link: "zmq.Socket[bytes]", frames: Sequence[Frame]) -> None:
        """Hand over a message, or what is left of one. Raises `zmq.ZMQError` as its socket does."""
        last = len(frames) - 1
        for index, frame in enumerate(frames):
            flags, size = _NOBLOCK if index == last else _MORE, len(frame)
            if size < READY_FROM:
                link.send(frame, flags)
            elif (ready := self._ready(frame)) is not None:
                link.send(ready, flags, copy=False)
            else:
                link.send(frame, flags, copy=size < COPY_BELOW)

    def _ready(self, frame: Frame) -> zmq.Frame | None:
        """The message of ZeroMQ's that these bytes came in, or that was made for lent memory."""
        owner: object = frame.obj if isinstance(frame, memoryview) else None
        if isinstance(owner, zmq.Frame):
            return owner if len(owner) == len(frame) else None
        if not isinstance(owner, np.ndarray) or id(owner.base) not in self._lent:
            return None
        place = (owner.__array_interface__["data"][0], len(frame))
        ready = self._frames.get(place)
        if ready is None:
            ready = self._frames[place] = zmq.Frame(frame, copy=False)
        return ready

    def clear(self) -> None:
        """Give all memory back."""
        self._lent.clear()
        self._frames.clear()
