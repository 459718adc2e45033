"""ρ from round to round, by every schedule."""

import pytest

from dualshard.common.job import Job
from dualshard.worker.admm.penalty import LEAST, MOST, Penalty


def rounds(penalty: Penalty, residuals: list[tuple[float, float]]) -> list[float]:
    """ρ of each round, and of the one after the last."""
    found = [penalty.rho]
    for primal, dual in residuals:
        penalty.advance(primal, dual)
        found.append(penalty.rho)
    return found


def job(coupling: str = "activations", **admm: object) -> Job:
    return Job.from_dict(
        {
            "train": {"mode": "admm"},
            "worker": {"count": 2},
            "partition": {"coupling": coupling},
            "admm": admm,
        }
    )


def test_by_default_it_grows_tenfold_up_to_the_cap() -> None:
    found = rounds(Penalty.of(job()), [(1, 1)] * 4)
    assert found == pytest.approx([1e-4, 1e-3, 1e-2, 1e-2, 1e-2])


@pytest.mark.parametrize("coupling", ["weights", "replicas"])
def test_where_parameters_agree_it_begins_at_the_cap(coupling: str) -> None:
    assert rounds(Penalty.of(job(coupling)), [(1, 1)] * 2) == [0.1, 0.1, 0.1]


def test_a_cap_below_the_first_does_not_lower_it() -> None:
    assert rounds(Penalty.of(job(rho=0.5, cap=0.1)), [(1, 1)] * 2) == [0.5, 0.5, 0.5]


def test_the_literal_schedule_has_no_end_but_that_of_float32() -> None:
    found = rounds(Penalty.of(job(schedule="x10")), [(1, 1)] * 40)
    assert found[:6] == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1, 10])
    assert found[-1] == MOST


def test_fixed() -> None:
    assert rounds(Penalty.of(job(schedule="fixed")), [(9, 0), (0, 9)]) == [0.01] * 3


def test_balanced_residuals_double_and_halve_it() -> None:
    penalty = Penalty.of(job(schedule="residual", rho=1.0))
    found = rounds(penalty, [(10.1, 1), (10, 1), (1, 10), (1, 10.1), (0, 0), (0, 1)])
    assert found == [1, 2, 2, 2, 1, 1, 0.5]


def test_balancing_stays_where_float32_has_room() -> None:
    low = rounds(Penalty(1.0, "residual"), [(0, 1)] * 200)
    high = rounds(Penalty(1.0, "residual"), [(1, 0)] * 200)
    assert (low[-1], high[-1]) == (LEAST, MOST)
