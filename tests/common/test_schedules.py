"""The factor on the rate, against its formulas and PyTorch's schedulers."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from dualshard.common.job import OptimizerSection, OuterSection
from dualshard.common.schedules import LAST, SHAPES, Schedule, make_schedule

STEPS = 120


def test_every_schedule_of_the_job_file_is_there() -> None:
    assert tuple(SHAPES) == OptimizerSection.rules()["schedule"].choices


def test_settings_reach_the_schedule() -> None:
    section = OptimizerSection(schedule="step", warmup=0.1, step_every=0.25, step_factor=0.5)
    assert make_schedule(section) == Schedule("step", 0.1, 0.25, 0.5)
    assert make_schedule(OptimizerSection()) == Schedule("linear")
    assert make_schedule(OuterSection()) == Schedule()


def test_constant_never_changes() -> None:
    assert {Schedule().factor(progress) for progress in (-1.0, 0.0, 0.3, 1.0, 7.0)} == {1.0}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("warmup", [0.0, 0.2])
def test_before_the_start_and_after_the_end_nothing_changes(shape: str, warmup: float) -> None:
    schedule = Schedule(shape, warmup)
    assert schedule.factor(-0.5) == schedule.factor(0.0) > 0
    assert schedule.factor(1.0) == schedule.factor(3.0) > 0


@pytest.mark.parametrize("shape", SHAPES)
def test_rises_in_the_warm_up_and_never_again(shape: str) -> None:
    schedule = Schedule(shape, 0.2)
    values = [schedule.factor(step / 50) for step in range(51)]
    assert values[:11] == sorted(values[:11])
    assert values[10] == max(values) == pytest.approx(1.0)
    assert values[10:] == sorted(values[10:], reverse=True)
    # What follows is the shape on the rest of the job.
    if shape != "onecycle":
        rest = [Schedule(shape).factor((step / 50 - 0.2) / 0.8) for step in range(10, 51)]
        assert values[10:] == pytest.approx(rest)


@pytest.mark.parametrize("progress", [0.1, 0.25, 0.5, 0.9, 1.0])
def test_formulas(progress: float) -> None:
    assert Schedule("linear").factor(progress) == pytest.approx(1 - (1 - LAST) * progress)
    half_wave = (1 + math.cos(math.pi * progress)) / 2
    assert Schedule("cosine").factor(progress) == pytest.approx(LAST + (1 - LAST) * half_wave)


def test_steps_fall_on_their_borders_whatever_the_rounding() -> None:
    thirds = Schedule("step", step_every=1 / 3)
    values = [thirds.factor(step / 30) for step in range(31)]
    assert values == pytest.approx([1.0] * 10 + [0.1] * 10 + [0.01] * 11)
    tenths = Schedule("step", step_every=0.1, step_factor=0.5)
    values = [tenths.factor(step / 10) for step in range(11)]
    assert values == pytest.approx([0.5 ** min(step, 9) for step in range(11)])
    assert [Schedule("step").factor(x) for x in (0.33, 0.34, 0.66, 0.67, 1.0)] == pytest.approx(
        [1.0, 0.1, 0.1, 0.01, 0.01]
    )
    assert Schedule("step", step_every=1.0).factor(1.0) == 1.0
    assert Schedule("step", step_every=0.4).factor(1.0) == pytest.approx(0.01)


# ---- against PyTorch


def torch_factors(make: Callable[[Any, Any], Any], steps: int) -> list[float]:
    torch = pytest.importorskip("torch")
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    factors = []
    for _ in range(steps):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return factors


def same(schedule: Schedule, make: Callable[[Any, Any], Any]) -> None:
    """Equal at the beginning of each of `STEPS` steps."""
    ours = [schedule.factor(step / STEPS) for step in range(STEPS)]
    assert ours == pytest.approx(torch_factors(make, STEPS), rel=1e-6)


def test_linear_equals_pytorch() -> None:
    same(Schedule("linear"), lambda torch, sgd: torch.LinearLR(sgd, 1.0, LAST, STEPS))


def test_cosine_equals_pytorch() -> None:
    same(Schedule("cosine"), lambda torch, sgd: torch.CosineAnnealingLR(sgd, STEPS, LAST))


@pytest.mark.parametrize(("every", "factor"), [(1 / 3, 0.1), (0.25, 0.5)])
def test_step_equals_pytorch(every: float, factor: float) -> None:
    size = round(every * STEPS)
    same(
        Schedule("step", step_every=every, step_factor=factor),
        lambda torch, sgd: torch.StepLR(sgd, size, factor),
    )


@pytest.mark.parametrize("warmup", [0.0, 0.5])
def test_one_cycle_equals_pytorch(warmup: float) -> None:
    # There the first of n steps is at 0, the last at 1, and the top at pct_start n - 1.
    steps, rise = STEPS + 1, warmup or 0.3
    start = (rise * STEPS + 1) / steps
    same(
        Schedule("onecycle", warmup),
        lambda torch, sgd: torch.OneCycleLR(
            sgd, 1.0, total_steps=steps, pct_start=start, cycle_momentum=False
        ),
    )


@pytest.mark.parametrize("warmup", [0.1, 0.25])
def test_a_warm_up_before_a_wave_equals_pytorch(warmup: float) -> None:
    rise = round(warmup * STEPS)

    def make(torch: Any, sgd: Any) -> Any:
        first = torch.LinearLR(sgd, LAST, 1.0, rise)
        then = torch.CosineAnnealingLR(sgd, STEPS - rise, LAST)
        return torch.SequentialLR(sgd, [first, then], [rise])

    same(Schedule("cosine", warmup), make)
