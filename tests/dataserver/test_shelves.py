"""Writing portions to the memory of workers."""

import os

import numpy as np
import pytest

from dualshard.common.errors import RemoteError
from dualshard.common.messages import Shelf
from dualshard.common.segment import Segment, place
from dualshard.dataserver.sharing import map_shelf
from dualshard.dataserver.shelves import Shelves

OFFER = Shelf("", 0, 0, 2, 32)
IMAGES = np.arange(12, dtype=np.uint8).reshape(3, 4)


def make() -> tuple[Shelves, np.ndarray]:
    memory = np.zeros((2, 8), np.float32)
    shelves = Shelves(lambda offered: memory)
    shelves.attach(7, OFFER)
    return shelves, memory


def test_a_portion_lies_in_the_slot_that_was_named() -> None:
    shelves, memory = make()
    shelves.name(7, 1, 30)
    assert shelves.write(7, 30, 1, IMAGES)
    np.testing.assert_array_equal(memory[1].view(np.uint8)[:12], IMAGES.ravel())
    assert not memory[0].any()


@pytest.mark.parametrize(
    ("source", "slot", "inputs"),
    [
        (8, 1, IMAGES),
        (7, -1, IMAGES),
        (7, 2, IMAGES),
        (7, 1, np.zeros((3, 3), np.float32)),
    ],
)
def test_what_has_no_room_goes_another_way(source: int, slot: int, inputs: np.ndarray) -> None:
    shelves, memory = make()
    assert not shelves.write(source, 30, slot, inputs)
    assert not memory.any()


def test_a_slot_that_was_named_later_is_closed_to_older_requests() -> None:
    shelves, memory = make()
    shelves.name(7, 1, 30)
    shelves.name(7, 1, 33)
    shelves.name(7, 1, 30)  # it came once more, late
    with pytest.raises(RemoteError, match="slot 1 has been named by a later request"):
        shelves.write(7, 30, 1, IMAGES)
    assert not memory.any()
    assert shelves.write(7, 33, 1, IMAGES)


def test_shelves_of_the_gone_are_forgotten() -> None:
    shelves, _ = make()
    shelves.keep_only({8})
    assert not shelves.write(7, 30, 1, IMAGES)


def test_without_memory_there_is_no_shelf() -> None:
    with pytest.raises(RemoteError, match="this server shares no memory"):
        Shelves().attach(7, OFFER)


def test_memory_of_this_host_is_mapped() -> None:
    ours = Segment.create(12)
    try:
        rows = map_shelf(Shelf(place(), os.getpid(), ours.descriptor, 3, 16))
        rows[2, 3] = 5
        assert ours.array[11] == 5
        with pytest.raises(RemoteError, match="the worker runs on another host"):
            map_shelf(Shelf("elsewhere", os.getpid(), ours.descriptor, 3, 16))
        with pytest.raises(RemoteError, match="3 slots of 15 bytes is no shelf"):
            map_shelf(Shelf(place(), os.getpid(), ours.descriptor, 3, 15))
        with pytest.raises(RemoteError, match="shared memory of process"):
            map_shelf(Shelf(place(), os.getpid(), ours.descriptor, 4, 16))
    finally:
        os.close(ours.descriptor)


def test_a_slot_that_is_not_there_is_not_remembered() -> None:
    shelves, _ = make()
    for slot in (-1, 2, 10**9):
        shelves.name(7, slot, 30)
    shelves.name(8, 0, 30)
    assert shelves._named == {}
