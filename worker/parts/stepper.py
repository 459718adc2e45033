"""One part of a cut net on one worker: its slice of the vector, and what computes it.

No thread starts here and nothing is sent; `threads` runs it beside the loop, tests run it inline.
"""

from typing import Any

from ...common.cluster import DataShape, parse_layout
from ...common.job import Job
from ...common.types import Arrays, Float32, Metrics
from ..admm.weights import Agreement
from ..events import Built
from ..measuring import Examiner
from ..scaling import Scaling
from ..step import Allocate, in_own_memory
from .by_activations import Lower, Top
from .by_backprop import ByBackprop
from .by_weights import Boundary, ByWeights
from .cutting import cut
from .holding import Holding
from .net import CutNet
from .part import Part
from .probe import probe, warm_up
from .runner import Runner, stream_of
from .trainer import Action, Event, Trainer


class PartStepper:
    """What `step.Stepper` is to a whole net, for part number `part`, counted from the lowest.

    `vector` and `gradient` are those of the part: elements [`begin`, `end`) of the whole vector,
    in which parts begin at `starts`. Belongs to one thread, but for what `vector` allows: another
    may write fresh values there between two actions.
    """

    def __init__(
        self, job: Job, data: DataShape, part: int, allocate: Allocate = in_own_memory
    ) -> None:
        """Raises UserError: the net cannot be cut so, or a part does not keep its contract."""
        self._job, self._data, self._part = job, data, part
        self._net = net = CutNet(job, data)
        self.starts, (self.begin, self.end) = net.starts, net.span(part)
        rows = allocate(2, self.end - self.begin)
        self.vector, self.gradient = rows[0], rows[1]
        first = net.start()
        layout, shapes = parse_layout(net.rows), net.shapes_of(part)
        self._holding = Holding(job, layout, shapes, self.begin, self.vector, self.gradient)
        self._runner = self._run(net.parts[part])
        self._examiner = Examiner(job, data, net.model, net.whole)
        inputs = probe(job, data, net, part, first, self._runner)
        self._holding.forget(first[self.begin : self.end])
        warm_up(job, data, part, inputs, self._train())
        self._holding.forget(first[self.begin : self.end])
        self._trainer = self._train()

    def built(self) -> Built:
        """What the worker's state has to know."""
        return Built(self.layout_rows(), self.vector, [self.gradient], starts=tuple(self.starts))

    def layout_rows(self) -> list[list[Any]]:
        """(name, decays, averaged, dimension, ...) of every parameter of the whole net, in order,
        as in `Describe`."""
        return self._net.rows

    def perform(self, action: Action, progress: float = 0.0) -> Event:
        """Compute an action of the boundary; rates are those of `progress`, 0 to 1."""
        return self._trainer.perform(action, progress)

    def evaluate(self, vector: Float32, portions: list[Arrays]) -> tuple[int, Metrics]:
        """The number of samples and the means over them, of the net glued together from the whole
        `vector`.

        In coupling `weights` `copy_accuracy` is that of the net with the boundary layers of the
        lower parts.
        """
        found = self._examiner.evaluate(self._net.glued(vector), portions)
        if self._net.sides:
            _, metrics = self._examiner.evaluate(self._net.glued(vector, copies=True), portions)
            if "accuracy" in metrics:
                found[1]["copy_accuracy"] = metrics["accuracy"]
        return found

    def _train(self) -> Trainer:
        """What trains in the job's coupling, with nothing behind it."""
        job, part, holding = self._job, self._part, self._holding
        match job.partition.coupling:
            case "backprop":
                return ByBackprop(part, holding, self._runner, self._one_more)
            case "weights":
                return ByWeights(job, holding, self._runner, self._side(), self._boundaries())
        if part == len(self.starts) - 1:
            return Top(job, self._data.samples, holding, self._runner)
        return Lower(job, part, self._data.samples, holding, self._runner)

    def _run(self, part: Part) -> Runner:
        job, lowest = self._job, self._part == 0
        parameters, gradients = self._holding.views({name: name for name in part.shapes()})
        stream, scaling = stream_of(job.job.seed, self._part), Scaling(self._data)
        return Runner(job, part, parameters, gradients, stream, scaling if lowest else None)

    def _one_more(self) -> Runner:
        """A runner of an instance that nobody else has."""
        return self._run(cut(self._job, self._data)[self._part])

    def _side(self) -> Runner | None:
        """What computes the copy and the head."""
        if self._part >= len(self._net.sides):
            return None
        side = self._net.sides[self._part]
        names = {name: f"part{self._part}.{name}" for name in side.shapes()}
        stream = stream_of(self._job.job.seed, self._part + len(self.starts))
        return Runner(self._job, side, *self._holding.views(names), stream)

    def _boundaries(self) -> dict[int, Boundary]:
        """The copies that this part holds, by the number of the cut."""
        found, sides, part = dict[int, Boundary](), self._net.sides, self._part
        if part:
            found[part - 1] = self._boundary(list(sides[part - 1].twins().values()), -1)
        if part < len(sides):
            names = [f"part{part}.{name}" for name in sides[part].twins()]
            found[part] = self._boundary(names, 1)
        return found

    def _boundary(self, names: list[str], sign: int) -> Boundary:
        spans = self._holding.layout.spans()
        begin, end = spans[names[0]][0], spans[names[-1]][1]
        averaged = [
            slice(span.start - begin, min(span.stop, end) - begin)
            for span in self._holding.averaged
            if begin <= span.start < end
        ]
        return Boundary(slice(begin, end), Agreement(end - begin, sign, averaged))
