"""Lock-free threads: T lanes compute at the same time on one shared parameter vector.

The vector is read and written by all lanes and by the loop (fresh shards) without any lock, as in
Hogwild (Niu et al., NIPS 2011) and Project Adam (Chilimbi et al., OSDI 2014, section 4.1). A read
may see some float32 elements before and some after an update; single elements are never torn.
Everything else is exact: work is handed over through queues, and a lane's gradient belongs to the
lane while it computes and to the loop while it is exchanged.
"""

from functools import partial

from ..common.clock import Clock
from ..common.loop import Background, Loop, attempt
from .events import Compute, Computed
from .step import Stepper

INLINE_BELOW = 0.003
"""Seconds: a single lane whose steps are shorter computes in the loop's own thread. Two hand-overs
between threads cost 0.1 to 0.2 ms, and nothing else waits long for so short a step."""


class Lanes:
    """One thread a lane; `Computed` is posted to the loop when a lane is done."""

    def __init__(self, stepper: Stepper, count: int, loop: Loop, clock: Clock) -> None:
        self._stepper, self._loop, self._clock = stepper, loop, clock
        self._threads = [Background(loop.post, f"lane {number}") for number in range(count)]
        self._lasted = float("inf")

    def compute(self, action: Compute) -> None:
        """Start one step on its lane. Called by the loop."""
        if len(self._threads) == 1 and self._lasted < INLINE_BELOW:
            self._loop.post_here(attempt("lane 0", partial(self._timed, action)))
        else:
            self._threads[action.lane].submit(partial(self._timed, action))

    def _timed(self, action: Compute) -> Computed:
        began = self._clock.now()
        computed = step(self._stepper, action)
        self._lasted = self._clock.now() - began
        return computed


def step(stepper: Stepper, action: Compute) -> Computed:
    """Run one `Compute` action to its event."""
    metrics = stepper.compute(
        action.lane, action.inputs, action.labels, accumulate=action.accumulate, step=action.step
    )
    return Computed(action.lane, metrics)
