"""Initialisers: the variance of the papers, and orthonormal columns."""

import numpy as np
import pytest

from dualshard.worker.nn import initialisers


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("he_normal", 2 / 300),
        ("he_uniform", 2 / 300),
        ("xavier_normal", 2 / 500),
        ("xavier_uniform", 2 / 500),
    ],
)
@pytest.mark.parametrize("shape", [(300, 200), (5, 6, 10, 200)])
def test_initialisers_have_the_variance_of_the_paper(name, variance, shape):
    draw = getattr(initialisers, name)
    weights = draw(shape, np.random.default_rng(6))
    assert (weights.dtype, weights.shape) == (np.float32, shape)
    assert weights.var() == pytest.approx(variance, rel=0.03)
    assert abs(weights.mean()) < 4 * np.sqrt(variance / weights.size)
    if name.endswith("uniform"):
        assert abs(weights).max() <= np.sqrt(3 * variance) * (1 + 1e-6)
    assert np.array_equal(weights, draw(shape, np.random.default_rng(6)))


def test_uniform_fills_its_range():
    weights = initialisers.uniform(0.05)((300, 200), np.random.default_rng(6))
    assert weights.dtype == np.float32
    assert -0.05 <= weights.min() < -0.0499
    assert 0.0499 < weights.max() <= 0.05
    assert abs(weights.mean()) < 4 * 0.05 / np.sqrt(3 * weights.size)


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (7, 7), (3, 3, 4, 8), (2, 2, 1, 9), (1, 1)])
def test_orthogonal_columns_or_rows_are_orthonormal(shape):
    weights = initialisers.orthogonal(shape, np.random.default_rng(6))
    assert (weights.dtype, weights.shape) == (np.float32, shape)
    matrix = weights.reshape(-1, shape[-1]).astype(float)
    rows, columns = matrix.shape
    product = matrix.T @ matrix if rows >= columns else matrix @ matrix.T
    np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-6)
    assert np.array_equal(weights, initialisers.orthogonal(shape, np.random.default_rng(6)))


def test_orthogonal_matrices_are_not_all_of_one_sign():
    """The diagonal of LAPACK's R is negative: without the correction Q has a mean."""
    rng = np.random.default_rng(6)
    firsts = [initialisers.orthogonal((3, 3), rng)[0, 0] for _ in range(400)]
    assert abs(np.mean(firsts)) < 4 * np.sqrt(1 / 3 / 400)
