"""Consensus on activations: each formula against plain NumPy in float64."""

import numpy as np
import pytest

from dualshard.common.errors import RemoteError
from dualshard.common.partition_sections import AdmmSection
from dualshard.common.types import Float32
from dualshard.worker.admm.activations import Free, Multipliers, pull, weight_of_distance

RHO, GAMMA, DAMPING = 0.03, 0.5, 0.1


def random(*shape: int, seed: int = 0) -> Float32:
    return np.random.default_rng((seed, *shape)).normal(size=shape).astype(np.float32)


def one_round(
    multipliers: Multipliers,
    x: Float32,
    indices: np.ndarray,
    rho: float = RHO,
    gamma: float = GAMMA,
) -> tuple[Float32, float, Float32]:
    """Targets, the primal residual, and y, after a step for each half of the samples."""
    free = Free(x, indices, multipliers, gamma, rho)
    half = len(x) // 2
    for rows in (slice(0, half), slice(half, len(x))):
        slopes = random(*x.shape, seed=5)[rows].reshape(-1)
        free.step(rows, slopes, rows.stop - rows.start, DAMPING)
    y = free.of(slice(0, len(x))).copy()
    return (*free.finish(), y)


def by_hand(x: Float32, u: np.ndarray, rho: float, gamma: float) -> tuple[np.ndarray, ...]:
    """T, the new u and y of the same round, in float64."""
    x64, slopes = x.astype(float), random(*x.shape, seed=5).astype(float)
    y = x64 + u
    half = len(x) // 2
    counts = np.where(np.arange(len(x)) < half, half, len(x) - half)
    counts = counts.reshape(-1, *[1] * (x.ndim - 1))
    y = y - (counts * slopes + rho * (y - x64 - u)) / (rho + DAMPING)
    u = gamma * (u + x64 - y)
    return y - u, u, y


@pytest.mark.parametrize("shape", [(7, 4), (6, 3, 3, 2), (2, 1)])
def test_rounds_follow_the_formulas(shape: tuple[int, ...]) -> None:
    multipliers, indices = Multipliers(20, GAMMA), np.arange(len(random(*shape))) * 2
    u = np.zeros(shape)
    for number in range(3):
        x = random(*shape, seed=number)
        targets, primal, y = one_round(multipliers, x, indices)
        expected, u, middle = by_hand(x, u, RHO, GAMMA)
        np.testing.assert_allclose(y, middle, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(targets, expected, rtol=1e-4, atol=1e-4)
        assert targets.shape == shape
        assert primal == pytest.approx(np.sqrt(np.mean((x - middle) ** 2)), rel=1e-5)


def test_a_new_rho_rescales_the_multipliers() -> None:
    multipliers, x, indices = Multipliers(5, GAMMA), random(5, 3), np.arange(5)
    one_round(multipliers, x, indices, RHO)
    _, u, _ = by_hand(x, np.zeros_like(x, float), RHO, GAMMA)
    free = Free(x, indices, multipliers, GAMMA, 10 * RHO)
    np.testing.assert_allclose(free.of(slice(0, 5)), x + u / 10, rtol=1e-5, atol=1e-6)


def test_without_gamma_nothing_is_kept_and_targets_are_y() -> None:
    multipliers, x, indices = Multipliers(5, 0.0), random(5, 3), np.arange(5)
    for _ in range(2):
        targets, _, y = one_round(multipliers, x, indices, gamma=0.0)
        np.testing.assert_array_equal(targets, y)
    assert not multipliers.take(indices, 3).any()


def test_a_sample_that_comes_twice_keeps_its_last_multipliers() -> None:
    multipliers, x = Multipliers(5, GAMMA), random(4, 3)
    one_round(multipliers, x, np.array([3, 1, 3, 0]))
    alone = Multipliers(5, GAMMA)
    one_round(alone, x, np.array([4, 1, 3, 0]))
    kept, expected = (each.take(np.array([3, 1, 0]), 3) for each in (multipliers, alone))
    np.testing.assert_array_equal(kept, expected)


@pytest.mark.parametrize("wrong", [-1, 5])
def test_a_number_that_is_no_sample_is_refused(wrong: int) -> None:
    with pytest.raises(RemoteError, match=f"samples {min(wrong, 2)} to {max(wrong, 2)} of a data"):
        Free(random(2, 3), np.array([2, wrong]), Multipliers(5, GAMMA), GAMMA, RHO)


def test_the_pull_and_its_distances() -> None:
    outputs, targets, sent = (random(12, seed=seed) for seed in range(3))
    slopes = np.empty(12, np.float32)
    left, moved = pull(outputs, targets, sent, np.float32(0.25), slopes)
    np.testing.assert_allclose(slopes, 0.25 * (outputs - targets), rtol=1e-6)
    assert left == pytest.approx(float(np.sum((outputs - targets) ** 2)), rel=1e-5)
    assert moved == pytest.approx(float(np.sum((outputs - sent) ** 2)), rel=1e-5)


def test_a_rho_of_float64_stays_out_of_the_arrays() -> None:
    multipliers, indices = Multipliers(5, GAMMA), np.arange(5)
    targets, _, y = one_round(multipliers, random(5, 3), indices, float(np.float64(0.1)))
    kept = multipliers.take(indices, 3)
    assert targets.dtype == y.dtype == kept.dtype == np.float32


def test_inputs_are_left_as_they_are_and_may_be_read_only() -> None:
    x = random(6, 3)
    before = x.copy()
    x.flags.writeable = False
    one_round(Multipliers(6, GAMMA), x, np.arange(6))
    np.testing.assert_array_equal(x, before)


def test_the_weight_makes_one_pass_as_large_as_backprop() -> None:
    """G of one sample, through y, u and T, comes out as G times the weight."""
    for gamma in (0.0, 0.5, 1.0):
        slope = np.array([[0.3, -0.2]], np.float32)
        free = Free(
            np.ones((1, 2), np.float32), np.zeros(1, int), Multipliers(1, gamma), gamma, RHO
        )
        free.step(slice(0, 1), slope.reshape(-1), 1, DAMPING)
        targets, _ = free.finish()
        weight = weight_of_distance(AdmmSection(gamma=gamma, c=DAMPING), RHO, 1)
        np.testing.assert_allclose(weight * (1 - targets), slope, rtol=1e-5)
