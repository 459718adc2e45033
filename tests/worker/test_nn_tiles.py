"""Tiles of a product, and vectors of eight numbers, against NumPy."""

import numpy as np
import pytest

from dualshard.common.compiled import compiled
from dualshard.worker.nn.native.tiles import COLUMNS, ROWS, tile
from dualshard.worker.nn.native.vectors import (
    LANES,
    load,
    spread,
    store,
    where_equal,
    where_greater,
)


@compiled
def run_tile(rows, vectors, a, places, b, c, add):
    """C = A B for a left matrix in 2 runs of 3 numbers, 20 and 2 apart."""
    tile(
        *(rows, vectors, a, places, 1, 5, 2, 20, 3, 2),
        *(b, 4, 16, c, 7, 18, add),
    )


@pytest.mark.parametrize("rows", range(1, ROWS + 1))
@pytest.mark.parametrize("vectors", [1, 2])
@pytest.mark.parametrize("add", [False, True])
def test_a_tile_is_the_product_of_the_numbers_it_is_led_to(rows, vectors, add):
    rng = np.random.default_rng(rows)
    a = rng.standard_normal(100).astype(np.float32)
    b = rng.standard_normal(4 + 6 * 16 + COLUMNS).astype(np.float32)
    c = rng.standard_normal(7 + ROWS * 18 + COLUMNS).astype(np.float32)
    places = np.array([99, 0, 31, 7, 12, 3, 40], np.int64)
    expected, width = c.copy(), vectors * LANES
    for i in range(rows):
        left = [a[5 + places[1 + i] + run * 20 + k * 2] for run in range(2) for k in range(3)]
        right = [b[4 + t * 16 : 4 + t * 16 + width] for t in range(6)]
        row = slice(7 + i * 18, 7 + i * 18 + width)
        old = expected[row].astype(float) if add else 0.0
        expected[row] = old + np.array(left, float) @ np.array(right, float)
    run_tile(rows, vectors, a, places, b, c, add)
    np.testing.assert_allclose(c, expected, rtol=1e-5, atol=1e-6)


@compiled
def run_vectors(a, b, result, n):
    x, y = load(a, 1, n), load(b, 0, n)
    store(result, 0, x * y + x - y, n)
    store(result, 8, where_greater(x, y, x, y), n)
    store(result, 16, where_equal(x, y, spread(np.float32(1)), spread(np.float32(0))), n)


@pytest.mark.parametrize("n", range(1, LANES + 1))
def test_vectors_compute_as_numpy_does_and_touch_nothing_else(n):
    rng = np.random.default_rng(n)
    a, b = rng.standard_normal((2, 9)).astype(np.float32)
    a[2] = b[1]
    result = np.full(25, 7, np.float32)
    run_vectors(a, b, result, n)
    x, y = a[1:][:n], b[:n]
    np.testing.assert_allclose(result[:n], x * y + x - y, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(result[8 : 8 + n], np.maximum(x, y))
    np.testing.assert_array_equal(result[16 : 16 + n], x == y)
    rest = [*range(n, 8), *range(8 + n, 16), *range(16 + n, 25)]
    assert (result[rest] == 7).all()


def test_the_larger_of_a_number_and_nan_is_nan():
    a, b = np.full(9, np.nan, np.float32), np.zeros(8, np.float32)
    result = np.zeros(25, np.float32)
    run_vectors(a, b, result, 8)
    assert np.isnan(result[8:16]).all()
