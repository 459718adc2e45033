"""One evaluation: a snapshot of the servers' shards and the test split, gathered a few at a time.

Pure. Training goes on beside it; the snapshot is the worker's own second vector.
"""

from dataclasses import dataclass, field

import numpy as np

from ..common.delivery import Peer
from ..common.messages import Envelope, Portion
from ..common.sharding import Shards
from ..common.types import Arrays, Float32

AT_ONCE = 4
"""Shards asked for and not yet received."""


@dataclass(slots=True)
class HeldOut:
    """The test split as it comes in, portion by portion; kept for the whole run."""

    portions: list[Arrays] = field(default_factory=list)
    complete: bool = False

    def add(self, portion: Portion) -> None:
        """The next portion, in order."""
        if portion.portion == len(self.portions) and not self.complete:
            self.portions.append((portion.inputs, portion.labels))
            self.complete = portion.last


class Evaluation:
    """The snapshot for one `Evaluate` request."""

    def __init__(self, peer: Peer, request: Envelope, shards: Shards) -> None:
        self.peer, self.request = peer, request
        self.vector: Float32 = np.empty(shards.size, np.float32)
        self.running = False
        self._shards = shards
        self._wanted = list(range(shards.count))[::-1]
        self._asked: set[int] = set()

    def next(self) -> list[int]:
        """Shards to ask for now."""
        fresh = []
        while self._wanted and len(self._asked) < AT_ONCE:
            fresh.append(self._wanted.pop())
            self._asked.add(fresh[-1])
        return fresh

    def add(self, shard: int, values: Float32) -> None:
        """A shard has come."""
        begin, end = self._shards.span(shard)
        if shard in self._asked and values.shape == (end - begin,):
            self._asked.remove(shard)
            self.vector[begin:end] = values

    @property
    def complete(self) -> bool:
        """Every shard is here."""
        return not self._wanted and not self._asked
