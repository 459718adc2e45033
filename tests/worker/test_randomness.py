"""A lane's random stream depends on the minibatch alone."""

import numpy as np
import pytest

from dualshard.worker.randomness import BatchStream

KEYS = [
    (epoch, portion, number) for epoch in range(3) for portion in (0, 1, 70) for number in (0, 5)
]


def draw(stream: BatchStream, key: tuple[int, int, int]) -> list[float]:
    """Numbers of several kinds and widths: what one left in a buffer must not reach the next."""
    random = stream.at(key)
    values = [*random.random(3), *random.random(3, dtype=np.float32), *random.normal(size=2)]
    return [*map(float, values), float(random.integers(1000)), float(random.integers(2**32))]


def test_the_same_minibatch_sees_the_same_numbers_in_any_order_on_any_lane() -> None:
    one, other = BatchStream(7), BatchStream(7)
    forward = {key: draw(one, key) for key in KEYS}
    backward = {key: draw(other, key) for key in reversed(KEYS)}
    assert forward == backward
    assert draw(one, KEYS[3]) == forward[KEYS[3]]


def test_half_used_numbers_do_not_reach_the_next() -> None:
    """Philox keeps half of a 64-bit number for the next one of 32 bits."""
    stream = BatchStream(7)
    clean = int(stream.at((0, 0, 1)).integers(2**32, dtype=np.uint32))
    stream.at((0, 0, 0)).integers(2**32, dtype=np.uint32)
    assert int(stream.at((0, 0, 1)).integers(2**32, dtype=np.uint32)) == clean


@pytest.mark.parametrize("seed", [0, 1, 2**63, -1])
def test_different_minibatches_see_different_numbers(seed: int) -> None:
    stream = BatchStream(seed)
    drawn = [tuple(draw(stream, key)) for key in KEYS]
    assert len(set(drawn)) == len(KEYS)
    assert not set.intersection(*(set(row[:8]) for row in drawn))


def test_different_seeds_give_different_numbers() -> None:
    rows = {tuple(draw(BatchStream(seed), (1, 2, 3))) for seed in (0, 1, 2, 2**63, -1)}
    assert len(rows) == 5


def test_long_draws_do_not_run_into_the_next_minibatch() -> None:
    """A minibatch owns 2^128 numbers before the counter reaches its neighbour's."""
    stream = BatchStream(3)
    first = set(stream.at((0, 0, 0)).integers(2**63, size=10_000).tolist())
    for key in ((0, 0, 1), (0, 1, 0), (1, 0, 0)):
        assert not first & set(stream.at(key).integers(2**63, size=10_000).tolist())


def test_the_numbers_are_uniform() -> None:
    stream = BatchStream(5)
    firsts = np.array([stream.at((0, portion, 0)).random() for portion in range(4000)])
    assert abs(firsts.mean() - 0.5) < 0.02
    assert np.abs(np.corrcoef(firsts[:-1], firsts[1:])[0, 1]) < 0.06
