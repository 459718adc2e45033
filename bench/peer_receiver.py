"""The worker's end of `bench data`: takes portions as a worker does, and scales them to float32.

`python -m dualshard.bench.peer_receiver CONTROLLER FOLDER` joins the governor there with a worker's
own state for its data (credits, leases, shelf), transport and loop. In place of the net there is
the scaling of each minibatch to float32, which touches every byte. It answers as `peers` says, with
images/s.
"""

import os
import sys
from dataclasses import dataclass
from time import perf_counter

from ..common.cluster import Cluster
from ..common.delivery import Courier
from ..common.job import Job
from ..common.messages import Shelf
from ..common.node import Action
from ..common.runtime import Options, Runtime
from ..common.segment import Segment, place
from ..common.session import Welcomed
from ..common.types import Role
from ..worker.batches import Minibatch
from ..worker.events import Build, Compute
from ..worker.feeding import CREDITS, Feeding
from ..worker.scaling import Scaling
from ..worker.shelf import Slots, room
from .answering import serve

LONGEST_WAIT = 0.05
"""Seconds between two looks at the clock where nothing comes."""


@dataclass(frozen=True, slots=True)
class Made:
    """Local event: the worker is built; `slots` is its shelf, None where it has none."""

    slots: Slots | None


@dataclass(frozen=True, slots=True)
class Taken:
    """Local event: a minibatch has been scaled."""

    batch: Minibatch


class Receiver(Feeding):
    """A worker's state without parameters: whatever comes is computed on at once."""

    def __init__(self, courier: Courier, **session: object) -> None:
        super().__init__(courier, **session)
        self._made: Made | None = None

    def viewed(self, old: Cluster, new: Cluster) -> None:
        if new.data is not None and old.data is None:
            self.do(Build(new))
        self._wants_data = True
        self.go_on()

    def happened(self, event: object) -> None:
        if isinstance(event, Made):
            self._made = event
            self.offer_shelf(event.slots)
        else:
            assert isinstance(event, Taken)
            self.applied(event.batch)
        self.go_on()

    def go_on(self) -> None:
        """Compute on what is here, and ask for more."""
        if self._made is None:
            return
        while (batch := self._ring.take()) is not None:
            self.do(Compute(0, [batch]))
        if self._wants_data:
            self.ask_for_data()


class ReceiverProcess:
    """Performs a receiver's actions, as long as it is measured."""

    def __init__(self, controller: str) -> None:
        self._runtime = Runtime(Role.WORKER, Options(controller, log_level="error"), listens=False)
        self._state = Receiver(self._runtime.courier(), **self._runtime.session())
        self._loop = self._runtime.loop(self._state, self._perform)
        self._job = Job()
        self._scaling: Scaling | None = None
        self._samples = 0
        self._loop.begin(self._state.start(self._runtime.clock.now()))

    def measure(self, seconds: float) -> float:
        """Images/s over `seconds`, after a third of that in which what has been prepared while
        this process stood still is used up."""
        self._turn(seconds / 3)
        before, begin = self._samples, perf_counter()
        self._turn(seconds)
        return (self._samples - before) / (perf_counter() - begin)

    def _turn(self, seconds: float) -> None:
        end = perf_counter() + seconds
        while perf_counter() < end and self._loop.ended is None:
            self._loop.turn(LONGEST_WAIT)

    def _perform(self, action: Action) -> object:
        if isinstance(action, Compute):
            assert self._scaling is not None
            (batch,) = action.batches
            self._scaling(batch.inputs)
            self._samples += len(batch.labels)
            return Taken(batch)
        if isinstance(action, Build):
            return self._build(action.cluster)
        assert isinstance(action, Welcomed)
        self._job = Job.from_dict(action.job)
        self._state.configure(self._job)
        return None

    def _build(self, cluster: Cluster) -> Made:
        """As a worker's process does."""
        assert cluster.data is not None
        self._scaling = Scaling(cluster.data)
        if self._job.train.transport not in ("auto", "shm") or not place():
            return Made(None)
        count, elements = room(self._job, cluster.data, CREDITS)
        segment = Segment.create(count * elements)
        offer = Shelf(place(), os.getpid(), segment.descriptor, count, 4 * elements)
        return Made(Slots(segment.array.reshape(count, elements), offer))


def main() -> None:
    """Answer as long as anybody asks."""
    process = ReceiverProcess(sys.argv[1])
    serve({"a worker's end": process.measure})


if __name__ == "__main__":
    main()
