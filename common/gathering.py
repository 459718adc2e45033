"""Collecting all parameters from the servers, a few shards at a time. Pure.

The controller gathers the final model so, and a worker the snapshot that it evaluates.
"""

import numpy as np

from .sharding import Shards
from .types import Float32

AT_ONCE = 8
"""Shards asked for and not yet received."""


class Gathering:
    """The flat vector as it comes in, and which shards are still wanted."""

    def __init__(self, shards: Shards) -> None:
        self.vector: Float32 = np.zeros(shards.size, np.float32)
        self._shards = shards
        self._wanted = list(range(shards.count))[::-1]
        self._asked: set[int] = set()

    def next(self) -> list[int]:
        """Shards to ask for now."""
        asked = []
        while self._wanted and len(self._asked) < AT_ONCE:
            asked.append(self._wanted.pop())
            self._asked.add(asked[-1])
        return asked

    def add(self, shard: int, values: Float32) -> None:
        """A shard has come."""
        begin, end = self._shards.span(shard)
        if shard in self._asked and values.shape == (end - begin,):
            self._asked.remove(shard)
            self.vector[begin:end] = values

    @property
    def complete(self) -> bool:
        """Every shard is there."""
        return not self._wanted and not self._asked
