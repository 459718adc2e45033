"""How the rate changes over a job: a factor on the rule's rate. Pure.

The clock of a schedule is the server's own: the minibatches applied to a shard, as a fraction of
those that the whole job will make. It needs no agreement between machines and goes on by itself
after a restart.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, cos, floor, pi

from .job import RuleSection

LAST = 0.01
"""The factor at the end of `linear` and `cosine`, and that with which a warm-up begins."""

ONE_CYCLE_RISE = 0.3
"""The part of a job in which `onecycle` rises, where `warmup` does not say."""
ONE_CYCLE_FIRST = 1 / 25
ONE_CYCLE_LAST = 1 / 25 * 1e-4

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule and its settings; immutable, so any number of threads may share it.

    With x the progress after the warm-up, from 0 to 1:

    - `constant`: 1.
    - `linear`: 1 - (1 - LAST) x, as PyTorch's LinearLR.
    - `step`: step_factor^⌊x / step_every⌋, as StepLR; no drop falls on the very end.
    - `cosine`: LAST + (1 - LAST) (1 + cos πx) / 2: Loshchilov and Hutter 2017, "SGDR", equation 5,
      without restarts, as CosineAnnealingLR.
    - `onecycle`: half a wave up from 1/25 to 1 and half a wave down to 1/250,000: Smith and Topin
      2018, "Super-convergence", as in PyTorch's OneCycleLR with `cos`; the rate alone, not the
      momentum. Its rise is its warm-up: 0.3 of the job, or `warmup` where that is above 0.

    A warm-up (Goyal et al. 2017, section 2.2) rises in a straight line from LAST to 1, as LinearLR,
    over the fraction `warmup` of the job. Before the start and after the planned end (portions
    served again) the factor is that of the start and the end.
    """

    shape: str = "constant"
    warmup: float = 0.0
    step_every: float = 0.3334
    step_factor: float = 0.1

    def factor(self, progress: float) -> float:
        """The factor on the rate at `progress`, from 0.0 (start) to 1.0 (end of the job)."""
        done = min(max(progress, 0.0), 1.0)
        rise = self.warmup
        if self.shape == "onecycle":
            rise = rise or ONE_CYCLE_RISE
        if done < rise:
            if self.shape == "onecycle":
                return _wave(ONE_CYCLE_FIRST, 1.0, done / rise)
            return LAST + (1.0 - LAST) * done / rise
        return SHAPES[self.shape](self, (done - rise) / (1.0 - rise))


def make_schedule(section: RuleSection) -> Schedule:
    """The schedule of `[optimizer]` or `[outer]`."""
    return Schedule(section.schedule, section.warmup, section.step_every, section.step_factor)


def _wave(first: float, last: float, x: float) -> float:
    """Half a wave from `first` to `last`."""
    return last + (first - last) * 0.5 * (1.0 + cos(pi * x))


def _step(schedule: Schedule, x: float) -> float:
    # A border that rounding has missed by a hair is a border.
    drops = floor(x / schedule.step_every + _ROUNDING)
    most = ceil(1.0 / schedule.step_every - _ROUNDING) - 1
    return schedule.step_factor ** min(drops, most)


SHAPES: dict[str, Callable[[Schedule, float], float]] = {
    "constant": lambda schedule, x: 1.0,
    "linear": lambda schedule, x: LAST + (1.0 - LAST) * (1.0 - x),
    "step": _step,
    "cosine": lambda schedule, x: _wave(1.0, LAST, x),
    "onecycle": lambda schedule, x: _wave(1.0, ONE_CYCLE_LAST, x),
}
"""What follows the warm-up, at x from 0 to 1."""
