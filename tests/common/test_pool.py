"""Frames that are used again: which, how many, and that their memory is bounded."""

import zmq

from dualshard.common.transport.pool import SIZES, WORTH, Pool

SIZE = 2 * WORTH
LANE = b"lane no1"


def frame_of(pool: Pool, size: int = SIZE) -> zmq.Frame | None:
    """The frame that the pool gives for so many bytes; None if it gives none."""
    room = pool.room(size)
    assert len(room) == size
    assert not room.readonly
    return room.obj if isinstance(room.obj, zmq.Frame) else None


def lend(pool: Pool, counter: int, size: int = SIZE, lane: bytes = LANE) -> zmq.Frame:
    frame = frame_of(pool, size)
    assert frame is not None
    pool.lend(lane, counter, frame)
    return frame


def test_a_frame_is_taken_again_once_it_was_acknowledged() -> None:
    pool = Pool()
    assert frame_of(pool) is None, "a size that comes once is not worth a frame"
    frames = [lend(pool, counter) for counter in (1, 2, 3)]
    assert len({id(frame) for frame in frames}) == 3
    pool.take_back(LANE, 2)
    pool.take_back(b"another", 9)
    assert [frame_of(pool), frame_of(pool)] == [frames[1], frames[0]]
    assert frame_of(pool) not in frames


def test_small_arrays_share_one_place() -> None:
    pool = Pool()
    for _ in range(3):
        assert frame_of(pool, WORTH - 1) is None
    assert pool._bytes == 0


def test_all_frames_together_are_bounded() -> None:
    pool = Pool(3 * SIZE)
    frame_of(pool)
    for counter in (1, 2, 3):
        lend(pool, counter)
    assert frame_of(pool) is None
    pool.take_back(LANE, 1)
    lend(pool, 4)
    assert frame_of(pool) is None
    pool.take_back(LANE, 2)
    assert frame_of(pool, 2 * SIZE) is None
    assert frame_of(pool, 2 * SIZE) is None, "two are still under way"
    pool.take_back(LANE, 3)
    assert frame_of(pool, 2 * SIZE), "what is free makes room for another size"


def test_what_nobody_will_acknowledge_counts_no_more() -> None:
    pool = Pool(2 * SIZE)
    frame_of(pool)
    lend(pool, 1)
    lend(pool, 1, lane=b"another")
    pool.let_go(LANE)
    pool.let_go(LANE)
    lend(pool, 2)
    assert frame_of(pool) is None


def test_sizes_that_come_once_leave_nothing_behind() -> None:
    pool = Pool(3 * SIZE)
    frame_of(pool)
    lend(pool, 1)
    for more in range(1, SIZES + 1):
        assert frame_of(pool, SIZE + more) is None
    pool.take_back(LANE, 1)
    assert pool._bytes == 0
