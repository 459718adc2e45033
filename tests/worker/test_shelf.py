"""Slots of the data lane: who has which, and what a server may claim to have written."""

import numpy as np
import pytest

from dualshard.common import modes
from dualshard.common.cluster import DataShape
from dualshard.common.errors import RemoteError
from dualshard.common.job import Job
from dualshard.common.messages import Portion, Shelf, Shelved
from dualshard.worker.batches import Ring
from dualshard.worker.shelf import Slots, room

LABELS = np.arange(4, dtype=np.int64)


def make_slots(count: int = 3, elements: int = 8) -> Slots:
    memory = np.zeros((count, elements), np.float32)
    return Slots(memory, Shelf("here", 1, 0, count, 4 * elements))


def test_each_slot_is_given_once_until_it_is_free_again() -> None:
    slots = make_slots()
    taken = {slots.take() for _ in range(3)}
    assert taken == {0, 1, 2}
    assert slots.take() == -1
    slots.free(1)
    assert slots.take() == 1
    slots.free(-1)
    assert slots.take() == -1


def test_room_is_for_the_largest_portion_what_is_taken_and_a_lost_server() -> None:
    tables = {
        "data": {"batch_size": 5},
        "dataserver": {"count": 2, "portion": 3},
        "train": {"n_push": 6},
    }
    job = Job.from_dict({**tables, "worker": {"threads": 4}})
    lanes = modes.lanes(job)
    shape = DataShape(100, 10, 3, (4, 2), 15)  # three minibatches a portion
    assert room(job, shape, 2) == (6 + 2 * lanes, 15 * 8)
    assert room(job, DataShape(9, 10, 3, (4, 2), 15), 2) == (6 + 6 * lanes, 9 * 8)


@pytest.mark.parametrize(("wait", "under_way"), [(True, 1), (False, 3)])
def test_room_in_a_cut_net_is_for_what_is_under_way_and_not_told_yet(
    wait: bool, under_way: int
) -> None:
    tables = {
        "data": {"batch_size": 5},
        "train": {"mode": "admm", "n_push": 12},
        "admm": {"wait": wait, "ahead": 3, "macro_batch": 15},
    }
    job = Job.from_dict(tables)
    shape = DataShape(100, 10, 3, (4, 2), 15)
    # Three for two credits; two pushes of four portions each; and the boundary's.
    assert room(job, shape, 2) == (3 + 2 * 4 + under_way, 15 * 8)


@pytest.mark.parametrize(("dtype", "shape"), [("|u1", [4, 2, 4]), ("<f4", [4, 2]), ("|u1", [4])])
def test_a_portion_is_a_view_of_its_slot(dtype: str, shape: list[int]) -> None:
    slots = make_slots()
    written = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    slots.memory[1].view(dtype)[: written.size] = written.ravel()
    portion = slots.portion(Shelved(3, 7, True, 1, dtype, shape, LABELS), 1)
    assert (portion.leg, portion.portion, portion.last) == (3, 7, True)
    assert portion.inputs.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(portion.inputs, written)
    assert np.shares_memory(portion.inputs, slots.memory[1])
    assert portion.labels is LABELS


@pytest.mark.parametrize(
    ("slot", "dtype", "shape"),
    [
        (2, "<f4", [4, 2]),
        (1, "<f8", [4, 1]),
        (1, "<f4", [4, 3]),
        (1, "|u1", [-4, -2]),
        (1, "|u1", []),
    ],
)
def test_nonsense_is_refused(slot: int, dtype: str, shape: list[int]) -> None:
    with pytest.raises(RemoteError) as refused:
        make_slots().portion(Shelved(0, 0, False, slot, dtype, shape, LABELS), 1)
    assert str(refused.value) == (
        f"a portion of {dtype} {tuple(shape)} in slot {slot} of a shelf, expected slot 1, uint8 or "
        "float32, and at most 32 bytes"
    )


def portion(leg: int = 0) -> Portion:
    return Portion(leg, 0, False, np.zeros((5, 2), np.float32), np.zeros(5, np.int64))


def test_a_slot_is_done_with_when_the_last_minibatch_is() -> None:
    ring = Ring(2)
    ring.add("there", portion(), slot=4)
    batches = [ring.take() for _ in range(3)]
    for batch in batches:
        assert batch is not None
        assert ring.take_done_with() == []
        ring.applied(batch)
    assert ring.take_done_with() == [4]
    assert ring.take_done_with() == []


def test_a_dropped_portion_keeps_its_slot_while_a_lane_computes() -> None:
    ring = Ring(2)
    ring.add("there", portion(), slot=4)
    ring.add("there", portion(), slot=5)
    batch = ring.take()
    assert batch is not None
    ring.drop_before(1)
    assert ring.take_done_with() == [5]
    assert ring.applied(batch) is None
    assert ring.take_done_with() == [4]


def test_a_portion_without_samples_keeps_no_slot() -> None:
    ring = Ring(2)
    empty = Portion(0, -1, False, np.zeros((0, 2), np.float32), np.zeros(0, np.int64))
    ring.add("there", empty, slot=4)
    assert ring.take_done_with() == [4]
