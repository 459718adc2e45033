"""Lanes on a device: one thread gives work, another waits until it is done.

So the copy of one lane's gradient to the host runs beside the next lane's minibatch: neither thread
holds up the other, and both wait without the GIL.
"""

from functools import partial

from ..common.loop import Background, Loop
from .device_step import DeviceStepper, Pending
from .events import Compute, Computed


class DeviceLanes:
    """Lanes on `threads` threads: lane n on thread n modulo `threads`, and a waiting one each."""

    def __init__(self, stepper: DeviceStepper, threads: int, loop: Loop) -> None:
        self._stepper = stepper
        self._givers = [Background(loop.post, f"thread {number}") for number in range(threads)]
        self._waiters = [Background(loop.post, f"thread {number}") for number in range(threads)]

    def compute(self, action: Compute) -> None:
        """Start one step on its lane; its event will be posted. Called by the loop."""
        number = action.lane % len(self._givers)
        self._givers[number].submit(partial(self._start, action, self._waiters[number]))

    def _start(self, action: Compute, waiter: Background) -> None:
        waiter.submit(partial(_finish, action.lane, self._stepper.start(action)))

    def close(self, patience: float) -> bool:
        """Finish what was submitted, then end the threads; whether they end within `patience`
        seconds each."""
        ended = [thread.close(patience) for thread in (*self._givers, *self._waiters)]
        return all(ended)


def _finish(lane: int, pending: Pending) -> Computed:
    return Computed(lane, pending.finish())
