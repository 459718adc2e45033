"""Steps of a worker's own, in proportion to its speed."""

import pytest

from dualshard.paramserver.consistency import Who
from dualshard.paramserver.pacing import SMOOTHING, Pacing

FAST: Who = (1, 0)
SLOW: Who = (2, 0)


def paced(*paces: float, steps: int = 64) -> Pacing:
    pacing = Pacing(steps)
    for number, pace in enumerate(paces, 1):
        pacing.note((number, 0), pace)
    return pacing


@pytest.mark.parametrize(
    ("slow", "steps"), [(1.0, 64), (2.0, 32), (4.0, 16), (3.0, 21), (64.0, 1), (1000.0, 1)]
)
def test_slower_workers_make_fewer_steps(slow: float, steps: int) -> None:
    pacing = paced(0.01, 0.01 * slow)
    assert pacing.steps(FAST) == 64
    assert pacing.steps(SLOW) == steps


def test_rounds_take_equally_long() -> None:
    paces = (0.01, 0.013, 0.02, 0.037)
    pacing = paced(*paces)
    lengths = [pace * pacing.steps((number, 0)) for number, pace in enumerate(paces, 1)]
    assert max(lengths) - min(lengths) <= max(paces) / 2 + 1e-9, "to half a step"


def test_one_of_unknown_speed_makes_as_many_as_the_fastest() -> None:
    pacing = paced(0.01, 0.04)
    assert pacing.steps((9, 0)) == 64
    pacing.note((9, 0), 0.0)
    assert pacing.steps((9, 0)) == 64


def test_paces_are_smoothed() -> None:
    pacing = paced(1.0, 1.0, steps=100)
    expected = 1.0
    for pace in (3.0, 3.0, 1.5):
        pacing.note(SLOW, pace)
        expected += SMOOTHING * (pace - expected)
        assert pacing.steps(SLOW) == round(100 / expected)


def test_one_that_has_gone_sets_no_pace() -> None:
    pacing = paced(0.01, 0.04)
    pacing.keep_only([SLOW])
    assert pacing.steps(SLOW) == 64
    pacing.keep_only([])
    assert pacing.steps(SLOW) == 64
