"""Lock-free threads: lanes compute at the same time on one shared parameter vector.

The vector is read and written by all lanes and by the loop (fresh shards) without any lock, as in
Hogwild (Niu et al., NIPS 2011) and Project Adam (Chilimbi et al., OSDI 2014, section 4.1); by lanes
that step on copies of their own only when they merge (see `local`). A read may see some float32
elements before and some after an update, and of two updates of one element at the same moment one
may be lost; single elements are never torn. Everything else is exact: work is handed over through
queues, and a lane's gradient belongs to the lane while it computes and to the loop while it is
exchanged.
"""

from collections.abc import Callable, Mapping
from functools import partial

from ..common.clock import Clock
from ..common.loop import Background, attempt
from .events import Compute, Computed, ComputePart, Partly
from .model import Factors
from .parts.stepper import PartStepper
from .step import Announce, Stepper

INLINE_BELOW = 0.003
"""Seconds: a single thread whose steps are shorter computes in the loop's own. Two hand-overs
between threads cost 0.1 to 0.2 ms, and nothing else waits long for so short a step."""


class Lanes:
    """Lanes on `threads` threads: lane n on thread n modulo `threads`. `post` takes events."""

    def __init__(
        self, stepper: Stepper, threads: int, post: Callable[[object], None], clock: Clock
    ) -> None:
        self._stepper, self._clock, self._post = stepper, clock, post
        self._threads = [Background(post, f"thread {number}") for number in range(threads)]
        self._lasted = float("inf")

    def compute(self, action: Compute) -> object:
        """Start one step on its lane, or take it at once. Called by the loop.

        Returns:
            the event if the step is done; None if it will be posted.
        """
        if len(self._threads) == 1 and self._lasted < INLINE_BELOW:
            return attempt("thread 0", partial(self._timed, action))
        thread = self._threads[action.lane % len(self._threads)]
        thread.submit(partial(self._timed, action, partial(self._announce, action.lane)))
        return None

    def close(self, patience: float) -> bool:
        """End the threads; whether they have ended within `patience` seconds each. A worker's end
        with its process."""
        ended = [thread.close(patience) for thread in self._threads]
        return all(ended)

    def _announce(self, lane: int, begin: int, factors: Mapping[str, Factors]) -> None:
        """Part of a gradient is ready. Of the last part the end of the step tells."""
        if begin:
            self._post(Partly(lane, begin, factors))

    def _timed(self, action: Compute, announce: Announce | None = None) -> Computed:
        began = self._clock.now()
        computed = step(self._stepper, action, announce)
        self._lasted = (self._clock.now() - began) / len(action.batches)
        return computed


class PartLane:
    """The one thread that computes a part of a cut net. `post` takes events."""

    def __init__(self, stepper: PartStepper, post: Callable[[object], None], clock: Clock) -> None:
        self._stepper, self._clock = stepper, clock
        self._thread = Background(post, "part")
        self._lasted = float("inf")

    def compute(self, action: ComputePart) -> object:
        """Start an action, or take it at once where such actions are short. Called by the loop.

        Returns:
            the event if it is done; None if it will be posted.
        """
        work = partial(self._timed, action)
        if self._lasted < INLINE_BELOW:
            return attempt("part", work)
        self._thread.submit(work)
        return None

    def _timed(self, action: ComputePart) -> object:
        began = self._clock.now()
        event = self._stepper.perform(action.action, action.progress)
        self._lasted = self._clock.now() - began
        return event


def step(stepper: Stepper, action: Compute, announce: Announce | None = None) -> Computed:
    """Run one `Compute` action to its event."""
    metrics = stepper.compute(action, announce)
    return Computed(action.lane, metrics, stepper.factors(action))
