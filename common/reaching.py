"""Whether those whom a role asks can be reached at all. Pure: `now` is handed in.

A socket keeps what it cannot deliver and says nothing, and an answer may be long in coming for good
reasons. So when somebody has not answered a single request for a while, it is looked whether a
connection to the address can be opened, and why not.
"""

from dataclasses import dataclass

from .delivery import Courier, Open, Peer
from .messages import Message
from .node import NEVER, Action, Node, Probe

SILENCE = 5.0
"""Seconds without a first answer until it is looked whether there is a way, and between looks."""


@dataclass(frozen=True, slots=True)
class Probed:
    """Local event: why no connection could be opened to an address; empty if one was."""

    address: str
    why: str


class Reaching(Node):
    """Notices addresses that nobody answers from."""

    def __init__(self, courier: Courier) -> None:
        super().__init__(courier)
        self.out_of_reach: dict[str, str] = {}
        """Why there is no connection, by address."""
        self._reached: set[Peer] = set()
        self._probing: set[str] = set()
        self._look_at = NEVER

    # What a role fills in.

    def cannot_reach(self, address: str, why: str) -> None:
        """There is no connection to an address; told once, as long as the reason is the same."""

    def never_reached(self, address: str, why: str, seconds: float) -> None:
        """There is still no connection to an address after so long."""

    # What a role uses.

    def forget_reach(self, address: str) -> None:
        """Whoever listens there next is somebody else."""
        self._reached.discard(address)
        self.out_of_reach.pop(address, None)

    def asked(self, peer: Peer) -> None:
        if peer not in self._reached and isinstance(peer, str):
            self._look_at = min(self._look_at, self.now + SILENCE)

    def local(self, event: object, now: float) -> list[Action]:
        if not isinstance(event, Probed):
            return super().local(event, now)
        self.now = now
        self._probing.discard(event.address)
        if not event.why:
            self._reach(event.address)
        elif event.address not in self._reached:
            news = self.out_of_reach.get(event.address) != event.why
            self.out_of_reach[event.address] = event.why
            if news:
                self.cannot_reach(event.address, event.why)
        return self.take()

    def ticked(self) -> None:
        super().ticked()
        if self.now < self._look_at:
            return
        self._look_at = NEVER
        waiting: dict[str, float] = {}
        for request in self.courier.open_requests():
            if isinstance(request.peer, str) and request.peer not in self._reached:
                waiting.setdefault(request.peer, request.asked_at)
        for address, since in waiting.items():
            due = since + SILENCE
            if self.now < due:
                self._look_at = min(self._look_at, due)
                continue
            self._look_at = min(self._look_at, self.now + SILENCE)
            if address in self.out_of_reach:
                self.never_reached(address, self.out_of_reach[address], self.now - since)
            if address not in self._probing:
                self._probing.add(address)
                self.do(Probe(address))

    def wake_at(self) -> float:
        return min(super().wake_at(), self._look_at)

    def _reach(self, peer: Peer) -> None:
        self._reached.add(peer)
        if isinstance(peer, str):
            self.out_of_reach.pop(peer, None)

    def _answered(self, request: Open, reply: Message) -> None:
        if request.peer not in self._reached:
            self._reach(request.peer)
        super()._answered(request, reply)
