"""One training step on one lane of a device: what `step` does on the host, on a GPU.

The parameters are one vector of the device, which all lanes share without locks; each lane has a
stream and a gradient of its own there. Servers know the host's arrays alone. So what came from them
goes up when it has changed (`Compute.fresh`), and the whole gradient, or the parameters that the
worker has stepped by itself, comes down in one copy when it is to be pushed (`Compute.bring`). The
host's arrays are page-locked where they lie, shared memory included: they are the staging buffers,
and nothing is copied twice. Minibatches go through two page-locked buffers a lane.

`start` only gives work to the lane's stream; whoever waits for it may do so on another thread,
while the next lane computes (`device_lanes`). No gradient is announced early, and none goes as
factors: either would be a copy of its own for each layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from ..common import modes
from ..common.cluster import DataShape
from ..common.codecs import CODECS, warm_up_codec
from ..common.errors import UserError
from ..common.job import Job
from ..common.messages import Attach
from ..common.rules import RuleState
from ..common.types import Arrays, Float32, Metrics
from . import device_rules
from .building import guarded, learning, shapes_of
from .checks import check_measures, check_same, check_written, spoil
from .device import Device, Found, Mark, Stream
from .events import Built, Compute
from .layout import Layout, Parameters
from .model import Factors, Model
from .staging import Measures, Staging
from .step import Allocate, Announce, Stepper, example, in_own_memory

NOT_PINNED = "; the system does not let it lock memory, so that copies hold up computing"
ON_HOST = "device auto: {} is there, but {} keeps to the host: computing on the CPU"


class KeepsToTheHost(UserError):
    """The model has no way to compute on a device."""

    def __init__(self, job: Job, device: Device) -> None:
        super().__init__(
            "worker.device",
            job.worker.device,
            f"a model that computes on {device.name}, but {job.model.ref} keeps to the host",
            "give it use(xp) (see docs/models.md), or set worker.device=cpu",
        )


@dataclass(frozen=True)
class Pending:
    """A step that was given to a device."""

    job: Job
    mark: Mark
    measures: Measures

    def finish(self) -> list[Metrics]:
        """Wait until it is done: what was brought is on the host. Any thread may call it, once."""
        self.mark.wait()
        return [check_measures(self.job, found, "gradients") for found in self.measures.read()]


class DeviceLane:
    """What one lane has on the device. Belongs to the thread that computes on it."""

    def __init__(self, device: Device, layout: Layout) -> None:
        self._layout, self._xp = layout, device.xp
        self.stream: Stream = device.stream()
        self.staging = Staging(device, self.stream)
        self.measures = Measures(device, self.stream)
        self.gradient = self._vector()
        self.state: RuleState | None = None

    @cached_property
    def scratch(self) -> Parameters:
        """The gradient of one minibatch, where those of several are added up."""
        return self._vector()

    def _vector(self) -> Parameters:
        return self._layout.views(self._xp.zeros(self._layout.size, np.float32))


class DeviceStepper(Stepper):
    """A `Stepper` whose `vector` and `gradients` are the host's copies of what lies on a device.

    `start`, and `compute`, may run at the same time for different lanes.
    """

    def __init__(
        self, job: Job, data: DataShape, device: Device, allocate: Allocate = in_own_memory
    ) -> None:
        """Raises UserError as `Stepper` does, and `KeepsToTheHost`."""
        self._device, self._xp = device, device.xp
        self.pinned = False
        super().__init__(job, data, partial(self._pinned, allocate))

    def _pinned(self, allocate: Allocate, rows: int, size: int) -> Float32:
        """The host's vectors, page-locked as one block, once it is known that the models move."""
        for model in self._models:
            if not guarded(self._job, "moving it to the device", partial(model.use, self._xp)):
                raise KeepsToTheHost(self._job, self._device)
        block = allocate(rows, size)
        self.pinned = self._device.pin(block)
        return block

    def _warm_up(self, data: DataShape) -> None:
        train = self._job.train
        for name in {train.compression, train.pull_encoding} & CODECS.keys():
            warm_up_codec(name)
        self._evaluation = self._device.stream()
        self._staging = Staging(self._device, self._evaluation)
        with self._evaluation.current():
            self._parameters = self._xp.empty(self.layout.size, np.float32)
            self._snapshot = self._xp.empty(self.layout.size, np.float32)
            self._evaluation.upload(self.vector, self._parameters)
            self._lanes = [DeviceLane(self._device, self.layout) for _ in self.gradients]
            self._clip = device_rules.clipping(
                self._xp, self._job.optimizer, self.layout.size, self._averaged
            )
            self._uploaded = self._evaluation.mark()
        self._uploaded.wait()
        self._kernels = device_rules.kernels(self._xp)
        self._views = self.layout.views(self._parameters)
        self._try(data)

    def _try(self, data: DataShape) -> None:
        """A step that changes nothing: it compiles the kernels, or takes them from the disk."""
        lane, batch = self._lanes[0], example(self._job.data.batch_size, data)
        with lane.stream.current():
            spoil(lane.gradient.flat)
            self._device_backprop(0, lane.gradient, batch, (0, 0, 0))
            check_written(self._job, lane.gradient)
            self._clip(lane.gradient.flat)
            if modes.steps_locally(self._job):
                flat = lane.gradient.flat
                self._rule.apply(flat, flat.copy(), self._rule_state(), kernels=self._kernels)
            lane.gradient.flat[...] = 0
            again = shapes_of(self._job, self._models[0])
            check_same(self._job, self.layout.shapes, again, "after a step")
            lane.stream.mark().wait()

    def built(self, segment: Attach | None = None) -> Built:
        return Built(self.layout_rows(), self.vector, self.gradients, segment, remote=True)

    def compute(self, action: Compute, announce: Announce | None = None) -> list[Metrics]:
        """`start` it and wait: as on the host, but that nothing is announced."""
        return self.start(action).finish()

    def start(self, action: Compute) -> Pending:
        """Give the lane's stream minibatches one after the other, and what is to be brought.

        The lane is busy until the step has finished. Without minibatches it only brings.
        """
        lane = self._lanes[action.lane]
        with lane.stream.current():
            self._refresh(lane, action)
            for index in range(len(action.batches)):
                self._device_minibatch(lane, action, index)
            if action.bring and modes.rounds(self._job):
                lane.stream.download(self._parameters, self.vector)
            elif action.bring:
                lane.stream.download(lane.gradient.flat, self.gradients[action.lane])
            lane.measures.bring()
            return Pending(self._job, lane.stream.mark(), lane.measures)

    def _refresh(self, lane: DeviceLane, action: Compute) -> None:
        """Take up what the servers have changed; see what other lanes have taken up."""
        lane.stream.after(self._uploaded)
        for begin, end in action.fresh:
            lane.stream.upload(self.vector[begin:end], self._parameters[begin:end])
        if action.fresh:
            self._uploaded = lane.stream.mark()

    def _device_minibatch(self, lane: DeviceLane, action: Compute, index: int) -> None:
        batch = action.batches[index]
        into = lane.scratch if action.accumulate else lane.gradient
        arrays = batch.inputs, batch.labels
        lane.measures.add(self._device_backprop(action.lane, into, arrays, batch.seeds))
        self._clip(into.flat)
        if action.step:
            if lane.state is None:
                lane.state = self._rule_state()
            scale = self._schedule.factor(action.progress)
            self._rule.apply(
                self._parameters,
                into.flat,
                lane.state,
                scale,
                self._segments,
                kernels=self._kernels,
            )
        if action.accumulate:
            self._xp.add(lane.gradient.flat, into.flat, out=lane.gradient.flat)

    def _device_backprop(
        self, number: int, into: Parameters, batch: Arrays, key: tuple[int, int, int]
    ) -> Metrics:
        model, random = self._models[number], self._streams[number].at(key)
        there = self._on_device(model, self._lanes[number].staging, batch)
        metrics = learning(
            self._job, batch[1], lambda: model.gradients(self._views, into, there, random)
        )
        return self._kept(metrics, "gradients")

    def _kept(self, metrics: object, method: str) -> Metrics:
        """What a model has measured, if it is a dictionary: the rest is checked on the host."""
        return metrics if isinstance(metrics, dict) else check_measures(self._job, metrics, method)

    def _on_device(self, model: Model, staging: Staging, batch: Arrays) -> Arrays:
        """A minibatch on the device, scaled there; checked while it is here."""
        guarded(self._job, "checking a batch", partial(model.check, batch))
        inputs, labels = (staging.put(array) for array in batch)
        return self._scalings[0].on(self._xp, inputs), labels

    def _rule_state(self) -> RuleState:
        size, slots = self.layout.size, self._rule.slots
        return RuleState(0, {name: self._xp.zeros(size, np.float32) for name in slots})

    def factors(self, action: Compute) -> Mapping[str, Factors]:
        return {}

    def evaluate(self, vector: Float32, portions: list[Arrays]) -> tuple[int, Metrics]:
        views, model = self.layout.views(self._snapshot), self._models[-1]
        measures, counts = Measures(self._device, self._evaluation), list[int]()
        with self._evaluation.current():
            self._evaluation.upload(vector, self._snapshot)
            for portion in portions:
                batch = self._on_device(model, self._staging, portion)
                found = guarded(self._job, "evaluating", partial(model.evaluate, views, batch))
                measures.add(self._kept(found, "evaluate"))
                counts.append(len(portion[1]))
            measures.bring()
            self._evaluation.mark().wait()
        total, sums = sum(counts), dict[str, float]()
        for count, numbers in zip(counts, measures.read(), strict=True):
            metrics = check_measures(self._job, numbers, "evaluate")
            for name, value in metrics.items():
                sums[name] = sums.get(name, 0.0) + value * count
        return total, {name: value / total for name, value in sums.items()}


def stepper_on(found: Found, job: Job, data: DataShape, allocate: Allocate) -> tuple[Stepper, str]:
    """The stepper on what was found, and the line that tells people about it.

    Raises:
        UserError: as `Stepper` and `DeviceStepper` do; but with `auto` a model that keeps to the
            host is left there.
    """
    if found.device is None:
        return Stepper(job, data, allocate), found.line
    try:
        stepper = DeviceStepper(job, data, found.device, allocate)
    except KeepsToTheHost:
        if job.worker.device != "auto":
            raise
        line = ON_HOST.format(found.device.name, job.model.ref)
        return Stepper(job, data, allocate), line
    return stepper, found.line + ("" if stepper.pinned else NOT_PINNED)
