"""A copy of shards as they were at one moment, made while they change. Pure.

All shards are marked at once; a marked shard is copied when the writer asks for it, or just before
the first change that comes sooner (copy on first write). So a change waits for the copy of one
shard at most, and no more memory is held than one more copy of what changed meanwhile.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..common.types import Float32

Copy = TypeVar("Copy")


@dataclass(frozen=True, slots=True)
class ShardCopy:
    """One shard and all that is remembered about it: float32 (n,) values and slots of its update
    rule, after `version` pushes of `minibatches` minibatches and `steps` steps of the rule."""

    shard: int
    values: Float32
    slots: dict[str, Float32]
    version: int
    minibatches: int
    steps: int


class CopyOnWrite(Generic[Copy]):
    """Which shards are still to be copied, and the copies that wait for the writer.

    Not thread-safe: it belongs to the loop that changes the shards.

    Arguments:
        copy: makes a copy of a shard as it is now.
    """

    def __init__(self, copy: Callable[[int], Copy]) -> None:
        self._copy = copy
        self._order: deque[int] = deque()
        self._marked: set[int] = set()
        self._early: dict[int, Copy] = {}

    def begin(self, shards: Iterable[int]) -> None:
        """Mark these shards: what `next` hands out is how they are at this moment."""
        assert self.done
        self._order.extend(sorted(shards))
        self._marked.update(self._order)

    def before_change(self, shard: int) -> None:
        """A shard is about to change; call it before each change."""
        if shard in self._marked:
            self._marked.remove(shard)
            self._early[shard] = self._copy(shard)

    def next(self) -> Copy | None:
        """The next copy, in the order of the shards' numbers; None once all are handed out."""
        if not self._order:
            return None
        shard = self._order.popleft()
        if shard in self._marked:
            self._marked.remove(shard)
            return self._copy(shard)
        return self._early.pop(shard)

    def cancel(self) -> None:
        """Forget what was not handed out."""
        self._order.clear()
        self._marked.clear()
        self._early.clear()

    @property
    def done(self) -> bool:
        """Nothing is marked and no copy waits."""
        return not self._order

    @property
    def waiting(self) -> int:
        """Copies that were made before the writer asked for them."""
        return len(self._early)
