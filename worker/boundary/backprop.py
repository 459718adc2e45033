"""Coupling `backprop`: exact gradients through all parts, one minibatch after the other. Pure.

A minibatch travels as up to `partition.micro_batches` pieces, all of which may be under way at
once, as in GPipe (Huang et al. 2019, "GPipe: efficient training of giant neural networks using
pipeline parallelism", section 2.3); the next minibatch begins when the step of this one is made.
Pieces go forward and back in their order in every part, so that sums are added up in the same
order whatever the network does.

With a new part above, the minibatch begins anew. A part that lived on may then have made its step
for it already, and makes another: no part can know what the others' steps were.
"""

from collections import deque

from ...common.job import Job
from ...common.messages import Activations, Gradients, Message
from ..batches import Minibatch
from .boundary import Action, Event, Host, Key, Learnt
from .early import Early
from .encoding import Misfit, decode, need
from .events import Ahead, Back, Backed, Forwarded, Rows
from .linked import Linked, check_activations, payload
from .pieces import Piece, Stage, Step


class ByBackprop(Linked):
    """A part through which minibatches pass forward and back."""

    def __init__(self, node: Host, job: Job, rank: int, early: Early | None = None) -> None:
        super().__init__(node, job, rank, early)
        self._batch, self._most = job.data.batch_size, job.partition.micro_batches
        self._queue: deque[Minibatch] = deque()
        self._step: Step | None = None
        self._numbered = 0
        self._heard = -1  # the newest minibatch of the part below, by its first round
        self._computing: tuple[Step, int, Action] | None = None

    # In.

    def wants(self) -> bool:
        return self._above is not None and not self._queue

    def feed(self, batches: list[Minibatch]) -> None:
        assert self.bottom
        self._queue.extend(batches)

    def from_below(self, message: Message) -> None:
        if not isinstance(message, Activations) or self.bottom:
            super().from_below(message)
            return
        check_activations(message, self._job, self.takes)
        inputs = decode(message, self._job.partition.encoding)
        base = message.round - message.piece
        if base < self._heard or (base == self._heard and self._step is None):
            self.late()  # of a minibatch that the part below has given up
            return
        if base > self._heard:
            self.drop_below()
            self._heard, self._step = base, Step.of_message(self._number(message.pieces), message)
        step = self._step
        fits = step is not None and self._belongs(step, message)
        need(fits, "round", message.round, "a piece of the minibatch under way")
        assert step is not None
        self.takes = inputs.shape[1:]
        piece = step.pieces[message.piece]
        # All pieces have the minibatch's own: the slot tells them apart.
        seeds = (message.epoch, message.begin, message.minibatch)
        piece.rows = Rows(inputs, message.batch, seeds)
        piece.stage, piece.below, piece.first = Stage.WAITING, message.round, message.first
        if self.top:
            self._knowing.want(step.key)

    def _belongs(self, step: Step, message: Activations) -> bool:
        """Whether a message is a piece of this minibatch that has not come."""
        same = (step.key, step.minibatch, len(step.pieces))
        said = ((message.epoch, message.begin), message.minibatch, message.pieces)
        return same == said and step.pieces[message.piece].stage is Stage.ABSENT

    def from_above(self, message: Message) -> None:
        if not isinstance(message, Gradients):
            super().from_above(message)
            return
        step = self._step
        piece = step.pieces[message.round - step.base] if step and step.has(message.round) else None
        if piece is None or piece.stage is not Stage.UP or piece.message is None:
            self.late()
            return
        shape = piece.message.shape
        piece.gradient = decode(message, self._job.partition.encoding, shape)
        piece.stage, piece.measures = Stage.ANSWERED, message.measures
        self._sums.above("boundary_down", payload(message))

    def _number(self, pieces: int) -> int:
        """The first of so many new rounds."""
        base = self._numbered + 1
        self._numbered += pieces
        return base

    # Computing.

    def compute(self) -> Action | None:
        if self._step is None and self._queue:
            pieces = min(self._most, len(self._queue[0].inputs))
            minibatch, base = self._queue.popleft(), self._number(pieces)
            self._step = Step.of_minibatch(base, minibatch, self._batch, self._most)
        step = self._step
        if step is None:
            return None
        action = self._back(step)
        if action is None and not self.top:
            action = self._ahead(step)
        return action

    def _ahead(self, step: Step) -> Action | None:
        index = step.ahead
        if index == len(step.pieces) or step.pieces[index].stage is not Stage.WAITING:
            return None
        piece = step.pieces[index]
        assert piece.rows is not None
        step.ahead, piece.stage = index + 1, Stage.AHEAD
        action = Ahead(step.base + index, index, piece.rows)
        self._computing = step, index, action
        return action

    def _back(self, step: Step) -> Action | None:
        index, count = step.back, len(step.pieces)
        ready = Stage.WAITING if self.top else Stage.ANSWERED
        if index == count or step.pieces[index].stage is not ready:
            return None
        piece, number = step.pieces[index], step.base + index
        first, last = index == 0, index == count - 1
        if self.top:
            action = self._top_back(step, piece, Back(number, index, first, last))
        else:
            action = Back(number, index, first, last, piece.gradient)
        if action is not None:
            step.back, piece.stage = index + 1, Stage.BACK
            self._computing = step, index, action
        return action

    def _top_back(self, step: Step, piece: Piece, plain: Back) -> Back | None:
        assert piece.rows is not None
        try:
            known = self._knowing.rows(step.key, piece.first, len(piece.rows.inputs))
        except Misfit as misfit:
            epoch, begin = step.key
            self.fail(f"of the portion at {begin} of epoch {epoch}, the part below sent {misfit}")
            return None
        if known is None:
            return None
        total = min(self._batch, self._knowing.size(step.key) - step.minibatch * self._batch)
        rows, said = piece.rows, (plain.round, plain.slot, plain.first, plain.last)
        return Back(*said, rows=rows, known=known, total=total)

    def happened(self, event: Event) -> Learnt | None:
        assert self._computing is not None
        (step, index, action), self._computing = self._computing, None
        assert event.round == action.round
        # Not if the minibatch has been dropped, or has begun anew.
        matters = step is self._step and step.base + index == action.round
        if isinstance(event, Forwarded):
            if matters:
                self._forwarded(step, index, event)
            return None
        assert isinstance(event, Backed)
        assert isinstance(action, Back)
        if matters:
            self._backed(step, step.pieces[index], event)
        if not action.last:
            return None
        if not matters:
            return Learnt(step.leg, 1, event.steps)
        self._step = None
        measures = self._sums.take() if self.bottom else {}
        return Learnt(step.leg, 1, event.steps, step.batches, measures)

    def _forwarded(self, step: Step, index: int, event: Forwarded) -> None:
        piece = step.pieces[index]
        code = self.coded("outputs", event.round, event.outputs)
        if code is None:
            return
        piece.stage, piece.message = Stage.UP, step.sent_up(index, code)
        if self._above is not None:
            self._send(piece)

    def _send(self, piece: Piece) -> None:
        assert piece.message is not None
        piece.sent = True
        self.up(piece.message)

    def _backed(self, step: Step, piece: Piece, event: Backed) -> None:
        if piece.told:
            return
        piece.told = True
        assert piece.rows is not None
        self._sums.add_all(piece.measures)
        self._sums.metrics(event.metrics, len(piece.rows.inputs))
        if self.bottom:
            self._sums.add("rounds", 1)
            return
        code = self.coded("gradients", event.round, event.gradient)
        if code is not None:
            said = (code.encoding, code.shape, code.values, code.extra, self._sums.take())
            self.down(Gradients(piece.below, *said))

    # Neighbours.

    def new_below(self) -> None:
        super().new_below()
        self._heard = -1

    def drop_below(self) -> None:
        if self._step is not None and not self.bottom:
            self.counters["boundary_dropped"] += 1
            self._step = None

    def send_again(self) -> None:
        step = self._step
        if step is None or step.back == len(step.pieces):
            return  # its own step is being made
        if any(piece.sent for piece in step.pieces):
            self.counters["boundary_resent"] += sum(piece.sent for piece in step.pieces)
            step.restart(self._number(len(step.pieces)))
        for piece in step.pieces:
            if piece.stage is Stage.UP:
                self._send(piece)

    def in_use(self) -> list[Key]:
        return [self._step.key] if self._step is not None else []

    @property
    def idle(self) -> bool:
        return self._step is None and not self._queue and self._computing is None
