"""What the memory itself allows: two threads copy a model's gradient there and its parameters back.

Nothing is applied and nothing is told to anybody; each byte is counted once a copy, as a push and a
pull count theirs.
"""

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np

from ..common.errors import RoleError
from ..common.sharding import SHARD_ELEMENTS
from ..common.types import Float32

THREADS = 2


class Copies:
    """Both ends of the copies, and the threads. A context: when it is left, they have ended."""

    def __init__(self, elements: int) -> None:
        self._sources = [np.full(elements, 1.0, np.float32), np.full(elements, 2.0, np.float32)]
        self._targets = [np.zeros(elements, np.float32), np.zeros(elements, np.float32)]
        self._pool = ThreadPoolExecutor(THREADS)
        self.variants: dict[str, Callable[[float], float]] = {
            "np.copyto, 1 MiB at a time": lambda seconds: self._measure(_in_shards, seconds),
            "memmove, all at once": lambda seconds: self._measure(_at_once, seconds),
        }

    def __enter__(self) -> "Copies":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()

    def _measure(self, copy: Callable[[Float32, Float32], None], seconds: float) -> float:
        """GB/s of both directions for about `seconds`. Raises `RoleError` if a copy is wrong."""
        size = self._sources[0].size
        cuts = [size * number // THREADS for number in range(THREADS + 1)]

        def share(number: int) -> None:
            mine = slice(cuts[number], cuts[number + 1])
            for target, source in zip(self._targets, self._sources, strict=True):
                copy(target[mine], source[mine])

        passes = 0
        begin = perf_counter()
        while perf_counter() - begin < seconds:
            list(self._pool.map(share, range(THREADS)))
            passes += 1
        taken = perf_counter() - begin
        for target, source in zip(self._targets, self._sources, strict=True):
            if not np.array_equal(target, source):
                raise RoleError("a copy in memory is not what was copied")
            target[::SHARD_ELEMENTS] = 0
        return passes * 2 * 4 * size / taken / 1e9


def _in_shards(target: Float32, source: Float32) -> None:
    for begin in range(0, target.size, SHARD_ELEMENTS):
        np.copyto(target[begin : begin + SHARD_ELEMENTS], source[begin : begin + SHARD_ELEMENTS])


def _at_once(target: Float32, source: Float32) -> None:
    ctypes.memmove(target.ctypes.data, source.ctypes.data, target.nbytes)
