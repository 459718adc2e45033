"""One training step on one lane: the model, the shared vector, and the lane's gradient.

No thread starts here and nothing is sent; `threads` runs it beside the loop, tests run it inline.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..common import modes
from ..common.clipping import clip
from ..common.cluster import DataShape, parse_layout
from ..common.codecs import CODECS, warm_up_codec
from ..common.job import Job
from ..common.messages import Attach, Portion
from ..common.partition import is_consensus
from ..common.rates import averaged_in, check_rates, make_segments
from ..common.rules import Rule, make_rule
from ..common.schedules import make_schedule
from ..common.types import Array, Arrays, Float32, Metrics
from .admm.penalty import Penalty
from .admm.replicas import Consensus
from .batches import Lease, Minibatch
from .building import build_model, guarded, learning, shapes_of
from .checks import check_measures, check_same, check_start, check_written, spoil
from .events import Built, Compute
from .layout import Layout, Parameters
from .local import Copies, LocalRule
from .measuring import Examiner
from .model import Factors
from .randomness import BatchStream
from .scaling import Scaling

Allocate = Callable[[int, int], Float32]
"""Makes a float32 array (rows, size) of zeros; a process may place it in shared memory."""


Announce = Callable[[int, Mapping[str, Factors]], None]
"""Told while a gradient is computed: its elements from this one on are final, and the factors of
the weights there."""


def in_own_memory(rows: int, size: int) -> Float32:
    """The plain `Allocate`."""
    return np.zeros((rows, size), np.float32)


def example(samples: int, data: DataShape) -> Arrays:
    """A minibatch of zeros, with labels of class 0 in the form that those of training have."""
    inputs = np.zeros((samples, *data.sample_shape), np.float32)
    if not data.soft:
        return inputs, np.zeros(samples, np.int64)
    labels = np.zeros((samples, data.classes), np.float32)
    labels[:, 0] = 1
    return inputs, labels


class Stepper:
    """Model instances, one a lane and one for evaluation, over one shared parameter vector.

    There are `modes.lanes` lanes: `worker.threads` times the minibatches in flight.

    `compute` may run at the same time for different lanes; they share `vector` without locks.
    """

    def __init__(
        self,
        job: Job,
        data: DataShape,
        allocate: Allocate = in_own_memory,
    ) -> None:
        lanes = modes.lanes(job)
        self._job = job
        self._models = [build_model(job, data) for _ in range(lanes + 1)]
        shapes = shapes_of(job, self._models[0])
        for model in self._models[1:]:
            check_same(job, shapes, shapes_of(job, model), "built again")
        self.layout = Layout(shapes)
        rows = allocate(1 + lanes, self.layout.size)
        self.vector, self.gradients = rows[0], list(rows[1:])
        start = np.random.default_rng((job.job.seed, 0))
        views = self.layout.views(self.vector)
        guarded(job, "starting its parameters", lambda: self._models[0].start(views, start))
        check_start(job, views)
        self._views = views
        self._gradient_views = [self.layout.views(gradient) for gradient in self.gradients]
        self._scratch: list[Float32 | None] = [None] * lanes
        self._streams = [BatchStream(job.job.seed) for _ in range(lanes)]
        self._scalings = [Scaling(data) for _ in range(lanes)]
        self._examiner = Examiner(job, data, self._models[-1], self.layout)
        layout = parse_layout(self.layout_rows())
        trained = [parameter.name for parameter in layout if not parameter.averaged]
        check_rates(job.optimizer.rates, trained)
        check_rates(job.outer.rates, trained, "outer.rates")
        self._segments = make_segments(layout, job.optimizer.rates, job.optimizer.weight_decay)
        self._averaged = averaged_in(self._segments)
        self._rule: Rule = make_rule(job.optimizer)
        self._schedule = make_schedule(job.optimizer)
        self._local = LocalRule(job, self._rule, self._schedule, self.layout, self._segments)
        self._consensus: Consensus | None = None
        own = views
        if is_consensus(job):
            self._consensus = Consensus(self.layout.size, Penalty.of(job), self._averaged)
            self._consensus.take(self.vector, 0)
            own = self.layout.views(self._consensus.w)
        every = modes.merge_every(job)
        self._copies = Copies(self.layout, own, lanes, every, self._averaged)
        self._warm_up(data)

    def _warm_up(self, data: DataShape) -> None:
        """Compile and touch everything once, so that the first real step is like the others."""
        inputs, labels = example(self._job.data.batch_size, data)
        train = self._job.train
        for name in {train.compression, train.pull_encoding} & CODECS.keys():
            warm_up_codec(name)
        portion = Portion(0, 0, False, inputs, labels)
        batch = Minibatch(Lease("", portion, 1), 0, inputs, labels)
        spoil(self.gradients[0])
        self._backprop(0, self._views, self._gradient_views[0], batch)
        check_written(self._job, self._gradient_views[0])
        again = shapes_of(self._job, self._models[0])
        check_same(self._job, self.layout.shapes, again, "after a step")
        clip(self.gradients[0], self._job.optimizer, self._averaged)
        if modes.rounds(self._job):
            for views, part in self._copies.parts(0, [batch, batch]):
                self._descend(0, self.layout.views(views.flat.copy()), part, 0.0)
            self._local.forget()
        self.gradients[0][:] = 0

    def built(self, segment: Attach | None = None) -> Built:
        """What the worker's state has to know; `segment` is where the arrays are shared."""
        names = tuple(self._models[0].factors())
        return Built(
            self.layout_rows(),
            self.vector,
            self.gradients,
            segment,
            names,
            consensus=self._consensus,
        )

    def layout_rows(self) -> list[list[Any]]:
        """(name, decays, averaged, dimension, ...) of every parameter, as in `Describe`."""
        model = self._models[0]
        return [
            [name, bool(model.decayed(name)), bool(model.averaged(name)), *shape]
            for name, shape in self.layout.shapes.items()
        ]

    def compute(self, action: Compute, announce: Announce | None = None) -> list[Metrics]:
        """Minibatches one after the other: write (or add) their clipped gradients to the lane's,
        and step locally if asked. Returns the measures of each.

        The local step uses the rule of `[optimizer]` with a state of the lane's own; for sgd that
        is the Downpour client of Dean et al. 2012. In modes where only the steps count, what is
        left in the lane's gradient means nothing.

        Arguments:
            announce: called while computing, where the gradient is final when it is computed.
        """
        if action.step and modes.rounds(self._job):
            measures = []
            for views, part in self._copies.parts(action.lane, action.batches):
                measures += self._descend(action.lane, views, part, action.progress)
            return measures
        if not action.announce or self._job.optimizer.clip or self._job.optimizer.clip_value:
            announce = None
        return [self._minibatch(action, batch, announce) for batch in action.batches]

    def _descend(
        self, lane: int, views: Parameters, batches: Sequence[Minibatch], progress: float
    ) -> list[Metrics]:
        """A step for each minibatch: all in one go where rule and model allow it."""
        # A penalty has its gradient at the parameters of each step: no shortcut knows of it.
        if self._consensus is None and (paces := self._local.paces(progress)):
            model, stream, scaling = self._models[lane], self._streams[lane], self._scalings[lane]
            inputs: Sequence[Array] = [batch.inputs for batch in batches]
            if scaling.normalises:  # else bytes may stay bytes
                inputs = scaling.all(inputs)
            labels = [batch.labels for batch in batches]
            arrays = list(zip(inputs, labels, strict=True))
            found = learning(
                self._job,
                labels[0],
                lambda: model.descend(views, arrays, paces, lambda i: stream.at(batches[i].seeds)),
            )
            if found is not None:
                return [check_measures(self._job, each, "descend") for each in found]
        measures, gradient = [], self._gradient_views[lane]
        for batch in batches:
            measures.append(self._gradients(lane, views, gradient, batch))
            self._local.apply(lane, views.flat, gradient.flat, progress)
        return measures

    def _minibatch(self, action: Compute, batch: Minibatch, announce: Announce | None) -> Metrics:
        lane, model = action.lane, self._models[action.lane]
        model.skip_products(action.skip)
        model.on_ready(announce and (lambda begin: announce(begin, self.factors(action))))
        fresh = self._fresh(lane) if action.accumulate else self._gradient_views[lane]
        metrics = self._gradients(lane, self._views, fresh, batch)
        if action.step:
            self._local.apply(lane, self.vector, fresh.flat, action.progress)
        if action.accumulate:
            np.add(self.gradients[lane], fresh.flat, out=self.gradients[lane])
        return metrics

    def _gradients(
        self, lane: int, parameters: Parameters, into: Parameters, batch: Minibatch
    ) -> Metrics:
        metrics = self._backprop(lane, parameters, into, batch)
        if self._consensus is not None:
            self._consensus.penalty_gradient(into.flat, parameters.flat)
        clip(into.flat, self._job.optimizer, self._averaged)
        return metrics

    def _backprop(
        self, lane: int, parameters: Parameters, into: Parameters, batch: Minibatch
    ) -> Metrics:
        model, random = self._models[lane], self._streams[lane].at(batch.seeds)
        arrays = (self._scalings[lane](batch.inputs), batch.labels)
        metrics = learning(
            self._job, batch.labels, lambda: model.gradients(parameters, into, arrays, random)
        )
        return check_measures(self._job, metrics, "gradients")

    def factors(self, action: Compute) -> Mapping[str, Factors]:
        """The factors of the lane's last minibatch, valid until it computes again; none where the
        action does not want them."""
        return dict(self._models[action.lane].factors()) if action.factors else {}

    def _fresh(self, lane: int) -> Parameters:
        scratch = self._scratch[lane]
        if scratch is None:
            scratch = self._scratch[lane] = np.zeros(self.layout.size, np.float32)
        return self.layout.views(scratch)

    def evaluate(self, vector: Float32, portions: list[Arrays]) -> tuple[int, Metrics]:
        """The number of samples and the means over them, with the parameters in `vector`."""
        return self._examiner.evaluate(vector, portions)
