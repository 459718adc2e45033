"""Shards of a job from a checkpoint that was cut otherwise: another number of parts, or other cuts.

A shard that is put together from several has the highest of their counts: its rule has made as many
steps as the part of it that has made most.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection

import numpy as np

from ..common.sharding import Shards
from .checkpoint import Checkpoint, read_shards
from .snapshots import ShardCopy


def read_cut(
    checkpoint: Checkpoint, shards: Shards, wanted: Collection[int], key: str
) -> list[ShardCopy]:
    """These shards of a job that cuts its parameters as `shards` says. At most one shard of the
    checkpoint is in memory beside them.

    Raises:
        UserError: a file that is needed is damaged or gone.
    """
    saved = checkpoint.manifest.shards
    assert saved.size == shards.size
    if _borders(saved) == _borders(shards):
        return list(read_shards(checkpoint, wanted, key))
    order = sorted(wanted)
    spans = [shards.span(shard) for shard in order]
    found = [_empty(*both, checkpoint) for both in zip(order, spans, strict=True)]
    begins = [begin for begin, _ in spans]

    def touching(begin: int, end: int) -> range:
        """Which of the wanted shards, in order, have some of the elements [begin, end)."""
        first = bisect_right(begins, begin)
        if first and spans[first - 1][1] > begin:
            first -= 1
        return range(first, bisect_left(begins, end))

    touched = {old: touching(*saved.span(old)) for old in range(saved.count)}
    for copy in read_shards(checkpoint, {old for old, some in touched.items() if some}, key):
        for index in touched[copy.shard]:
            found[index] = _with(found[index], spans[index], copy, saved.span(copy.shard))
    return found


def _borders(shards: Shards) -> tuple[int, tuple[int, ...]]:
    """All that a shard's span depends on."""
    return shards.shard_elements, shards.starts or (0,)


def _empty(shard: int, span: tuple[int, int], checkpoint: Checkpoint) -> ShardCopy:
    elements = span[1] - span[0]
    slots = {name: np.zeros(elements, np.float32) for name in checkpoint.manifest.slots}
    return ShardCopy(shard, np.zeros(elements, np.float32), slots, 0, 0, 0)


def _with(
    copy: ShardCopy, span: tuple[int, int], old: ShardCopy, old_span: tuple[int, int]
) -> ShardCopy:
    """A shard with what an old one has of it."""
    begin, end = max(span[0], old_span[0]), min(span[1], old_span[1])
    here = slice(begin - span[0], end - span[0])
    there = slice(begin - old_span[0], end - old_span[0])
    copy.values[here] = old.values[there]
    for name, slot in copy.slots.items():
        slot[here] = old.slots[name][there]
    return ShardCopy(
        copy.shard,
        copy.values,
        copy.slots,
        max(copy.version, old.version),
        max(copy.minibatches, old.minibatches),
        max(copy.steps, old.steps),
    )
