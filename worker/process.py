"""The worker's process: joins its state to the transport, the lanes and the model."""

import os
from dataclasses import replace
from functools import partial

from ..common import partition
from ..common.cluster import DataShape
from ..common.errors import UserError
from ..common.job import Job
from ..common.loop import Background
from ..common.messages import Attach, Shelf
from ..common.node import Action, Exit, Failed
from ..common.runtime import Options, Runtime
from ..common.segment import Segment, place
from ..common.session import Welcomed
from ..common.types import Float32, Role
from .device import find
from .device_lanes import DeviceLanes
from .device_step import DeviceStepper, stepper_on
from .events import Build, Built, Compute, ComputePart, Measure, Measured
from .feeding import CREDITS
from .parts.stepper import PartStepper
from .shelf import Slots, room
from .state import Worker
from .step import Allocate, Stepper, in_own_memory
from .threads import Lanes, PartLane


class WorkerProcess:
    """Performs a worker's actions."""

    def __init__(self, options: Options, device: str = "", threads: int = 0) -> None:
        """`device` and `threads` are this worker's own, whatever the job says; empty, 0: as the
        job says."""
        self._device, self._threads = device, threads
        self._runtime = Runtime(Role.WORKER, options, listens=True)
        self._state = Worker(self._runtime.courier(), **self._runtime.session())
        self._loop = self._runtime.loop(self._state, self._perform)
        self._beside = Background(self._loop.post, "worker")
        self._job = Job()
        self._rank = 0
        self._stepper: Stepper | PartStepper | None = None
        self._lanes: Lanes | DeviceLanes | None = None
        self._part: PartLane | None = None

    def run(self) -> Exit:
        """From joining to the end."""
        return self._runtime.run(self._loop, self._state.start(self._runtime.clock.now()))

    def _perform(self, action: Action) -> object:
        if isinstance(action, Compute):
            assert self._lanes is not None
            return self._lanes.compute(action)
        if isinstance(action, ComputePart):
            assert self._part is not None
            return self._part.compute(action)
        if isinstance(action, Measure):
            self._beside.submit(partial(self._measure, action))
        elif isinstance(action, Build):
            self._beside.submit(partial(self._build, action))
        else:
            assert isinstance(action, Welcomed)
            self._runtime.telemetry.rename(f"worker-{action.rank}")
            self._rank = action.rank
            return self._take(Job.from_dict(action.job))
        return None

    def _take(self, job: Job) -> Failed | None:
        """The job, with what is this worker's own."""
        try:
            self._job = with_own(job, self._device, self._threads)
        except UserError as wrong:
            return Failed(wrong.exit_status, str(wrong))
        self._state.configure(self._job)
        return None

    def _build(self, action: Build) -> Built:
        assert action.cluster.data is not None
        segment: Segment | None = None

        def shared(rows: int, size: int) -> Float32:
            nonlocal segment
            segment = Segment.create(rows * size)
            return segment.array.reshape(rows, size)

        share = self._job.train.transport in ("auto", "shm") and place()
        allocate, data = shared if share else in_own_memory, action.cluster.data
        built = (self._part_of if partition.is_cut(self._job) else self._whole)(data, allocate)
        slots = self._make_slots(data) if share else None
        attach = None
        if segment is not None:
            rows, size = 1 + len(built.gradients), built.vector.size
            begin = built.starts[self._part_number()] if built.starts else 0
            attach = Attach(place(), os.getpid(), segment.descriptor, rows, size, begin)
        return replace(built, segment=attach, slots=slots)

    def _whole(self, data: DataShape, allocate: Allocate) -> Built:
        stepper, line = stepper_on(find(self._job.worker.device), self._job, data, allocate)
        self._stepper, threads = stepper, self._job.worker.threads
        if isinstance(stepper, DeviceStepper):
            self._lanes = DeviceLanes(stepper, threads, self._loop)
        else:
            self._lanes = Lanes(stepper, threads, self._loop.post, self._runtime.clock)
        return replace(stepper.built(), line=line)

    def _part_of(self, data: DataShape, allocate: Allocate) -> Built:
        stepper = self._stepper = PartStepper(self._job, data, self._part_number(), allocate)
        self._part = PartLane(stepper, self._loop.post, self._runtime.clock)
        return stepper.built()

    def _part_number(self) -> int:
        return partition.place(self._job, self._rank)[1]

    def _make_slots(self, data: DataShape) -> Slots:
        """The shelf; slots that are never written to take no memory."""
        count, elements = room(self._job, data, CREDITS)
        segment = Segment.create(count * elements)
        offer = Shelf(place(), os.getpid(), segment.descriptor, count, 4 * elements)
        return Slots(segment.array.reshape(count, elements), offer)

    def _measure(self, action: Measure) -> Measured:
        assert self._stepper is not None
        return Measured(*self._stepper.evaluate(action.vector, action.portions))


def with_own(job: Job, device: str, threads: int) -> Job:
    """The job with a worker's own device and threads, where they are not empty and 0.

    Raises:
        UserError: they do not fit the job.
    """
    worker = job.worker
    own = replace(worker, device=device or worker.device, threads=threads or worker.threads)
    return replace(job, worker=own)
