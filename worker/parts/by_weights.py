"""How a part trains in coupling `weights`: ADMM.md, section B; the formulas are in `admm.weights`.

Each part learns by a loss of its own: the top one by the net's, a lower one by that of its head
(`sides`). At each cut both parts hold a copy of the boundary layer, and a penalty ties the two.
Without heads lower parts get no gradient but that of the penalty: their layers stay random.
"""

from dataclasses import dataclass

import numpy as np

from ...common.job import Job
from ...common.types import Array, Float32, Metrics
from ..admm.penalty import Penalty
from ..admm.residuals import rms, squared_distance
from ..admm.weights import Agreement
from ..boundary.events import Seeds, Train, Trained
from .holding import Holding
from .runner import Runner, minibatches
from .trainer import Action, Event, Trainer, go_forward, known_of


@dataclass(frozen=True)
class Boundary:
    """A boundary layer of which a part holds a copy: where in its slice, and the other side's."""

    copy: slice
    agreement: Agreement


class ByWeights(Trainer):
    """A part of any place.

    Arguments:
        runner: of the part itself; `side` that of what it holds beside it, in lower parts.
        boundaries: of the cuts below and above it, by number.
    """

    def __init__(
        self,
        job: Job,
        holding: Holding,
        runner: Runner,
        side: Runner | None,
        boundaries: dict[int, Boundary],
    ) -> None:
        self._passes, self._learns = job.admm.passes, side is None or job.admm.head
        self._holding, self._runner, self._side = holding, runner, side
        self._boundaries, self._penalty = boundaries, Penalty.of(job)
        self._rho = self._penalty.rho  # that of the last round

    def perform(self, action: Action, progress: float) -> Event:
        if not isinstance(action, Train):
            return go_forward(self._runner, action)
        for number, copy in action.other.items():
            boundary = self._boundaries[number]
            own, current = self._holding.vector[boundary.copy], number in action.current
            boundary.agreement.hear(copy, own, self._rho, current=current)
        rho = self._rho = self._penalty.rho
        before, steps = self._copies(), self._holding.steps
        metrics = self._pass(action, progress, 0)
        for again in range(1, self._passes):
            self._pass(action, progress, again)
        primal, dual = self._close(before)
        self._penalty.advance(primal, dual)
        return Trained(
            action.round,
            self._holding.steps - steps,
            rho=rho,
            copies=self._copies(),
            metrics=metrics,
            primal=primal,
            dual=dual,
        )

    def _pass(self, action: Train, progress: float, again: int) -> Metrics:
        """A step for each minibatch; the measures, means over the samples before their steps."""
        sums, rows, gradient = dict[str, float](), action.rows, self._holding.gradient
        for part, seeds in minibatches(rows):
            if not self._learns:
                self._only_pass_on(rows.inputs[part], seeds, again)
            else:
                labels = known_of(rows, action.known).labels[part]
                for name, value in self._learn(rows.inputs[part], labels, seeds, again).items():
                    sums[name] = sums.get(name, 0.0) + value * (part.stop - part.start)
            for boundary in self._boundaries.values():
                own = self._holding.vector[boundary.copy]
                boundary.agreement.add_slope(own, gradient[boundary.copy], self._rho)
            self._holding.step(progress)
        return {name: value / len(rows.inputs) for name, value in sums.items()}

    def _learn(self, inputs: Array, labels: Array, seeds: Seeds, again: int) -> Metrics:
        """Write the gradients of the part's own loss."""
        outputs = self._runner.forward(inputs, seeds, again)
        if self._side is None:
            judged = self._runner.judge(outputs, labels)
            self._runner.backward(judged.slope)
            return judged.metrics
        judged = self._side.judge(self._side.forward(outputs, seeds, again), labels)
        self._runner.backward(self._side.backward(judged.slope))
        return judged.metrics

    def _only_pass_on(self, inputs: Array, seeds: Seeds, again: int) -> None:
        """Gradients of zero; running averages move all the same, for the parts above see layers
        that normalise."""
        self._holding.gradient[:] = 0
        if self._holding.averaged:
            outputs = self._runner.forward(inputs, seeds, again)
            self._runner.backward(np.zeros_like(outputs))

    def _copies(self) -> dict[int, Float32]:
        vector, boundaries = self._holding.vector, self._boundaries.items()
        return {number: vector[boundary.copy].copy() for number, boundary in boundaries}

    def _close(self, before: dict[int, Float32]) -> tuple[float, float]:
        """End the round; the primal and the dual residual over all boundaries."""
        apart, moved, size, rho = 0.0, 0.0, 0, self._rho
        for number, boundary in self._boundaries.items():
            own = self._holding.vector[boundary.copy]
            apart += boundary.agreement.close(own, rho)
            moved += squared_distance(own, before[number])
            size += own.size
        return rms(apart, size), rho * rms(moved, size)
