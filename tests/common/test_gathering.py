"""Collecting the final model."""

import numpy as np

from dualshard.common.gathering import AT_ONCE, Gathering
from dualshard.common.sharding import Shards


def test_a_few_shards_at_a_time_in_order_and_the_tail_too() -> None:
    shards = Shards(size=10 * 19 + 3, shard_elements=10)
    wanted = np.arange(shards.size, dtype=np.float32)
    gathering = Gathering(shards)
    waiting = gathering.next()
    assert waiting == list(range(AT_ONCE))
    assert gathering.next() == []
    while waiting:
        shard = waiting.pop(len(waiting) // 2)
        assert not gathering.complete
        begin, end = shards.span(shard)
        gathering.add(shard, wanted[begin:end])
        waiting += gathering.next()
        assert len(waiting) <= AT_ONCE
    assert gathering.complete
    np.testing.assert_array_equal(gathering.vector, wanted)
    assert gathering.vector.dtype == np.float32


def test_what_was_not_asked_for_is_ignored() -> None:
    shards = Shards(size=25, shard_elements=10)
    gathering = Gathering(shards)
    assert gathering.next() == [0, 1, 2]
    gathering.add(1, np.ones(10, np.float32))
    gathering.add(1, np.full(10, 7, np.float32))
    gathering.add(0, np.ones(9, np.float32))
    gathering.add(2, np.ones(10, np.float32))
    np.testing.assert_array_equal(gathering.vector, np.repeat([0, 1, 0], [10, 10, 5]))
    assert not gathering.complete
    gathering.add(0, np.ones(10, np.float32))
    gathering.add(2, np.ones(5, np.float32))
    assert gathering.complete


def test_no_parameters_are_complete_at_once() -> None:
    assert Gathering(Shards(size=0)).complete
