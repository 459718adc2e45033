"""Averages of arrays, against float64."""

import numpy as np
import pytest

from dualshard.common.types import Float32
from dualshard.paramserver.consensus import elastic, weighted_mean


def numbers(seed: int, size: int) -> Float32:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


@pytest.mark.parametrize("size", [0, 1, 7, 4097])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5])
def test_elastic_is_symmetric_and_keeps_the_sum(size: int, alpha: float) -> None:
    centre, worker = numbers(1, size), numbers(2, size)
    z, x = centre.copy(), worker.copy()
    fresh = elastic(centre, worker, alpha)
    other, back = x.copy(), z.copy()
    np.testing.assert_allclose(elastic(other, back, alpha), centre, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(other, fresh, rtol=1e-6, atol=1e-6)
    total = z.astype(float) + x
    np.testing.assert_allclose(centre.astype(float) + fresh, total, rtol=1e-6, atol=1e-6)
    assert centre.dtype == fresh.dtype == np.float32


def test_at_a_half_they_meet() -> None:
    centre = np.array([0, 2, -4], np.float32)
    fresh = elastic(centre, np.array([2, 2, 4], np.float32), 0.5)
    np.testing.assert_array_equal(fresh, [1, 2, 0])
    np.testing.assert_array_equal(centre, [1, 2, 0])


def test_a_received_array_may_be_read_only() -> None:
    worker = np.frombuffer(numbers(1, 5).tobytes(), np.float32)
    assert not worker.flags.writeable
    elastic(numbers(2, 5), worker, 0.5)
    weighted_mean([worker, worker], [1, 1], np.empty(5, np.float32))


@pytest.mark.parametrize("weights", [(1, 1), (1, 3), (2, 5, 7, 11)])
@pytest.mark.parametrize("size", [1, 1000])
def test_a_weighted_mean(weights: tuple[int, ...], size: int) -> None:
    parts = [numbers(seed, size) for seed, _ in enumerate(weights)]
    out = np.full(size, np.nan, np.float32)
    found = weighted_mean(parts, weights, out)
    assert found is out
    expected = np.average(np.array(parts, float), axis=0, weights=weights)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for seed, part in enumerate(parts):
        np.testing.assert_array_equal(part, numbers(seed, size))


def test_one_part_is_itself() -> None:
    part, out = numbers(1, 9), np.zeros(9, np.float32)
    assert weighted_mean([part], [13], out) is part
    assert not out.any()


def test_parts_and_weights_belong_together() -> None:
    with pytest.raises(ValueError, match="shorter"):
        weighted_mean([numbers(1, 3), numbers(2, 3)], [1], np.empty(3, np.float32))
