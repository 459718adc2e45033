"""Frames of ZeroMQ's that are filled and sent again and again: sealing writes every byte of an
array anew, and into warm memory that costs half of what fresh memory, or a copy of ZeroMQ's, does.

A frame that was sent belongs to ZeroMQ until the other end has acknowledged it. Should one be
filled too early after all (a connection that was given up may still be sending), what it carried
does not open at the other end, and is repeated: no secret hangs on it.
"""

from collections import OrderedDict

import zmq

LIMIT = 64 << 20
"""Bytes of all frames of a pool."""
SIZES = 32
"""Sizes of frames that are remembered: shards have few, compressed gradients one each."""


class Pool:
    """Frames by size. Not thread-safe."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit, self._bytes = limit, 0
        self._free: OrderedDict[int, list[zmq.Frame]] = OrderedDict()

    def take(self, template: memoryview) -> zmq.Frame | None:
        """A frame as long as `template`, of any content; None for a size that has not been asked
        for lately, or if all memory is under way."""
        size = len(template)
        free = self._free.get(size)
        if free is None:
            self._free[size] = []
            if len(self._free) > SIZES:
                self._lose_all(self._free.popitem(last=False)[1])
            return None
        if free:
            return free.pop()
        if self._bytes + size > self._limit:
            for others in self._free.values():
                self._lose_all(others)
            if self._bytes + size > self._limit:
                return None
        self._bytes += size
        return zmq.Frame(template, copy=True)

    def give(self, frame: zmq.Frame) -> None:
        """The other end has it: it can be filled again."""
        free = self._free.get(len(frame))
        if free is None:
            self.lose(frame)
        else:
            free.append(frame)

    def lose(self, frame: zmq.Frame) -> None:
        """Nobody will say when it can be: ZeroMQ frees its memory when it has done with it."""
        self._bytes -= len(frame)

    def _lose_all(self, frames: list[zmq.Frame]) -> None:
        for frame in frames:
            self.lose(frame)
        frames.clear()
