"""The shards of one server: pushes, staleness, and what is refused."""

import numpy as np
import pytest

from dualshard.common.job import OptimizerSection
from dualshard.common.rates import Segment
from dualshard.common.rules import make_rule
from dualshard.common.schedules import make_schedule
from dualshard.common.types import Array
from dualshard.paramserver.consistency import Free
from dualshard.paramserver.store import BadPush, ShardPush, ShardStore
from dualshard.paramserver.updates import AtOnce, Part

SEGMENTS = (Segment(0, 2, decays=True), Segment(2, 3))


WHO = (7, 0)


def make(section: OptimizerSection, kappa: float = 0.0, planned: int = 1) -> ShardStore:
    """A store of mode async, with these participants."""
    rule = make_rule(section)
    made = ShardStore(rule, AtOnce(rule, make_schedule(section).factor, kappa), Free)
    made.update.planned = planned
    made.crowd.see([WHO], training=False)
    return made


def push(shards: ShardStore, shard: int, version: int, count: int, values: Array) -> int:
    """What the server does with a push in mode async; returns its staleness."""
    shards.check(WHO, ShardPush(shard, version, Part(values, count)))
    part = ShardPush(shard, version, Part(values, count))
    (outcome,) = shards.push(WHO, [part])
    assert outcome.values is None
    if not outcome.finite:
        shards.settle(shard)
        raise BadPush("nonfinite", f"the push of shard {shard} holds NaN or infinity")
    staleness = outcome.staleness
    assert shards.settle(shard) == [WHO]
    return staleness


def store(
    rule: str = "sgd", lr: float = 0.5, kappa: float = 0.0, weight_decay: float = 0.0
) -> ShardStore:
    section = OptimizerSection(rule=rule, lr=lr, weight_decay=weight_decay, schedule="constant")
    made = make(section, kappa)
    made.start(4, np.array([1, 2, 3], np.float32), SEGMENTS)
    return made


def gradient(*values: float) -> Array:
    return np.array(values, np.float32)


def test_a_push_steps_by_the_rule_and_counts() -> None:
    shards = store()
    assert push(shards, 4, 0, 1, gradient(2, 0, -2)) == 0
    np.testing.assert_array_equal(shards.shards[4].values, [0, 2, 4])
    assert shards.shards[4].version == 1
    assert shards.shards[4].values.dtype == np.float32


def test_the_first_values_count_and_are_kept() -> None:
    shards, first = make(OptimizerSection(rule="sgd")), np.zeros(3, np.float32)
    shards.start(4, first, ())
    shards.start(4, np.full(3, 9, np.float32), ())
    assert shards.shards[4].values is first, "the server hands over memory that is its own"
    np.testing.assert_array_equal(first, [0, 0, 0])
    assert shards.shards[4].version == 0


def test_a_mean_of_several_minibatches_moves_as_far_as_all_of_them() -> None:
    shards = store()
    push(shards, 4, 0, 4, gradient(1, 1, 1))
    np.testing.assert_array_equal(shards.shards[4].values, [-1, 0, 1])
    assert shards.shards[4].version == 1


def test_weight_decay_applies_to_its_spans_alone() -> None:
    shards = store(weight_decay=0.5)
    push(shards, 4, 0, 1, gradient(0, 0, 0))
    np.testing.assert_array_equal(shards.shards[4].values, [0.75, 1.5, 3])


def test_shards_keep_their_own_state() -> None:
    """Two shards under rmsprop, one pushed often: equal to two stores of one shard each."""
    both = store("rmsprop")
    both.start(5, np.array([1, 2, 3], np.float32), SEGMENTS)
    alone = store("rmsprop")
    for version in range(5):
        push(both, 5, version, 1, gradient(1, -2, 0.5))
    push(both, 4, 0, 1, gradient(3, 1, -1))
    push(alone, 4, 0, 1, gradient(3, 1, -1))
    np.testing.assert_array_equal(both.shards[4].values, alone.shards[4].values)


@pytest.mark.parametrize(
    ("version", "count", "values", "code", "detail"),
    [
        (0, 1, (1, 2), "shape", "shard 4 takes float32 (3,), the push holds (2,)"),
        (0, 1, (1, np.nan, 2), "nonfinite", "the push of shard 4 holds NaN or infinity"),
        (0, 1, (1, 2, np.inf), "nonfinite", "the push of shard 4 holds NaN or infinity"),
        (
            1,
            1,
            (1, 2, 3),
            "version",
            "shard 4 is at version 0; the push names version 1 and 1 minibatches",
        ),
        (
            -1,
            1,
            (1, 2, 3),
            "version",
            "shard 4 is at version 0; the push names version -1 and 1 minibatches",
        ),
        (
            0,
            0,
            (1, 2, 3),
            "version",
            "shard 4 is at version 0; the push names version 0 and 0 minibatches",
        ),
    ],
)
def test_a_bad_push_is_refused_and_changes_nothing(
    version: int, count: int, values: tuple[float, ...], code: str, detail: str
) -> None:
    shards = store("rmsprop")
    with pytest.raises(BadPush) as refused:
        push(shards, 4, version, count, gradient(*values))
    assert refused.value.code == code
    assert str(refused.value) == detail
    held = shards.shards[4]
    np.testing.assert_array_equal(held.values, [1, 2, 3])
    assert held.version == held.state.steps == 0


def test_the_schedule_follows_the_minibatches_of_the_shard() -> None:
    shards = make(OptimizerSection(rule="sgd", lr=1.0, schedule="linear"), planned=10)
    shards.start(0, np.zeros(1, np.float32), ())
    steps = []
    for version, count in enumerate((1, 4, 5, 1)):
        before = float(shards.shards[0].values[0])
        push(shards, 0, version, count, gradient(-1))
        steps.append((float(shards.shards[0].values[0]) - before) / count)
    # 0, 1, 5 and 10 of ten minibatches applied before: 1 - 0.99 progress.
    np.testing.assert_allclose(steps, [1.0, 0.901, 0.505, 0.01], atol=1e-6)


def test_bytes_held_count_the_optimizer_too() -> None:
    assert store("sgd").bytes_held == 12
    assert store("rmsprop").bytes_held == 24
