"""Frames that are used again: which, how many, and that their memory is bounded."""

import zmq

from dualshard.common.transport.pool import SIZES, Pool

SIZE = 1000


def template(size: int = SIZE) -> memoryview:
    return memoryview(bytearray(size))


def take(pool: Pool, size: int = SIZE) -> zmq.Frame:
    frame = pool.take(template(size))
    assert frame is not None
    assert len(frame) == size
    assert not frame.buffer.readonly
    return frame


def test_a_frame_that_was_given_back_is_taken_again() -> None:
    pool = Pool()
    assert pool.take(template()) is None, "a size that comes once is not worth a frame"
    one, two = take(pool), take(pool)
    assert one is not two
    pool.give(one)
    assert take(pool) is one


def test_all_frames_together_are_bounded() -> None:
    pool = Pool(3 * SIZE)
    pool.take(template())
    frames = [take(pool) for _ in range(3)]
    assert pool.take(template()) is None
    pool.lose(frames.pop())
    frames.append(take(pool))
    assert pool.take(template()) is None
    pool.give(frames.pop())
    assert pool.take(template(2 * SIZE)) is None
    assert pool.take(template(2 * SIZE)) is None, "two are still under way"
    pool.give(frames.pop())
    assert take(pool, 2 * SIZE), "what is free makes room for another size"


def test_sizes_that_come_once_leave_nothing_behind() -> None:
    pool = Pool(3 * SIZE)
    pool.take(template())
    frame = take(pool)
    for size in range(1, SIZES + 1):
        assert pool.take(template(size)) is None
    pool.give(frame)
    assert pool.take(template(3 * SIZE)) is None
    assert take(pool, 3 * SIZE)
