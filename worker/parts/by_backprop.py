"""How a part trains in coupling `backprop`: exact gradients, minibatch by minibatch.

A minibatch may travel as pieces, each of which waits in a slot: an instance of the part with
buffers of its own. Their gradients are added up; with one piece all is as in the net that is not
cut, bit for bit.
"""

from collections.abc import Callable

import numpy as np

from ...common.types import Float32
from ..boundary.events import NONE, Ahead, Back, Backed, Forwarded, Rows
from .holding import Holding
from .runner import Runner, minibatches
from .trainer import Action, Event, Trainer, known_of


class ByBackprop(Trainer):
    """A part of any place; its runners write their gradients into the holding's."""

    def __init__(
        self, part: int, holding: Holding, runner: Runner, make: Callable[[], Runner]
    ) -> None:
        """`runner` is for slot 0; `make` makes one for one more."""
        self._part, self._holding, self._make = part, holding, make
        self._runners = {0: runner}
        self._sum: Float32 = np.zeros_like(holding.gradient)
        self._pieces = 0

    def perform(self, action: Action, progress: float) -> Event:
        if isinstance(action, Ahead):
            outputs = self._ahead(action.slot, action.rows)
            return Forwarded(action.round, outputs.astype(np.float32))
        assert isinstance(action, Back)
        return self._back(action, progress)

    def _back(self, action: Back, progress: float) -> Backed:
        metrics, delta, runner = {}, action.gradient, self._runner(action.slot)
        if action.rows is not None:
            count, known = len(action.rows.inputs), known_of(action.rows, action.known)
            judged = runner.judge(self._ahead(action.slot, action.rows), known.labels)
            metrics, delta = judged.metrics, judged.slope
            if count != action.total:  # the mean of the minibatch, not of the piece
                delta = delta * np.float32(count / action.total)
        source = runner.backward(delta)
        self._add(action.first, action.last)
        if action.last:
            self._holding.step(progress)
        found = np.array(source, np.float32) if self._part else NONE
        return Backed(action.round, found, metrics, int(action.last))

    def _ahead(self, slot: int, rows: Rows) -> Float32:
        """Outputs of a piece. Pieces of one minibatch differ in what is random."""
        ((part, seeds),) = minibatches(rows)
        return self._runner(slot).forward(rows.inputs[part], seeds, slot)

    def _add(self, first: bool, last: bool) -> None:
        """Bring the sum of the pieces so far, this one included, into the holding's gradient if
        there are no more. Averages move by the mean of what pieces want, not by the sum."""
        gradient, self._pieces = self._holding.gradient, 1 if first else self._pieces + 1
        if first and last:
            return
        if first:
            self._sum[:] = gradient
        else:
            self._sum += gradient
        if last:
            gradient[:] = self._sum
            for span in self._holding.averaged:
                gradient[span] /= np.float32(self._pieces)

    def _runner(self, slot: int) -> Runner:
        if slot not in self._runners:
            self._runners[slot] = self._make()
        return self._runners[slot]
