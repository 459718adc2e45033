"""Our side of `bench threads`: the lanes of a worker that steps by itself, one and two threads.

`python -m dualshard.bench.peer_lanes NET BATCH MERGE_EVERY FOLDER` builds what a worker in mode
`local` builds and answers as `peers` says. Here is what the worker's state does there between two
exchanges, and nothing else: it gives a lane that is free its next burst. Each measurement begins
with the first parameters.
"""

import sys
from queue import SimpleQueue
from time import perf_counter
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from ..common.clock import SystemClock
from ..common.cluster import DataShape
from ..common.job import Job
from ..common.node import Failed
from ..worker.batches import Minibatch
from ..worker.events import Compute, Computed
from ..worker.state import BURST, BURST_SECONDS
from ..worker.step import Stepper
from ..worker.threads import Lanes
from .answering import serve
from .nets import CLASSES, NETS
from .peer_lane import RATE, as_minibatch

THREADS = (1, 2)
MINIBATCHES = 16
"""Different ones of each lane, taken in turn."""
LONGEST = 32
"""Minibatches of a burst: a lane's share of an exchange of 64, with two lanes."""


class LaneRun:
    """A worker's lanes, each with minibatches of its own: random pixels and labels."""

    def __init__(self, net: str, batch: int, threads: int, merge_every: int = 0) -> None:
        shape, random = NETS[net].sample_shape, np.random.default_rng(0)
        self._stepper = Stepper(
            make_job(net, batch, threads, merge_every),
            DataShape(60_000, 10_000, CLASSES, shape, 1),
        )
        self._first = self._stepper.vector.copy()
        self._events: SimpleQueue[object] = SimpleQueue()
        self._lanes = Lanes(self._stepper, threads, self._events.put, SystemClock())
        self._batch, self._threads = batch, threads
        self._minibatches: list[list[Minibatch]] = []
        for _ in range(threads):
            inputs = random.random((MINIBATCHES, batch, *shape), np.float32)
            labels = random.integers(0, CLASSES, (MINIBATCHES, batch))
            self._minibatches.append(list(map(as_minibatch, inputs, labels)))
        self._sizes = [BURST] * threads

    def measure(self, seconds: float) -> float:
        """Samples/s of all lanes together, each until its last burst in so many seconds is done."""
        self._stepper.vector[:] = self._first
        begin = perf_counter()
        taken, done = [0] * self._threads, [0.0] * self._threads
        handed = [begin] * self._threads
        events: list[Any] = [self._hand(lane, taken[lane]) for lane in range(self._threads)]
        busy = self._threads
        while busy:
            event = next((found for found in events if found is not None), None)
            events = [found for found in events if found is not event and found is not None]
            event = self._events.get() if event is None else event
            if isinstance(event, Failed):
                raise SystemExit(event.reason)
            assert isinstance(event, Computed)
            lane, now = event.lane, perf_counter()
            taken[lane] += len(event.metrics)
            pace = (now - handed[lane]) / len(event.metrics)
            self._sizes[lane] = min(LONGEST, max(1, int(BURST_SECONDS / pace)))
            if now - begin < seconds:
                handed[lane] = now
                events.append(self._hand(lane, taken[lane]))
            else:
                done[lane] = taken[lane] * self._batch / (now - begin)
                busy -= 1
        return sum(done)

    def close(self) -> None:
        """End the threads."""
        self._lanes.close(10)

    def _hand(self, lane: int, taken: int) -> object:
        """Give a lane its next burst; the event, if it is done at once."""
        own = self._minibatches[lane]
        numbers = range(taken, taken + self._sizes[lane])
        batches = [own[number % MINIBATCHES] for number in numbers]
        return self._lanes.compute(Compute(lane, batches, step=True))


def make_job(net: str, batch: int, threads: int, merge_every: int) -> Job:
    """A worker that steps by itself with plain SGD."""
    return Job.from_dict(
        {
            "model": {"ref": net},
            "data": {"batch_size": batch},
            "train": {"mode": "local"},
            "optimizer": {"rule": "sgd", "lr": RATE, "schedule": "constant"},
            "worker": {"count": 1, "threads": threads, "merge_every": merge_every},
        }
    )


def main() -> None:
    """Answer for each number of threads."""
    net, batch, merge_every = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with threadpool_limits(1, "blas"):
        runs = {threads: LaneRun(net, batch, threads, merge_every) for threads in THREADS}
        serve({str(threads): run.measure for threads, run in runs.items()})


if __name__ == "__main__":
    main()
