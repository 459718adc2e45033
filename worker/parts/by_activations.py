"""How a part trains in coupling `activations`: ADMM.md, section A; the formulas are in
`admm.activations`.

Random layers below the top draw the same numbers in all passes over a minibatch as when its outputs
were sent, for which the targets are. The top part draws afresh in each pass.
"""

import numpy as np

from ...common import partition
from ...common.errors import RemoteError
from ...common.job import Job
from ...common.types import Float32, Metrics
from ..admm.activations import Free, Multipliers, pull, weight_of_distance
from ..admm.penalty import Penalty
from ..admm.residuals import closed, rms, squared_distance
from ..boundary.events import NONE, Known, Train, Trained
from ..nn.native.program import readable
from .holding import Holding
from .runner import Runner, flat_of, minibatches
from .trainer import Action, Event, Trainer, go_forward, known_of


class Top(Trainer):
    """The part with the loss: it moves y along with its parameters, and it knows ρ."""

    def __init__(self, job: Job, samples: int, holding: Holding, runner: Runner) -> None:
        """`samples` is the size of the data set."""
        self._admm, self._holding, self._runner = job.admm, holding, runner
        self._multipliers = Multipliers(samples, job.admm.gamma)
        self._penalty = Penalty.of(job)

    def perform(self, action: Action, progress: float) -> Event:
        assert isinstance(action, Train)
        rows, rho = action.rows, self._penalty.rho
        known = known_of(rows, action.known)
        free = Free(rows.inputs, known.indices, self._multipliers, self._admm.gamma, rho)
        metrics = self._measure(action, known)
        steps, found = self._holding.steps, self._pass(action, known, free, progress, 0)
        for again in range(1, self._admm.passes):
            self._pass(action, known, free, progress, again)
        targets, primal = free.finish()
        self._penalty.advance(primal, rows.dual)
        steps = self._holding.steps - steps
        metrics = metrics or found
        return Trained(action.round, steps, targets, rho, metrics=metrics, primal=primal)

    def _measure(self, action: Train, known: Known) -> Metrics:
        """Where there are multipliers: the measures of one minibatch of the round at the real
        inputs. What the first pass sees is y, which they have moved beyond these, to where the loss
        is larger: on curves it would look as if nothing were learnt."""
        if not self._admm.gamma:
            return {}
        batches = [part for part, _ in minibatches(action.rows)]
        part = batches[action.round % len(batches)]
        outputs = self._runner.forward(action.rows.inputs[part], None)
        return self._runner.judge(outputs, known.labels[part]).metrics

    def _pass(
        self, action: Train, known: Known, free: Free, progress: float, again: int
    ) -> Metrics:
        """One pass over the minibatches: a step of the parameters and one of y for each (A.2).
        The measures, means over the samples before their steps."""
        sums, samples = dict[str, float](), len(action.rows.inputs)
        for part, seeds in minibatches(action.rows):
            count = part.stop - part.start
            outputs = self._runner.forward(free.of(part), seeds, again)
            judged = self._runner.judge(outputs, known.labels[part])
            slopes = flat_of(self._runner.backward(judged.slope))
            self._holding.step(progress)
            free.step(part, slopes, count, self._admm.c)
            for name, value in judged.metrics.items():
                sums[name] = sums.get(name, 0.0) + value * count
        return {name: value / samples for name, value in sums.items()}


class Lower(Trainer):
    """A part that is given targets: the lowest one, or one in the middle, which has a y too."""

    def __init__(self, job: Job, part: int, samples: int, holding: Holding, runner: Runner) -> None:
        """`samples` is the size of the data set."""
        self._admm, self._part, self._holding, self._runner = job.admm, part, holding, runner
        self._below_top = partition.parts(job) - 1 - part
        self._multipliers = Multipliers(samples, job.admm.gamma_middle)
        self._slopes: Float32 = NONE

    def perform(self, action: Action, progress: float) -> Event:
        if not isinstance(action, Train):
            return go_forward(self._runner, action)
        steps, free = self._holding.steps, self._free(action)
        targets, sent = (
            readable(values, np.float32).reshape(-1) for values in (action.targets, action.outputs)
        )
        if sent.size != targets.size or targets.size % len(action.rows.inputs):
            raise RemoteError(f"{targets.size} numbers of targets for {sent.size} of outputs")
        first = squared_distance(sent, targets)
        for _ in range(self._admm.passes):
            left, moved = self._pass(action, free, targets, sent, progress)
        down, primal = free.finish() if free else (NONE, 0.0)
        return Trained(
            action.round,
            self._holding.steps - steps,
            down,
            action.rho,
            primal=primal,
            dual=action.rho * rms(moved, sent.size),
            gap=closed(left, first),
        )

    def _free(self, action: Train) -> Free | None:
        """y, in all parts but the lowest."""
        if not self._part:
            return None
        inputs, known = action.rows.inputs, action.known
        if known is None or len(known.indices) != len(inputs):
            count = 0 if known is None else len(known.indices)
            raise RemoteError(f"{count} numbers for {len(inputs)} samples")
        return Free(inputs, known.indices, self._multipliers, self._admm.gamma_middle, action.rho)

    def _pass(
        self, action: Train, free: Free | None, targets: Float32, sent: Float32, progress: float
    ) -> tuple[float, float]:
        """One pass over the minibatches: a step towards the targets for each (A.4), and one of y.
        The squared distances of the outputs to the targets and to what was sent."""
        left, moved, rho = 0.0, 0.0, action.rho
        width = targets.size // len(action.rows.inputs)
        weight = weight_of_distance(self._admm, rho, self._below_top)
        for part, seeds in minibatches(action.rows):
            count, span = part.stop - part.start, slice(part.start * width, part.stop * width)
            inputs = free.of(part) if free else action.rows.inputs[part]
            outputs = self._runner.forward(inputs, seeds)
            delta = self._take(span.stop - span.start)
            per_sample = np.float32(weight / count)
            assert outputs.size == delta.size
            found = pull(flat_of(outputs), targets[span], sent[span], per_sample, delta)
            left, moved = left + found[0], moved + found[1]
            source = self._runner.backward(delta.reshape(outputs.shape))
            self._holding.step(progress)
            if free:
                gain = rho * count / weight
                free.step(part, flat_of(source), gain, rho * self._admm.c_middle)
        return left, moved

    def _take(self, size: int) -> Float32:
        """Scratch of this size."""
        if self._slopes.size < size:
            self._slopes = np.empty(size, np.float32)
        return self._slopes[:size]
