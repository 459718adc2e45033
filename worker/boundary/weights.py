"""Coupling `weights`: the boundary layer has two copies that agree (ADMM.md, section B). Pure.

A lower part goes forward and trains at once, on labels of its own where it has a head; it sends up
its outputs, and then its copy of the boundary layer. The part above trains on those outputs, and
its own copy is the answer. Nobody waits for a copy, each uses the newest that has come: only the
credit ties the parts.
"""

from ...common.job import Job
from ...common.messages import Copies, Message
from ...common.partition import has_head
from ...common.rule_kernels import finite
from ...common.types import Float32
from .activations import check_rho
from .boundary import Action, Host
from .early import Early
from .encoding import need
from .events import Train, Trained
from .linked import payload
from .macro import ByMacroBatch
from .rounds import Round, Stage


class ByWeights(ByMacroBatch):
    """A part that agrees with its neighbours on the layers between them."""

    def __init__(self, node: Host, job: Job, rank: int, early: Early | None = None) -> None:
        super().__init__(node, job, rank, early)
        self._credit = max(1, job.admm.ahead)
        self._asks = has_head(job, self.part)
        self._newest: dict[int, tuple[int, Float32]] = {}  # by boundary: round and copy
        self._fresh: set[int] = set()  # boundaries of whose copy the part has not been told
        self._own: Copies | None = None

    def may_forward(self) -> bool:
        busy = sum(
            round.stage is not Stage.WAITING and not round.answered
            for round in self._rounds.values()
        )
        return busy + len(self._orphans) < self._credit

    def train(self, round: Round) -> Action | None:
        if round.learnt or round.stage is not (Stage.WAITING if self.top else Stage.UP):
            return None
        known = self.known(round) if self._asks else None
        if known is None and self._asks:
            return None
        other = {boundary: self._newest[boundary][1] for boundary in sorted(self._fresh)}
        self._fresh.clear()
        below = self.part - 1
        same = below in other and self._newest[below][0] == round.below
        current = frozenset({below} if same else ())
        return Train(round.number, round.rows, known, round.outputs, other=other, current=current)

    def taught(self, round: Round, event: Trained) -> dict[str, float]:
        round.learnt, round.stage = True, Stage.UP
        self.measure(round, event)
        for copy in event.copies.values():
            if not finite(copy):
                self.diverged(f"its copies of the boundary layer after round {round.number}")
                return {}
        rho = float(event.rho)
        if not self.top:
            self._own = Copies(round.number, rho, event.copies[self.part])
            self._send_own()
        if self.top or round.answered:
            del self._rounds[round.number]
        measures = self._sums.take()
        if self.bottom:
            return measures
        self.down(Copies(round.below, rho, event.copies[self.part - 1], measures))
        return {}

    def _send_own(self) -> None:
        """Send this part's newest copy up."""
        if self._own is not None and self._above is not None:
            self.up(self._own)

    def send_again(self) -> None:
        self._forget(self.part)
        super().send_again()
        self._send_own()

    def new_below(self) -> None:
        super().new_below()
        self._forget(self.part - 1)

    def _forget(self, boundary: int) -> None:
        """Whatever comes next over a boundary is newer: counts begin anew with a new neighbour."""
        if boundary in self._newest:
            self._newest[boundary] = (-1, self._newest[boundary][1])

    def from_below(self, message: Message) -> None:
        if isinstance(message, Copies) and not self.bottom:
            self._take_copy(self.part - 1, message)
        else:
            super().from_below(message)

    def from_above(self, message: Message) -> None:
        if not isinstance(message, Copies):
            super().from_above(message)
            return
        round = self.answers(message.round)
        if round is None:
            self.late()
            return
        self._take_copy(self.part, message)
        round.answered = True
        self._sums.above("boundary_down", payload(message))
        self._sums.add_all(message.measures)
        if round.learnt:
            del self._rounds[round.number]

    def _take_copy(self, boundary: int, message: Copies) -> None:
        """Keep a neighbour's copy if it is newer. Raises Misfit."""
        values = message.values
        check_rho(message.rho)
        newest, copy = self._newest.get(boundary, (-1, values))
        fits = values.dtype == "float32" and values.ndim == 1 and values.size > 0
        need(fits, "values", f"{values.dtype} {values.shape}", "float32 (n,)")
        need(values.size == copy.size, "values", values.shape, str(copy.shape))
        need(finite(values), "values", "NaN or infinity", "finite numbers", "nonfinite")
        if message.round > newest:
            self._newest[boundary] = (message.round, values)
            self._fresh.add(boundary)
