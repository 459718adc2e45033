"""A role's life in the cluster: join, welcome, heartbeat, view, lost, leave. Pure.

Every role but the controller builds its state on `Session`. The controller is the only address
that a role must be told; everything else comes with the view.
"""

import platform
from dataclasses import asdict, dataclass
from typing import Any

import msgpack
import numpy as np

from .cluster import EMPTY, Cluster, parse_view
from .delivery import Courier, Open, Peer, routing_id
from .errors import RemoteError
from .messages import (
    PROTOCOL,
    Envelope,
    Heartbeat,
    Join,
    Leave,
    Message,
    Refused,
    View,
    Welcome,
)
from .node import NEVER, Action, Exit, Failed, Forget, Node, Trust
from .types import Member, Role

BEAT_FRACTION = 0.1
"""A heartbeat every tenth of the lease: nine may be lost."""
JOIN_PAUSE = 0.5
"""Seconds between two tries to join: a seat's lease runs from the first that arrives."""
PUT_OUT = "put out by the controller"
"""How the reason begins for which a role ends whom the controller counts no more."""
FAREWELL = 2.0
"""Seconds that a leaving role waits for the controller to take note."""


@dataclass(frozen=True, slots=True)
class Welcomed:
    """Action: the role is in. `job` is the job's sections of plain values."""

    rank: int
    job: dict[str, Any]


class Session(Node):
    """Joins, keeps the lease, follows the view; a role's own state is built on top.

    Arguments:
        controller: where it listens, `tcp://host:port`.
        address: where others reach this role, or empty.
        rank: the wanted rank, -1 for any.
        start_timeout: seconds until a controller that does not answer ends the role.
    """

    role: Role

    def __init__(
        self,
        courier: Courier,
        *,
        controller: str,
        address: str,
        host: str,
        pid: int,
        versions: dict[str, str],
        rank: int = -1,
        start_timeout: float = 60.0,
    ) -> None:
        super().__init__(courier)
        self.controller, self.address, self.host = controller, address, host
        self.rank = -1
        self.cluster: Cluster = EMPTY
        self._join = Join(str(self.role), rank, address, host, pid, versions)
        self._start_timeout = start_timeout
        self._lease = 0.0
        self._heard_at = 0.0
        self._beat_at = NEVER
        self._beating = False
        self.leaving: Exit | None = None
        self.requests[View] = self._on_view
        self.replies[Join] = self._on_welcome
        self.replies[Heartbeat] = self._on_beat
        self.replies[Leave] = self._on_left

    def start(self, now: float) -> list[Action]:
        """The first actions: ask to join."""
        self.now = now
        self.note("info", f"joining the controller at {_shown(self.controller)}")
        self.ask(self.controller, self._join, patience=self._start_timeout, pause=JOIN_PAUSE)
        return self.take()

    def local(self, event: object, now: float) -> list[Action]:
        if not isinstance(event, Failed):
            return super().local(event, now)
        self.now = now
        if event.asked:
            self.asked_to_end(event.status, event.reason)
        else:
            self.fail(event.status, event.reason)
        return self.take()

    # What a role's state fills in.

    def viewed(self, old: Cluster, new: Cluster) -> None:
        """The controller's view has changed."""

    def state_word(self) -> str:
        """What the role is doing, for the status line."""
        return self.cluster.phase

    def asked_to_end(self, status: int, reason: str) -> None:
        """Somebody wants this role to end: nothing keeps it from doing so at once."""
        self.fail(status, reason)

    def report(self) -> dict[str, float]:
        """Counters for the next heartbeat."""
        return {}

    # What a role's state uses.

    def tell(self, message: Message) -> None:
        """A request to the controller."""
        self.ask(self.controller, message)

    def beat_soon(self) -> None:
        """Send the next heartbeat now: the controller waits for a counter."""
        self._beat_at = min(self._beat_at, self.now)

    def fail(self, status: int, reason: str) -> None:
        """End this role and say why: to the controller if it can be reached, and by exit status."""
        if self.leaving is not None:
            return
        self.leaving = Exit(status, reason)
        if self.rank < 0:  # the controller may have let it in meanwhile: it need not wait in vain
            self.ask(self.controller, Leave(status, reason))
            self.do(self.leaving)
            return
        self._say_goodbye(reason)

    def _say_goodbye(self, reason: str) -> None:
        assert self.leaving is not None
        leave = Leave(self.leaving.status, reason)
        self.ask(self.controller, leave, patience=FAREWELL, pause=FAREWELL / 8)

    # Membership.

    def _on_welcome(self, request: Open, reply: Message) -> None:
        assert isinstance(reply, Welcome)
        self.rank, self._lease = reply.rank, reply.lease
        self._heard_at = self.now
        self._beat_at = self.now
        self.do(Welcomed(reply.rank, reply.job))

    def refused(self, request: Open, reply: Refused) -> None:
        if isinstance(request.message, Join):
            theirs = _shown(self.controller)
            self.leaving = Exit(2, f"the controller at {theirs} refused this role: {reply.detail}")
            self.do(self.leaving)
        elif isinstance(request.message, Heartbeat | Leave):
            # After a goodbye the controller knows us no more: that is no fault.
            put_out = Exit(1, f"{PUT_OUT}: {reply.detail}")
            self.leaving = self.leaving or put_out
            self.do(self.leaving)
        else:
            super().refused(request, reply)

    def expired(self, request: Open) -> None:
        if isinstance(request.message, Join):
            advice = self.trouble(self.controller) or (
                "start it there, or give its address with --controller HOST:PORT"
            )
            reason = (
                f"the controller did not answer: tried {_shown(self.controller)} for "
                f"{self._start_timeout:g} s ({request.tries} tries); {advice}"
            )
            self.do(Exit(1, reason))
        elif isinstance(request.message, Leave) and self.leaving is not None:
            self.do(self.leaving)

    def ticked(self) -> None:
        if self.rank < 0 or self.leaving is not None:
            return
        if self.now >= self._lost_at():
            reason = (
                f"lost the controller at {_shown(self.controller)}: nothing heard for "
                f"{self.now - self._heard_at:.1f} s (lease {self._lease:g} s)"
            )
            self.do(Exit(1, reason))
            return
        if self.now >= self._beat_at and not self._beating:
            self._beating = True
            self._beat_at = self.now + self._lease * BEAT_FRACTION
            counters = {**asdict(self.courier.counters), **self.counted, **self.report()}
            beat = Heartbeat(self.cluster.number, self.state_word(), counters)
            self.ask(self.controller, beat, pause=self._lease * BEAT_FRACTION)

    def wake_at(self) -> float:
        moments = [super().wake_at()]
        if self.rank >= 0 and self.leaving is None:
            moments.append(self._lost_at())
            if not self._beating:
                moments.append(self._beat_at)
        return min(moments)

    def _lost_at(self) -> float:
        """When the controller counts as lost: a second after it would have put this role out."""
        return self._heard_at + self._lease + 1.0

    def _on_beat(self, request: Open, reply: Message) -> None:
        self._beating = False
        self._heard_at = self.now
        if isinstance(reply, View):
            self._follow(reply)

    def _on_left(self, request: Open, reply: Message) -> None:
        if self.leaving is not None:
            self.do(self.leaving)

    def _on_view(self, peer: Peer, envelope: Envelope) -> None:
        if peer != self.controller:
            self.note("warning", f"a view from {envelope.source:016x}, who is not the controller")
            return
        assert isinstance(envelope.message, View)
        self._heard_at = self.now
        self._follow(envelope.message)

    def _follow(self, view: View) -> None:
        """Take over a newer view; at the last one, say goodbye."""
        if view.number <= self.cluster.number or self.rank < 0:
            return
        try:
            new = parse_view(view)
        except RemoteError as broken:
            self.note("error", str(broken))
            return
        old, self.cluster = self.cluster, new
        self._drop_lost(old, new)
        for member in new.members:
            if member.key:
                self.do(Trust(routing_id(member.incarnation), member.key))
                if member.address:
                    self.do(Trust(member.address, member.key))
        self.viewed(old, new)
        if new.phase == "stopped" and self.leaving is None:
            self.leaving = Exit(1 if new.status else 0, new.reason)
            self._say_goodbye("")

    def _drop_lost(self, old: Cluster, new: Cluster) -> None:
        """Close the connections and the requests to members that are gone."""
        present = {member.incarnation for member in new.members}
        for member in old.members:
            if member.incarnation not in present and member.address:
                self.do(Forget(member.address))
                for request in self.courier.forget(member.address):
                    self.lost(member, request)

    def lost(self, member: Member, request: Open) -> None:
        """`request` will never be answered: its peer is gone."""


def _shown(address: str) -> str:
    return address.removeprefix("tcp://")


def own_versions() -> dict[str, str]:
    """What this side is, for the table that a refused role is shown."""
    return {
        "protocol": str(PROTOCOL),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "msgpack": ".".join(map(str, msgpack.version)),
    }
