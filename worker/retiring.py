"""How a worker ends that is asked to: it brings its pushes to an end and hands back the rest. Pure.

What it has gathered is pushed, what it has not trained on goes back to the data servers minibatch
by minibatch, so that the others do exactly that. A worker that is killed can do neither: its
portions are served again whole.
"""

from collections import defaultdict

from ..common.delivery import Courier, Open
from ..common.messages import Done, Message, Return
from ..common.node import NEVER
from ..common.types import Member
from .feeding import Feeding

PATIENCE = 5.0
"""Seconds that a push and the data servers' word may take; then it goes as if it were killed."""


class Retiring(Feeding):
    """A worker's end, if it has time for one."""

    def __init__(self, courier: Courier, **session: object) -> None:
        super().__init__(courier, **session)
        self._asked_to_end: tuple[int, str] | None = None
        self._gone_by = NEVER
        self._returning = False
        self.replies |= {Done: self._on_noted, Return: self._on_noted}

    @property
    def retiring(self) -> bool:
        """Whether it takes no more minibatches."""
        return self._asked_to_end is not None

    # What the worker fills in.

    def settled(self) -> bool:
        """Push what has been gathered; whether all pushes are made and answered. A worker without
        lanes has none to make."""
        return True

    def asked_to_end(self, status: int, reason: str) -> None:
        """Retire, if there is something to bring to an end; the second word is the last."""
        training = self.cluster.phase == "training" and self.replica is not None
        if self.retiring or not training or self.leaving is not None:
            self.fail(status, reason)
            return
        self._asked_to_end = status, reason
        self._gone_by = self.now + PATIENCE
        self.note("info", f"{reason}: finishes its pushes and hands back what is left")
        self.retire()

    def retire(self) -> None:
        """Go on with retiring, as far as it goes now."""
        if self._asked_to_end is None or self.leaving is not None:
            return
        if not self._returning:
            if not self.settled() or self._open(Done):
                return
            self._returning = True
            self._hand_back()
        if not self._open(Return):
            status, reason = self._asked_to_end
            self.fail(status, f"{reason}; it has handed back what it had not trained on")

    def _hand_back(self) -> None:
        held = defaultdict(list)
        for lease in self.take_back():
            held[lease.source].append(lease)
        for address in self.data_servers():
            leases = held[address]
            leg = max((lease.portion.leg for lease in leases), default=self.cluster.leg)
            leases = [lease for lease in leases if lease.portion.leg == leg]
            self.ask(
                address,
                Return(
                    leg,
                    [lease.portion.portion for lease in leases],
                    [lease.left for lease in leases],
                    [dict(lease.measures) for lease in leases],
                ),
            )

    def _open(self, kind: type[Message]) -> bool:
        return any(isinstance(request.message, kind) for request in self.courier.open_requests())

    def _on_noted(self, request: Open, reply: Message) -> None:
        self.retire()

    def lost(self, member: Member, request: Open) -> None:
        super().lost(member, request)
        self.retire()

    def ticked(self) -> None:
        super().ticked()
        if self.now >= self._gone_by and self.leaving is None:
            assert self._asked_to_end is not None
            self.fail(*self._asked_to_end)

    def wake_at(self) -> float:
        return min(super().wake_at(), NEVER if self.leaving is not None else self._gone_by)
