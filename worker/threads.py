"""Lock-free threads: T lanes compute at the same time on one shared parameter vector.

The vector is read and written by all lanes and by the loop (fresh shards) without any lock, as in
Hogwild (Niu et al., NIPS 2011) and Project Adam (Chilimbi et al., OSDI 2014, section 4.1). A read
may see some float32 elements before and some after an update; single elements are never torn.
Everything else is exact: work is handed over through queues, and a lane's gradient belongs to the
lane while it computes and to the loop while it is exchanged.
"""

from collections.abc import Callable
from functools import partial

from ..common.loop import Background
from .state import Compute, Computed
from .step import Stepper


class Lanes:
    """One thread a lane; `compute` returns at once, `Computed` is posted when the lane is done."""

    def __init__(self, stepper: Stepper, count: int, post: Callable[[object], None]) -> None:
        self._stepper = stepper
        self._threads = [Background(post, f"lane {number}") for number in range(count)]

    def compute(self, action: Compute) -> None:
        """Start one step on its lane. Called by the loop."""
        self._threads[action.lane].submit(partial(step, self._stepper, action))


def step(stepper: Stepper, action: Compute) -> Computed:
    """Run one `Compute` action to its event."""
    metrics = stepper.compute(
        action.lane, action.inputs, action.labels, accumulate=action.accumulate, step=action.step
    )
    return Computed(action.lane, metrics)
