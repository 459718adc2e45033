"""The factor on the rate, against its formulas."""

import math

import pytest

from dualshard.common.schedules import LAST, SCHEDULES, factor


def test_constant_never_changes() -> None:
    assert {factor("constant", progress) for progress in (-1.0, 0.0, 0.3, 1.0, 7.0)} == {1.0}


@pytest.mark.parametrize("schedule", [name for name in SCHEDULES if name != "constant"])
def test_ends_and_beyond(schedule: str) -> None:
    assert factor(schedule, 0.0) == factor(schedule, -0.5) == 1.0
    assert factor(schedule, 1.0) == pytest.approx(LAST)
    assert factor(schedule, 3.0) == pytest.approx(LAST)


@pytest.mark.parametrize("schedule", [name for name in SCHEDULES if name != "constant"])
def test_never_rises(schedule: str) -> None:
    values = [factor(schedule, step / 50) for step in range(51)]
    assert values == sorted(values, reverse=True)
    assert min(values) >= LAST > 0


@pytest.mark.parametrize("progress", [0.1, 0.25, 0.5, 0.9])
def test_formulas(progress: float) -> None:
    assert factor("linear", progress) == pytest.approx(1 - (1 - LAST) * progress)
    half_wave = (1 + math.cos(math.pi * progress)) / 2
    assert factor("cosine", progress) == pytest.approx(LAST + (1 - LAST) * half_wave)
