"""A device of NumPy for tests, whose copies are done as late as CUDA allows.

A download reaches the host when someone waits for a mark of its stream, and until then the source
of an upload must stay as it is: whoever reads or overwrites too early is found out.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
from numpy.typing import NDArray

from dualshard.common.types import Array
from dualshard.worker.device import Device, Mark, Stream


class HostMark(Mark):
    def __init__(self, stream: "HostStream") -> None:
        self.stream, self.reach = stream, stream.given

    def wait(self) -> None:
        self.stream.run(self.reach)


class HostStream(Stream):
    """`copies` lists what was copied, `up` or `down`, and how many bytes, when it was done."""

    def __init__(self) -> None:
        self.copies: list[tuple[str, int]] = []
        self.given = 0
        self._done = 0
        self._waiting: deque[Callable[[], None]] = deque()

    def current(self) -> AbstractContextManager[None]:
        return self._current()

    @contextmanager
    def _current(self) -> Iterator[None]:
        yield

    def upload(self, source: Array, target: Array) -> None:
        self._give(source, target, "up")

    def download(self, source: Array, target: Array) -> None:
        self._give(source, target, "down")

    def _give(self, source: Array, target: Array, way: str) -> None:
        assert source.dtype == target.dtype
        assert source.shape == target.shape
        assert source.flags.c_contiguous
        assert target.flags.c_contiguous
        seen = source.copy()

        def copy() -> None:
            if way == "up":
                assert source.tobytes() == seen.tobytes(), "overwritten while it was being copied"
            else:
                np.copyto(target, seen)
            self.copies.append((way, target.nbytes))

        if way == "up":
            np.copyto(target, seen)
        self.given += 1
        self._waiting.append(copy)

    def run(self, reach: int) -> None:
        """Do what was given up to a point."""
        while self._done < reach:
            self._done += 1
            self._waiting.popleft()()

    def mark(self) -> HostMark:
        return HostMark(self)

    def after(self, mark: Mark) -> None:
        mark.wait()


class HostDevice(Device):
    def __init__(self) -> None:
        self.name, self.xp = "cuda:0", np
        self.streams: list[HostStream] = []
        self.pinned_arrays: list[Array] = []

    def stream(self) -> HostStream:
        self.streams.append(HostStream())
        return self.streams[-1]

    def pinned(self, size: int) -> NDArray[np.uint8]:
        return np.zeros(size, np.uint8)

    def pin(self, array: Array) -> bool:
        self.pinned_arrays.append(array)
        return True
