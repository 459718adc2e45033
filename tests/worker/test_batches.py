"""Portions cut into minibatches, and when a portion is finished."""

import numpy as np
import pytest

from dualshard.common.errors import RemoteError
from dualshard.common.messages import Portion
from dualshard.worker.batches import Minibatch, Ring

HERE, THERE = "tcp://here:1", "tcp://there:2"


def portion(number: int, samples: int, leg: int = 0) -> Portion:
    inputs = np.arange(2 * samples, dtype=np.float32).reshape(samples, 2)
    return Portion(leg, number, False, inputs, np.arange(samples, dtype=np.int64))


def taken(ring: Ring) -> list[Minibatch]:
    batches = []
    while (batch := ring.take()) is not None:
        batches.append(batch)
    return batches


@pytest.mark.parametrize(
    ("samples", "sizes"), [(1, [1]), (4, [4]), (5, [4, 1]), (12, [4, 4, 4]), (0, [])]
)
def test_a_portion_is_cut_without_losing_a_sample(samples: int, sizes: list[int]) -> None:
    ring, whole = Ring(4), portion(0, samples)
    ring.add(HERE, whole)
    batches = taken(ring)
    assert [len(batch.labels) for batch in batches] == sizes
    if batches:
        np.testing.assert_array_equal(np.concatenate([b.inputs for b in batches]), whole.inputs)
        np.testing.assert_array_equal(np.concatenate([b.labels for b in batches]), whole.labels)
    assert all(np.shares_memory(batch.inputs, whole.inputs) for batch in batches)


def test_minibatches_come_in_order_of_arrival() -> None:
    ring = Ring(4)
    ring.add(HERE, portion(7, 5))
    ring.add(THERE, portion(3, 4))
    assert [batch.lease.portion.portion for batch in taken(ring)] == [7, 7, 3]
    assert ring.take() is None


def test_a_portion_is_finished_with_its_last_minibatch_in_any_order() -> None:
    ring = Ring(2)
    ring.add(HERE, portion(0, 6))
    ring.add(HERE, portion(1, 2))
    first, second, third, other = taken(ring)
    assert ring.applied(third) is None
    assert ring.applied(first) is None
    finished = ring.applied(other)
    assert finished is not None
    assert finished.portion.portion == 1
    assert (ring.untaken_from(HERE), ring.held) == (0, 1)
    finished = ring.applied(second)
    assert finished is not None
    assert finished.portion.portion == 0
    assert ring.held == 0


def test_untaken_counts_each_source_by_itself_until_the_last_minibatch_is_taken() -> None:
    ring = Ring(4)
    ring.add(HERE, portion(0, 8))
    ring.add(THERE, portion(1, 4))
    ring.add(THERE, portion(2, 4))
    counts = []
    for _ in range(5):
        counts.append((ring.untaken_from(HERE), ring.untaken_from(THERE), ring.held))
        ring.take()
    assert counts == [(1, 2, 3), (1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 0, 3)]


def test_an_empty_portion_holds_nothing() -> None:
    ring = Ring(4)
    ring.add(HERE, portion(0, 0))
    assert ring.held == 0
    assert ring.take() is None


def test_old_legs_are_dropped_and_what_still_computes_is_no_goodbye() -> None:
    ring = Ring(4)
    ring.add(HERE, portion(0, 8, leg=0))
    ring.add(HERE, portion(1, 4, leg=1))
    computing = ring.take()
    assert computing is not None
    assert ring.drop_before(1) == 1
    (left,) = taken(ring)
    assert (left.lease.portion.leg, left.lease.portion.portion) == (1, 1)
    assert ring.applied(computing) is None
    assert ring.held == 1
    assert ring.drop_before(1) == 0


def bare(number: int, samples: int, minibatches: list[int] | None = None) -> Portion:
    """A portion whose labels stayed where they are."""
    inputs = np.arange(2 * samples, dtype=np.float32).reshape(samples, 2)
    labels = np.empty(0, np.int64)
    return Portion(0, number, False, inputs, labels, minibatches=minibatches or [])


@pytest.mark.parametrize(
    ("samples", "sizes"), [(1, [1]), (4, [4]), (5, [4, 1]), (12, [4, 4, 4]), (0, [])]
)
def test_without_labels_the_inputs_are_cut(samples: int, sizes: list[int]) -> None:
    ring, whole = Ring(4), bare(0, samples)
    ring.add(HERE, whole)
    batches = taken(ring)
    assert [len(batch.inputs) for batch in batches] == sizes
    assert [batch.labels.shape for batch in batches] == [(0,)] * len(sizes)
    if batches:
        np.testing.assert_array_equal(np.concatenate([b.inputs for b in batches]), whole.inputs)
    finished = [ring.applied(batch) for batch in batches]
    assert [lease is not None for lease in finished] == [False] * (len(sizes) - 1) + [True] * bool(
        sizes
    )
    assert ring.held == 0


def test_soft_labels_are_cut_with_their_inputs() -> None:
    rows = np.eye(6, 3, dtype=np.float32)
    ring = Ring(4)
    ring.add(HERE, Portion(0, 0, False, np.zeros((6, 2), np.float32), rows))
    first, second = taken(ring)
    np.testing.assert_array_equal(np.concatenate([first.labels, second.labels]), rows)


@pytest.mark.parametrize("labels", [1, 7, 9, 16])
def test_labels_are_none_or_as_many_as_the_inputs(labels: int) -> None:
    ring = Ring(4)
    inputs = np.zeros((8, 2), np.float32)
    with pytest.raises(RemoteError) as caught:
        ring.add(HERE, Portion(0, 0, False, inputs, np.zeros(labels, np.int64)))
    assert str(caught.value) == f"{labels} labels of the 8 samples of a portion"
    assert (ring.held, len(ring)) == (0, 0)


def test_numbers_of_minibatches_are_as_many_as_there_are() -> None:
    ring = Ring(4)
    with pytest.raises(RemoteError) as caught:
        ring.add(HERE, bare(0, 9, [0, 1]))
    assert str(caught.value) == "2 numbers of the 3 minibatches of a portion"
    assert ring.held == 0


def test_whole_portions_are_taken_in_order_of_arrival() -> None:
    ring = Ring(4)
    ring.add(HERE, bare(7, 10))
    ring.add(THERE, portion(3, 4))
    first = ring.take_portion()
    assert [(one.key[1], one.number, len(one.inputs)) for one in first] == [
        (7, 0, 4),
        (7, 1, 4),
        (7, 2, 2),
    ]
    assert (ring.untaken_from(HERE), ring.held_from(HERE), len(ring)) == (0, 1, 1)
    assert [one.key[1] for one in ring.take_portion()] == [3]
    assert ring.take_portion() == []
    assert [ring.applied(batch) is not None for batch in first] == [False, False, True]


@pytest.mark.parametrize(
    ("left", "runs"),
    [([2, 3], [[2, 3]]), ([0, 2, 3], [[0], [2, 3]]), ([4], [[4]]), ([1, 3, 5], [[1], [3], [5]])],
)
def test_what_is_left_of_a_portion_is_taken_in_rows_without_gaps(
    left: list[int], runs: list[list[int]]
) -> None:
    ring = Ring(4)
    ring.add(HERE, bare(0, 4 * len(left), left))
    ring.add(HERE, bare(1, 4))
    found = [ring.take_portion() for _ in runs]
    assert [[one.number for one in run] for run in found] == runs
    assert [one.key[1] for one in ring.take_portion()] == [1]
    batches = [batch for run in found for batch in run]
    finished = [ring.applied(batch) for batch in batches]
    assert [lease is not None for lease in finished] == [False] * (len(left) - 1) + [True]


def test_a_portion_of_an_old_leg_is_not_taken() -> None:
    ring = Ring(4)
    ring.add(HERE, portion(0, 8, leg=0))
    ring.add(HERE, portion(1, 8, leg=1))
    assert ring.drop_before(1) == 1
    assert [one.key for one in ring.take_portion()] == [(1, 1, 0), (1, 1, 1)]


def test_where_the_order_is_fixed_a_portion_waits_for_those_before_it() -> None:
    ring = Ring(4, ordered=True)
    ring.add(THERE, portion(3, 8))
    assert ring.take_portion({HERE, THERE}) == [], "from here an earlier one may come"
    ring.add(HERE, portion(2, 8))
    ring.add(HERE, portion(4, 4))
    found = [ring.take_portion({HERE}), ring.take_portion(), ring.take_portion()]
    assert [[one.key[1:] for one in run] for run in found] == [
        [(2, 0), (2, 1)],
        [(3, 0), (3, 1)],
        [(4, 0)],
    ]
