"""Macro-batches on their way through a part, in couplings `activations` and `weights`. Pure.

A round waits until it may go forward, is sent up, and is answered by the part above. How many may
be under way is the credit; rounds that nobody below waits for any more use it up until they are
answered (`_orphans`), so that the part above never holds more than that of one neighbour.
"""

from abc import abstractmethod

from ...common.job import Job
from ...common.messages import Activations, Message
from ..batches import Minibatch
from .boundary import Action, Event, Host, Key, Learnt
from .early import Early
from .encoding import Misfit, decode, need
from .events import Forward, Forwarded, Known, Trained
from .linked import Linked, check_activations
from .rounds import Round, Stage, runs


class ByMacroBatch(Linked):
    """Rounds by number, in the order in which they came."""

    _credit: int
    _asks: bool
    """Whether the part cannot train without knowing the samples."""

    def __init__(self, node: Host, job: Job, rank: int, early: Early | None = None) -> None:
        super().__init__(node, job, rank, early)
        self._rounds: dict[int, Round] = {}
        self._orphans: set[int] = set()
        self._computing: Round | None = None
        self._numbered = 0
        self._trained = 0
        self._dual = 0.0

    # What the two couplings differ in.

    @abstractmethod
    def may_forward(self) -> bool:
        """Whether one more round may go up."""

    @abstractmethod
    def train(self, round: Round) -> Action | None:
        """How to train on a round, None if it cannot be yet."""

    @abstractmethod
    def taught(self, round: Round, event: Trained) -> dict[str, float]:
        """The part has trained on a round that still matters; measures for the worker."""

    # In.

    def wants(self) -> bool:
        waiting = any(round.stage is Stage.WAITING for round in self._rounds.values())
        return self._above is not None and not waiting and self.may_forward()

    def feed(self, batches: list[Minibatch]) -> None:
        assert self.bottom
        for run in runs(batches):
            self._add(Round.of_portion(self._number(), run, self._job.data.batch_size))

    def from_below(self, message: Message) -> None:
        if isinstance(message, Activations) and not self.bottom:
            self.take_round(message)
        else:
            super().from_below(message)

    def take_round(self, message: Activations) -> None:
        """A round has come from below. Raises Misfit."""
        check_activations(message, self._job, self.takes)
        known = any(round.below == message.round for round in self._rounds.values())
        need(not known, "round", message.round, "one that is not here yet")
        held = sum(not round.learnt for round in self._rounds.values())
        limit = f"no more than {self._credit} at once"
        need(held < self._credit, "round", message.round, limit, "crowded")
        inputs = decode(message, self._job.partition.encoding)
        self.takes = inputs.shape[1:]
        self._add(Round.of_message(self._number(), message, inputs))

    def _number(self) -> int:
        self._numbered += 1
        return self._numbered

    def _add(self, round: Round) -> None:
        self._rounds[round.number] = round
        if self._asks:
            self._knowing.want(round.key)

    # Computing.

    def compute(self) -> Action | None:
        for round in self._rounds.values():
            if (action := self.train(round)) is not None:
                self._computing, round.stage = round, Stage.TRAINING
                return action
        if self.top or not self.may_forward():
            return None
        for round in self._rounds.values():
            if round.stage is Stage.WAITING:
                self._computing, round.stage = round, Stage.FORWARDING
                return Forward(round.number, round.rows)
        return None

    def known(self, round: Round) -> Known | None:
        """What is known of the samples of a round, None if it is not known yet."""
        try:
            return self._knowing.rows(round.key, round.first, round.samples)
        except Misfit as misfit:
            epoch, begin = round.key
            self.fail(f"of the portion at {begin} of epoch {epoch}, the part below sent {misfit}")
            return None

    def happened(self, event: Event) -> Learnt | None:
        round, self._computing = self._computing, None
        assert round is not None
        assert event.round == round.number
        matters = round.number in self._rounds
        if isinstance(event, Forwarded):
            if matters:
                self._forwarded(round, event)
            return None
        assert isinstance(event, Trained)
        self._trained += 1
        self._dual = event.dual
        return round.as_learnt(event.steps, self.taught(round, event) if matters else {})

    def _forwarded(self, round: Round, event: Forwarded) -> None:
        code = self.coded("outputs", round.number, event.outputs)
        if code is None:
            return
        round.outputs, round.stage, round.trained = event.outputs, Stage.UP, self._trained
        round.message = round.sent_up(code, self._dual)
        if self._above is not None:
            self.send(round)

    def send(self, round: Round) -> None:
        """Send a round's outputs up, for the first time or to a new neighbour."""
        assert round.message is not None
        round.sent = True
        self.up(round.message)

    def measure(self, round: Round, event: Trained) -> None:
        """Add up what this part has measured in a round."""
        self._sums.above("dual", event.dual)
        self._sums.above("gap", event.gap)
        self._sums.below("primal", event.primal)
        self._sums.below("rho", event.rho)
        self._sums.metrics(event.metrics, round.samples)
        if self.bottom:
            self._sums.add("rounds", 1)

    # Neighbours.

    def under_way(self, round: Round) -> bool:
        """Whether the part above has, or will have, to answer a round."""
        return round.message is not None and not round.answered

    def new_below(self) -> None:
        super().new_below()
        for round in self._rounds.values():
            round.below = -1  # the new part below counts its rounds from the beginning

    def drop_below(self) -> None:
        dropped = [round for round in self._rounds.values() if not round.learnt]
        for round in dropped:
            if self.under_way(round) and round.sent:
                self._orphans.add(round.number)
            del self._rounds[round.number]
        self.counters["boundary_dropped"] += len(dropped)

    def send_again(self) -> None:
        self._orphans.clear()
        for round in self._rounds.values():
            if self.under_way(round):
                self.counters["boundary_resent"] += round.sent
                self.send(round)

    def settled_above(self) -> None:
        self._orphans.clear()

    def in_use(self) -> list[Key]:
        return [round.key for round in self._rounds.values()]

    @property
    def idle(self) -> bool:
        return not self._rounds and self._computing is None

    def answers(self, number: int) -> Round | None:
        """The round that an answer from above is for; None if it comes too late."""
        round = self._rounds.get(number)
        if round is not None and self.under_way(round) and round.sent:
            return round
        self._orphans.discard(number)
        return None
