"""Frames of ZeroMQ's that are filled and sent again and again: sealing writes every byte of an
array anew, and into warm memory that costs half of what fresh memory, or a copy of ZeroMQ's, does.

A frame that was sent belongs to ZeroMQ until the other end has acknowledged it. Should one be
filled too early after all (a connection that was given up may still be sending), what it carried
does not open at the other end, and is repeated: no secret hangs on it.
"""

from collections import OrderedDict, defaultdict, deque

import zmq

LIMIT = 64 << 20
"""Bytes of all frames of a pool."""
SIZES = 32
"""Sizes of frames that are remembered: shards have few, compressed gradients one each."""
WORTH = 1 << 15
"""Bytes below which a frame is not worth it."""


class Pool:
    """Frames by size, and those that are under way by lane. Not thread-safe."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit, self._bytes = limit, 0
        self._free: OrderedDict[int, list[zmq.Frame]] = OrderedDict()
        self._lent: defaultdict[bytes, deque[tuple[int, zmq.Frame]]] = defaultdict(deque)
        self._scratch = memoryview(bytearray(WORTH))

    def room(self, size: int) -> memoryview:
        """Memory for a sealed array: that of a frame, whose `obj` it is; for a small one, or where
        all frames are under way, always the same, of which ZeroMQ is to make a copy."""
        if size > len(self._scratch):
            self._scratch = memoryview(bytearray(size))
        room = self._scratch[:size]
        frame = self._take(room) if size >= WORTH else None
        return room if frame is None else frame.buffer

    def lend(self, lane: bytes, counter: int, frame: zmq.Frame) -> None:
        """A frame has been sent, in the message with this counter."""
        self._lent[lane].append((counter, frame))

    def take_back(self, lane: bytes, counter: int) -> None:
        """The other end has acknowledged all up to this counter."""
        lent = self._lent[lane]
        while lent and lent[0][0] <= counter:
            frame = lent.popleft()[1]
            if (free := self._free.get(len(frame))) is None:
                self._bytes -= len(frame)
            else:
                free.append(frame)

    def let_go(self, lane: bytes) -> None:
        """Nobody will acknowledge what was sent: ZeroMQ frees it when it has done with it."""
        for _, frame in self._lent.pop(lane, ()):
            self._bytes -= len(frame)

    def _take(self, template: memoryview) -> zmq.Frame | None:
        """A frame as long as `template`, of any content; None for a size that was not asked for
        lately, or if all memory is under way."""
        size = len(template)
        free = self._free.get(size)
        if free is None:
            self._free[size] = []
            if len(self._free) > SIZES:
                self._bytes -= sum(map(len, self._free.popitem(last=False)[1]))
            return None
        if free:
            return free.pop()
        if self._bytes + size > self._limit:
            for others in self._free.values():
                self._bytes -= sum(map(len, others))
                others.clear()
            if self._bytes + size > self._limit:
                return None
        self._bytes += size
        return zmq.Frame(template, copy=True)
