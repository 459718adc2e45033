"""Coupling `activations`: outputs go up, targets come down (ADMM.md, section A). Pure.

A lower part sends its outputs of a macro-batch up, and trains when the targets for them are there.
With `admm.wait` nothing else happens meanwhile; without, it goes forward with as many more rounds
as `admm.ahead` allows, and trains towards targets that are so many trainings late (`lateness`).
Training goes before going forward, the oldest round before the others.
"""

from ...common.job import Job
from ...common.messages import Message, Targets
from ...common.partition import under_way
from .boundary import Action, Host
from .early import Early
from .encoding import decode, need
from .events import Train, Trained
from .linked import payload
from .macro import ByMacroBatch
from .rounds import Round, Stage


class ByActivations(ByMacroBatch):
    """A part that agrees with its neighbours on what passes the cut."""

    def __init__(self, node: Host, job: Job, rank: int, early: Early | None = None) -> None:
        super().__init__(node, job, rank, early)
        self._credit, self._wait = under_way(job), job.admm.wait
        self._asks = not self.bottom

    def may_forward(self) -> bool:
        busy = sum(
            round.stage is not Stage.WAITING and (self._wait or not round.answered)
            for round in self._rounds.values()
        )
        return busy + len(self._orphans) < self._credit

    def train(self, round: Round) -> Action | None:
        if round.stage is not (Stage.WAITING if self.top else Stage.ANSWERED):
            return None
        known = None if self.bottom else self.known(round)
        if known is None and not self.bottom:
            return None
        if not self.top:
            self._sums.above("lateness", self._trained - round.trained)
        return Train(round.number, round.rows, known, round.outputs, round.targets, round.rho)

    def taught(self, round: Round, event: Trained) -> dict[str, float]:
        del self._rounds[round.number]
        self._sums.add_all(round.measures)
        self.measure(round, event)
        measures = self._sums.take()
        if self.bottom:
            return measures
        code = self.coded("targets", round.number, event.targets)
        if code is not None:
            rho, shape = float(event.rho), code.shape
            targets = (round.below, rho, code.encoding, shape, code.values, code.extra, measures)
            self.down(Targets(*targets))
        return {}

    def from_above(self, message: Message) -> None:
        if not isinstance(message, Targets):
            super().from_above(message)
            return
        round = self.answers(message.round)
        if round is None:
            self.late()
            return
        check_rho(message.rho)
        targets = decode(message, self._job.partition.encoding, round.outputs.shape)
        round.targets, round.rho, round.measures = targets, message.rho, message.measures
        self._sums.above("boundary_down", payload(message))
        round.answered, round.stage = True, Stage.ANSWERED


def check_rho(rho: float) -> None:
    """Raise Misfit unless it can be a weight."""
    need(0 <= rho < float("inf"), "rho", rho, "a finite number, at least 0")
