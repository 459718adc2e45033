"""An evaluation's snapshot and test split, gathered piece by piece."""

import numpy as np

from dualshard.common.messages import Envelope, Evaluate, Form, Portion
from dualshard.common.sharding import Shards
from dualshard.worker import evaluation as evaluating  # pytest would take HeldOut for a test
from dualshard.worker.evaluation import AT_ONCE, Evaluation

SHARDS = Shards(size=10 * 11 + 4, shard_elements=10)


def evaluation(shards: Shards = SHARDS) -> Evaluation:
    return Evaluation(b"boss", Envelope(1, Form.REQUEST, 1, 1, Evaluate(3)), shards)


def part(number: int, last: bool = False) -> Portion:
    labels = np.full(2, number, np.int64)
    return Portion(0, number, last, np.zeros((2, 1), np.float32), labels)


def test_a_few_shards_at_a_time_until_all_are_here() -> None:
    snapshot, wanted = evaluation(), np.arange(SHARDS.size, dtype=np.float32)
    waiting, order = snapshot.next(), []
    assert waiting == list(range(AT_ONCE))
    while waiting:
        assert not snapshot.complete
        shard = waiting.pop()
        order.append(shard)
        begin, end = SHARDS.span(shard)
        snapshot.add(shard, wanted[begin:end])
        waiting += snapshot.next()
        assert len(waiting) <= AT_ONCE
    assert snapshot.complete
    assert sorted(order) == list(range(12))
    np.testing.assert_array_equal(snapshot.vector, wanted)
    assert snapshot.vector.dtype == np.float32


def test_repeats_strangers_and_wrong_sizes_are_ignored() -> None:
    snapshot = evaluation(Shards(size=20, shard_elements=10))
    assert snapshot.next() == [0, 1]
    snapshot.add(0, np.ones(10, np.float32))
    snapshot.add(0, np.full(10, 9, np.float32))
    snapshot.add(1, np.ones(9, np.float32))
    assert not snapshot.complete
    snapshot.add(1, np.full(10, 2, np.float32))
    assert snapshot.complete
    np.testing.assert_array_equal(snapshot.vector, np.repeat([1, 2], 10))


def test_the_test_split_takes_its_portions_in_order_and_once() -> None:
    split = evaluating.HeldOut()
    for portion in (part(1), part(0), part(0), part(2), part(1), part(2, last=True), part(3)):
        split.add(portion)
    assert split.complete
    assert [int(labels[0]) for _, labels in split.portions] == [0, 1, 2]


def test_a_split_of_one_portion() -> None:
    split = evaluating.HeldOut()
    assert not split.complete
    split.add(part(0, last=True))
    assert split.complete
