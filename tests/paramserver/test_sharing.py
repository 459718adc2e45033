"""The server's end of shared lanes: only what was attached, only within it."""

import os
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from dualshard.common.errors import RemoteError
from dualshard.common.messages import Attach
from dualshard.common.segment import Segment, place
from dualshard.common.types import Float32
from dualshard.paramserver.sharing import SharedLanes

SIZE = 10


@pytest.fixture
def offered() -> Iterator[tuple[Attach, Float32]]:
    segment = Segment.create(3 * SIZE)
    attach = Attach(place(), os.getpid(), segment.descriptor, 3, SIZE)
    yield attach, segment.array.reshape(3, SIZE)
    os.close(segment.descriptor)


def test_gradients_are_read_and_shards_delivered(offered: tuple[Attach, Float32]) -> None:
    attach, rows = offered
    lanes = SharedLanes()
    lanes.attach(7, attach)
    rows[2, 4:6] = 1, 2
    read = lanes.gradient(7, 1, 4, 6)
    assert read is not None
    np.testing.assert_array_equal(read, [1, 2])
    room = lanes.parameters(7, 4, 6)
    assert room is not None
    room[:] = 8, 9
    np.testing.assert_array_equal(rows[0], [0, 0, 0, 0, 8, 9, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("source", "lane", "end"), [(8, 0, 5), (7, 2, 5), (7, -1, 5), (7, 0, SIZE + 1)]
)
def test_nothing_outside_of_what_was_attached(
    offered: tuple[Attach, Float32], source: int, lane: int, end: int
) -> None:
    lanes = SharedLanes()
    lanes.attach(7, offered[0])
    assert lanes.gradient(source, lane, 0, end) is None
    if source != 7 or end > SIZE:
        assert lanes.parameters(source, 0, end) is None


def test_workers_that_are_gone_are_forgotten(offered: tuple[Attach, Float32]) -> None:
    attach, rows = offered
    lanes = SharedLanes()
    lanes.attach(7, attach)
    lanes.keep_only({1, 2})
    assert lanes.gradient(7, 0, 0, 5) is None
    assert lanes.parameters(7, 0, 5) is None
    assert not rows.any()


def test_another_host_is_refused(offered: tuple[Attach, Float32]) -> None:
    attach, _ = offered
    elsewhere = Attach("elsewhere", attach.pid, attach.descriptor, attach.rows, attach.size)
    with pytest.raises(RemoteError, match="another host"):
        SharedLanes().attach(7, elsewhere)


@pytest.mark.parametrize(("rows", "size"), [(1, SIZE), (3, 0), (2000, SIZE), (3, SIZE + 1)])
def test_what_is_no_segment_is_refused(
    offered: tuple[Attach, Float32], rows: int, size: int
) -> None:
    attach, _ = offered
    wrong = Attach(place(), attach.pid, attach.descriptor, rows, size)
    with pytest.raises(RemoteError):
        SharedLanes().attach(7, wrong)


def test_the_rows_of_a_part_begin_where_the_part_does(offered: tuple[Attach, Float32]) -> None:
    """Rows of 10 elements, of the part that begins at element 100 of the net."""
    attach, rows = offered
    lanes = SharedLanes()
    lanes.attach(7, replace(attach, begin=100))
    rows[1, 2:5] = 1, 2, 3
    read, room = lanes.gradient(7, 0, 102, 105), lanes.parameters(7, 108, 110)
    assert read is not None
    assert room is not None
    np.testing.assert_array_equal(read, [1, 2, 3])
    room[:] = 8, 9
    np.testing.assert_array_equal(rows[0, 7:], [0, 8, 9])
    for begin, end in ((0, 5), (99, 101), (105, 111)):
        assert lanes.gradient(7, 0, begin, end) is None
        assert lanes.parameters(7, begin, end) is None
