"""Consensus on the copies of a layer, and residuals: against plain NumPy in float64."""

import numpy as np
import pytest

from dualshard.common.errors import RemoteError
from dualshard.worker.admm.residuals import closed, rms, squared_distance
from dualshard.worker.admm.weights import Agreement


def random(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=6).astype(np.float32)


@pytest.mark.parametrize("sign", [1, -1])
def test_each_side_follows_the_slope_of_one_penalty(sign: int) -> None:
    """ρ/2 ‖Wx - Wy + u‖², by differences; u += Wx - Wy from round to round, ρ growing."""
    own, other = random(0), random(1)
    distance = sign * (own.astype(float) - other)
    agreement, before = Agreement(6, sign), 0.1
    u = distance if sign == 1 else np.zeros(6)  # the lower side is told how a round has ended
    for rho in (0.1, 0.1, 0.2):
        agreement.hear(other, own, before, current=sign < 0)
        u = u * before / rho  # λ = ρ u is what stays
        gradient = random(2)
        found = gradient.copy()
        agreement.add_slope(own, found, rho)

        def penalty(values: np.ndarray, rho: float = rho, u: np.ndarray = u) -> float:
            x, y = (values, other) if sign == 1 else (other, values)
            return float(rho / 2 * np.sum((x.astype(float) - y + u) ** 2))

        for i, step in enumerate(np.eye(6) * 1e-4):
            slope = (penalty(own + step) - penalty(own - step)) / 2e-4
            assert found[i] - gradient[i] == pytest.approx(slope, rel=1e-3, abs=1e-5)
        squares = agreement.close(own, rho)
        assert squares == pytest.approx(float(np.sum(distance**2)), rel=1e-6)
        u, before = u + distance, rho


def test_before_the_other_side_is_heard_nothing_pulls() -> None:
    agreement, gradient = Agreement(6, 1), random(2)
    agreement.add_slope(random(0), gradient, 0.1)
    np.testing.assert_array_equal(gradient, random(2))
    assert agreement.close(random(0), 0.1) == 0


def test_a_copy_of_another_layer_is_refused() -> None:
    with pytest.raises(RemoteError, match=r"a copy of shape \(5,\) of a layer of 6 parameters"):
        Agreement(6, 1).hear(random(0)[:5], random(0), 0.1)


def test_running_averages_are_not_pulled() -> None:
    agreement, gradient = Agreement(6, 1, [slice(2, 4)]), random(2)
    agreement.hear(random(1), random(0), 0.0)
    agreement.add_slope(random(0), gradient, 0.1)
    changed = gradient != random(2)
    assert changed.tolist() == [True, True, False, False, True, True]
    assert gradient.dtype == np.float32


def test_two_sides_that_only_agree_meet_in_the_middle() -> None:
    """The method itself, each side minimising exactly: from 0 and 1 both go to their mean."""
    x, y = np.zeros(6, np.float32), np.ones(6, np.float32)
    lower, upper = Agreement(6, 1), Agreement(6, -1)
    aim_x, aim_y, rho = x.copy(), y.copy(), 1.0
    for number in range(60):
        if number:  # the lower side begins, and hears of nothing before
            lower.hear(y, x, rho)
        gradient = np.zeros(6, np.float32)
        lower.add_slope(x, gradient, rho)
        # of (w - aim)²/2 + the penalty: curvature 1 + ρ, so that one step is exact
        x -= (gradient + x - aim_x) / np.float32(1 + rho)
        lower.close(x, rho)
        upper.hear(x, y, rho, current=True)
        gradient = np.zeros(6, np.float32)
        upper.add_slope(y, gradient, rho)
        y -= (gradient + y - aim_y) / np.float32(1 + rho)
        upper.close(y, rho)
    np.testing.assert_allclose(x, 0.5, atol=1e-3)
    np.testing.assert_allclose(y, 0.5, atol=1e-3)


def test_two_sides_that_go_at_the_same_time_meet_in_the_middle_too() -> None:
    """Each hears of the other what it was after the round before, and both add up the same u."""
    x, y = np.zeros(6, np.float32), np.ones(6, np.float32)
    lower, upper = Agreement(6, 1), Agreement(6, -1)
    aim_x, aim_y, rho = x.copy(), y.copy(), 0.3
    for number in range(300):
        if number:
            was_x, was_y = x.copy(), y.copy()
            lower.hear(was_y, x, rho)
            upper.hear(was_x, y, rho)
        for side, values, aim in ((lower, x, aim_x), (upper, y, aim_y)):
            gradient = np.zeros(6, np.float32)
            side.add_slope(values, gradient, rho)
            values -= (gradient + values - aim) / np.float32(1 + rho)
            side.close(values, rho)
    np.testing.assert_allclose(x, 0.5, atol=1e-3)
    np.testing.assert_allclose(y, 0.5, atol=1e-3)


def test_a_copy_counts_once() -> None:
    """Rounds without news of the other side leave the multipliers as they are."""
    pulls = []
    for rounds in (1, 5):
        side = Agreement(6, -1)
        side.hear(random(1), random(0), 0.5, current=True)
        for _ in range(rounds):
            side.close(random(0), 0.5)
        pulls.append(np.zeros(6, np.float32))
        side.add_slope(random(0), pulls[-1], 0.5)
    np.testing.assert_array_equal(*pulls)


def test_residuals() -> None:
    assert rms(18.0, 2) == 3.0
    assert rms(0.0, 0) == 0.0
    assert closed(1.0, 4.0) == 0.5
    assert closed(0.0, 0.0) == 0.0
    assert closed(9.0, 4.0) == -0.5
    assert squared_distance(random(0), random(1)) == pytest.approx(
        float(np.sum((random(0).astype(float) - random(1)) ** 2)), rel=1e-6
    )
