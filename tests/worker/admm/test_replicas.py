"""Consensus between replicas: its arrays against loops in float64 that are written out."""

from typing import Any

import numpy as np
import pytest

from dualshard.worker.admm.penalty import Penalty
from dualshard.worker.admm.replicas import Consensus

SIZE, RHO, LR = 11, 0.3, 0.2
AVERAGED = [slice(3, 5), slice(9, 11)]
TRAINED = [0, 1, 2, 5, 6, 7, 8]


class Quadratic:
    """f_k(w) = Σ a (w - b)² / 2, and its statistic, which moves by a tenth towards b."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.a = random.uniform(0.5, 1.5, SIZE)
        self.b = random.normal(size=SIZE)

    def gradient(self, w: Any) -> Any:
        gradient = self.a * (w - self.b)
        for span in AVERAGED:
            gradient[span] = 0.1 * (w[span] - self.b[span])
        return gradient


class Oracle:
    """Workers and their servers in float64, element by element."""

    def __init__(self, tasks: list[Quadratic], start: Any) -> None:
        self.tasks = tasks
        self.z = start.astype(float)
        self.w = [self.z.copy() for _ in tasks]
        self.u = [np.zeros(SIZE) for _ in tasks]

    def round(self, rho: float, steps: int, in_time: list[int]) -> tuple[float, float]:
        """One round; the residuals of worker 0."""
        for k, task in enumerate(self.tasks):
            for _ in range(steps):
                gradient = task.gradient(self.w[k])
                for i in range(SIZE):
                    penalty = rho * (self.w[k][i] - self.z[i] + self.u[k][i])
                    rate = LR if i in TRAINED else 1.0
                    self.w[k][i] -= rate * (gradient[i] + (penalty if i in TRAINED else 0.0))
        old = self.z.copy()
        self.z = sum(self.w[k] + self.u[k] for k in in_time) / len(in_time)
        primal = dual = 0.0
        for i in TRAINED:
            primal += (self.w[0][i] - self.z[i]) ** 2 / len(TRAINED)
            dual += (rho * (self.z[i] - old[i])) ** 2 / len(TRAINED)
        for k in range(len(self.tasks)):
            for i in range(SIZE):
                if i not in TRAINED:
                    self.w[k][i] = self.z[i]
                elif k in in_time:
                    self.u[k][i] += self.w[k][i] - self.z[i]
        return primal**0.5, dual**0.5


def begun(count: int, start: Any, averaged: Any = AVERAGED) -> list[Consensus]:
    made = [Consensus(SIZE, Penalty(RHO), averaged) for _ in range(count)]
    for one in made:
        one.take(start, 0)
    return made


def step(one: Consensus, task: Quadratic, steps: int) -> None:
    for _ in range(steps):
        gradient = task.gradient(one.w).astype(np.float32)
        one.penalty_gradient(gradient, one.w)
        for span in (slice(0, 3), slice(5, 9)):
            gradient[span] *= np.float32(LR)
        one.w -= gradient


def pushed(ones: list[Consensus], z: Any) -> Any:
    """What servers make of what these workers push."""
    out = np.full((len(ones), SIZE), np.nan, np.float32)
    for one, row in zip(ones, out, strict=True):
        one.outgoing(row)
    return z - out.mean(axis=0)


START = np.random.default_rng(99).normal(size=SIZE).astype(np.float32)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_rounds_equal_the_formulas(workers: int) -> None:
    tasks = [Quadratic(seed) for seed in range(workers)]
    ones, oracle, z = begun(workers, START), Oracle(tasks, START), START
    for _ in range(6):
        for one, task in zip(ones, tasks, strict=True):
            step(one, task, 5)
        z = pushed(ones, z)
        found, *_ = [one.answered(z, 0) for one in ones]
        expected = oracle.round(RHO, 5, list(range(workers)))
        np.testing.assert_allclose(z, oracle.z, atol=1e-6)
        for k, one in enumerate(ones):
            np.testing.assert_allclose(one.w, oracle.w[k], atol=1e-6)
            np.testing.assert_allclose(one.u, oracle.u[k], atol=2e-6)
            np.testing.assert_array_equal(one.z, z)
        np.testing.assert_allclose(found[:2], expected, rtol=1e-4, atol=1e-6)
        assert found.rho == RHO
        np.testing.assert_allclose(sum(one.u for one in ones), 0, atol=3e-6)


def test_a_round_without_one_leaves_its_multiplier_alone() -> None:
    tasks = [Quadratic(seed) for seed in range(3)]
    ones, oracle, z = begun(3, START), Oracle(tasks, START), START
    for late in (2, None, 0, 2, 2, None, 1):
        for one, task in zip(ones, tasks, strict=True):
            step(one, task, 4)
        in_time = [k for k in range(3) if k != late]
        z = pushed([ones[k] for k in in_time], z)
        if late is not None:
            ones[late].outgoing(np.empty(SIZE, np.float32))
            ones[late].leave_out(6, 11)
            ones[late].leave_out(0, 6)
        for one in ones:
            one.answered(z, 0)
        oracle.round(RHO, 4, in_time)
        np.testing.assert_allclose(z, oracle.z, atol=2e-6)
        for k, one in enumerate(ones):
            np.testing.assert_allclose(one.w, oracle.w[k], atol=2e-6)
            np.testing.assert_allclose(one.u, oracle.u[k], atol=2e-6)


def test_only_the_shards_that_came_late_are_left_out() -> None:
    (one,) = begun(1, START)
    one.w += 1
    one.outgoing(np.empty(SIZE, np.float32))
    one.leave_out(2, 7)
    one.answered(START, 0)
    expected = [1, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0]
    np.testing.assert_allclose(one.u, expected, atol=1e-6)
    one.answered(START, 0)
    np.testing.assert_allclose(one.u, [2, 2, 1, 0, 0, 1, 1, 2, 2, 0, 0], atol=1e-6)


def test_many_rounds_end_where_the_sum_of_all_losses_is_least() -> None:
    """Though each worker alone would go elsewhere."""
    tasks = [Quadratic(seed) for seed in range(3)]
    ones, z = begun(3, START, []), START
    total = sum(task.a for task in tasks)
    best = sum(task.a * task.b for task in tasks) / total
    for _ in range(600):
        for one, task in zip(ones, tasks, strict=True):
            for _ in range(3):
                gradient = (task.a * (one.w - task.b)).astype(np.float32)
                one.penalty_gradient(gradient, one.w)
                one.w -= np.float32(LR) * gradient
        z = pushed(ones, z)
        found = [one.answered(z, 0) for one in ones]
    np.testing.assert_allclose(z, best, atol=1e-5)
    for one, task in zip(ones, tasks, strict=True):
        np.testing.assert_allclose(one.w, best, atol=1e-4)
        np.testing.assert_allclose(RHO * one.u, -task.a * (best - task.b), atol=1e-4)
    assert max(one.primal for one in found) < 1e-4
    assert np.abs(best - tasks[0].b).max() > 0.1


def test_the_penalty_is_taken_at_the_parameters_that_are_given() -> None:
    (one,) = begun(1, START)
    one.u[:] = np.where(np.isin(np.arange(SIZE), TRAINED), 0.5, 0.0)
    copy = one.w + np.float32(0.25)
    gradient = np.ones(SIZE, np.float32)
    one.penalty_gradient(gradient, copy)
    expected = np.where(np.isin(np.arange(SIZE), TRAINED), 1 + RHO * 0.75, 1.0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)
    np.testing.assert_array_equal(one.w, START)


def test_until_it_has_pushed_it_begins_where_the_servers_are() -> None:
    (one,) = begun(1, START)
    assert not one.takes_part
    one.w += 1
    one.take(START + 2, 0)
    np.testing.assert_array_equal(one.w, START + 2)
    np.testing.assert_array_equal(one.z, START + 2)
    assert not one.u.any()


def test_after_a_rest_it_goes_on_from_where_it_was() -> None:
    (one,) = begun(1, START)
    one.w += 1
    one.outgoing(np.empty(SIZE, np.float32))
    one.answered(START, 0)
    w, u = one.w.copy(), one.u.copy()
    one.take(START - 3, 0)
    np.testing.assert_array_equal(one.u, u)
    np.testing.assert_array_equal(one.w[TRAINED], w[TRAINED])
    for span in AVERAGED:
        np.testing.assert_array_equal(one.w[span], START[span] - 3)
    np.testing.assert_array_equal(one.z, START - 3)


def test_what_was_worth_nothing_is_forgotten() -> None:
    (one,) = begun(1, START)
    one.w[:], one.u[:] = np.nan, np.nan
    one.outgoing(np.empty(SIZE, np.float32))
    one.leave_out(0, 4)
    one.begin_anew()
    assert not one.takes_part
    one.take(START, 0)
    np.testing.assert_array_equal(one.w, START)
    assert not one.u.any()
    one.w += 1
    one.outgoing(np.empty(SIZE, np.float32))
    one.answered(START, 0)
    assert one.u[TRAINED].all(), "nothing of it is left out any more"


@pytest.mark.parametrize(("schedule", "rho"), [("capped", [3.0, 20.0, 20.0]), ("fixed", [0.3] * 3)])
def test_rho_goes_on_with_the_rounds_and_keeps_the_multiplier(
    schedule: str, rho: list[float]
) -> None:
    one, late = (Consensus(SIZE, Penalty(RHO, schedule, 20.0)) for _ in range(2))
    one.take(START, 0)
    one.outgoing(np.empty(SIZE, np.float32))
    one.u[:] = np.arange(SIZE)
    for closed, expected in enumerate(rho, 1):
        found = one.answered(one.w, closed)
        assert one.rho == pytest.approx(expected)
        assert found.rho == pytest.approx([RHO, *rho][closed - 1]), "that of the round itself"
        np.testing.assert_allclose(one.rho * one.u, RHO * np.arange(SIZE), rtol=1e-5)
    one.take(START, 3)
    one.take(START, 2)
    late.take(START, 3)
    assert late.rho == one.rho == pytest.approx(rho[-1])


@pytest.mark.parametrize("rho", [0.1, np.float64(0.1)])
def test_everything_stays_float32(rho: Any) -> None:
    one, gradient = Consensus(SIZE, Penalty(rho, "x10"), AVERAGED), np.zeros(SIZE, np.float32)
    one.take(START, 0)
    one.penalty_gradient(gradient, one.w)
    one.outgoing(gradient)
    one.answered(START, 1)
    assert one.rho == pytest.approx(1.0)
    assert {array.dtype for array in (one.w, one.u, one.z, gradient)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("averaged", [[], [slice(0, SIZE)], [slice(0, 1)], [slice(SIZE - 1, SIZE)]])
def test_averaged_state_may_lie_anywhere(averaged: list[slice]) -> None:
    (one,) = begun(1, START, averaged)
    one.w += 1
    out = np.empty(SIZE, np.float32)
    one.outgoing(out)
    np.testing.assert_allclose(out, -1, rtol=1e-5)
    found = one.answered(START, 0)
    assert found.primal == pytest.approx(0.0 if averaged == [slice(0, SIZE)] else 1.0, rel=1e-5)
    expected = np.ones(SIZE)
    for span in averaged:
        expected[span] = 0
    np.testing.assert_allclose(one.u, expected, atol=1e-6)
    np.testing.assert_allclose(one.w - START, expected, atol=1e-6)
