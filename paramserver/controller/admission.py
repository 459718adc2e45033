"""Who may take part, and until when: joining, leases, leaving, and the view that all follow. Pure.

All that the controller decides is one numbered view (`common.cluster`), sent to everyone at each
change and again to whoever answers a heartbeat with an old one. What a job does while its roles
are there stands in `state`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...common import partition
from ...common.cluster import EMPTY, Cluster, make_view
from ...common.delivery import Courier, Peer
from ...common.job import Job
from ...common.messages import (
    PROTOCOL,
    Ack,
    Envelope,
    Heartbeat,
    Join,
    Leave,
    Obituary,
    Stop,
    View,
    Welcome,
)
from ...common.node import NEVER, Action, Exit, Node
from ...common.session import REACH_FIX, UNREACHABLE
from ...common.types import Member, Role
from .membership import Roster, Seat
from .reachable import Whereabouts, normal, suspicious, unreachable
from .scoreboard import Row, Scoreboard

FAREWELL = 3.0
"""Seconds that the controller waits for the roles to say goodbye."""
REMINDER = FAREWELL / 8
"""Seconds after which those who have not are shown the last view again."""


@dataclass(frozen=True, slots=True)
class Record:
    """Action: append these rows to metrics.jsonl."""

    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Knock:
    """Somebody wants a place whose holder may be dead."""

    peer: Peer
    envelope: Envelope
    since: float


class Admission(Node):
    """The controller's side of every role's life, from its join to its goodbye.

    Arguments:
        job: the resolved job; sent to every role that joins.
        address: where roles reach this controller, for messages to people.
        versions: this side's row in the table that a refused role is shown.
    """

    def __init__(self, courier: Courier, job: Job, address: str, versions: dict[str, str]) -> None:
        super().__init__(courier)
        self.job, self.address, self.versions = job, address.removeprefix("tcp://"), versions
        self.roster = Roster(
            {
                Role.PARAMSERVER: job.paramserver.count,
                Role.DATASERVER: job.dataserver.count,
                Role.WORKER: job.worker.count,
            },
            job.job.lease,
            {Role.WORKER: job.worker.at_least or job.worker.count},
        )
        self.cluster: Cluster = EMPTY
        self.board = Scoreboard(partition.replicas(job))
        self.here: frozenset[str] = frozenset()
        """The IP addresses of this machine; its process tells them."""
        self.put_out: dict[int, str] = {}
        """Why members were put out, by incarnation."""
        self._told: set[tuple[int, int]] = set()
        self._knocks: dict[int, Knock] = {}
        self._start_by = NEVER
        self._gone_by = NEVER
        self._remind_at = NEVER
        self.requests |= {
            Join: self._on_join,
            Heartbeat: self._on_heartbeat,
            Leave: self._on_leave,
            Obituary: self._on_obituary,
            Stop: self._on_stop,
        }

    def start(self, now: float) -> list[Action]:
        """The first actions."""
        self.now = now
        self._start_by = now + self.job.job.start_timeout
        self.note("info", f"waiting at {self.address} for {', '.join(self.roster.missing())}")
        self.change()
        return self.take()

    def receive(self, peer: Peer, envelope: Envelope, now: float) -> list[Action]:
        """Any word of a member renews its lease: of a heartbeat that is repeated because its
        answer was lost, delivery shows the state only the first copy."""
        self.now = now
        self.roster.hear(envelope.source, now)
        self._answer_knocks()
        return super().receive(peer, envelope, now)

    # What the job's state fills in.

    def joined(self) -> None:
        """A member has joined."""

    def lost(self, seat: Seat, status: int, why: str) -> None:
        """A member is gone before the end."""

    def heard(self, seat: Seat) -> None:
        """A heartbeat has come."""

    def spares(self, member: Member) -> bool:
        """Whether the job goes on whatever is wrong with this member's code or input. With keys the
        key of a worker may have been stolen, and must not end a training that runs."""
        runs = self.cluster.phase in ("training", "finishing")
        return bool(member.key) and member.role is Role.WORKER and runs

    def drop(self, seat: Seat, why: str) -> None:
        """Go on without a member."""
        self.put_out[seat.member.incarnation] = why
        self.roster.remove(seat.member.incarnation)
        self.lost(seat, 1, why)

    # Joining.

    def _on_join(self, peer: Peer, envelope: Envelope) -> None:
        self._admit(Knock(peer, envelope, self.now))

    def wants_in(self, role: Role) -> bool:
        """Whether somebody waits for a place of this role."""
        asked = [knock.envelope.message for knock in self._knocks.values()]
        return any(isinstance(join, Join) and join.role == role for join in asked)

    def _answer_knocks(self) -> None:
        """Decide about those who wait for a place, as far as that is possible now."""
        for knock in list(self._knocks.values()):
            self._admit(knock)

    def _admit(self, knock: Knock) -> None:
        """Give a place, refuse it, or wait: a holder that has not been heard of since is perhaps
        the one in whose stead this role was started."""
        peer, envelope = knock.peer, knock.envelope
        self._knocks.pop(envelope.source, None)
        join = envelope.message
        assert isinstance(join, Join)
        if envelope.protocol != PROTOCOL:
            self.event(
                f"refused {join.role} on {join.host} (pid {join.pid}): it speaks "
                f"protocol {envelope.protocol}, not {PROTOCOL}"
            )
            self.refuse(peer, envelope, "protocol", version_table(join.versions, self.versions))
            return
        if self.cluster.phase in ("finishing", "stopped"):
            self.refuse(peer, envelope, "over", "the job is over")
            return
        if join.role not in set(Role) - {Role.CONTROLLER}:
            self.refuse(peer, envelope, "role", f"there is no role {join.role!r}")
            return
        seen = self.seen(peer)
        member = Member(
            Role(join.role), -1, envelope.source, join.address, join.host, join.pid, seen.key
        )
        place = normal(seen.address, self.here)
        if why := unreachable(self.job, self._whereabouts(member, place), self._all_whereabouts()):
            self.event(f"refused: {why}")
            self.refuse(peer, envelope, "unreachable", why)
            return
        seat = self.roster.join(member, join.rank, peer, self.now)
        if isinstance(seat, str):
            holders = self.roster.holders(member.role, join.rank)
            if any(holder.heard_at <= knock.since for holder in holders):
                self._knocks[envelope.source] = knock
            else:
                self.refuse(peer, envelope, "full", seat)
            return
        seat.seen = place
        self.answer(
            peer, envelope, Welcome(seat.member.rank, self.job.to_dict(), self.job.job.lease)
        )
        missing = self.roster.missing()
        waiting = f"; waiting for {', '.join(missing)}" if missing else "; all are here"
        self.event(f"{seat.member.name} joined from {join.host} (pid {join.pid}){waiting}")
        if odd := suspicious(self.job, self._whereabouts(seat.member, place)):
            self.event(odd)
        phase = self.cluster.phase
        if phase == "joining" and not missing:
            phase = "preparing"
            self._start_by = NEVER
        self.change(phase=phase)
        self.joined()

    def _all_whereabouts(self) -> list[Whereabouts]:
        return [self._whereabouts(seat.member, seat.seen) for seat in self.roster.seats.values()]

    @staticmethod
    def _whereabouts(member: Member, seen: str) -> Whereabouts:
        name = member.name if member.rank >= 0 else str(member.role)
        return Whereabouts(name, member.role, member.host, member.address, seen)

    # Heartbeats, losses, operators.

    def _on_heartbeat(self, peer: Peer, envelope: Envelope) -> None:
        beat = envelope.message
        assert isinstance(beat, Heartbeat)
        seat = self.roster.hear(envelope.source, self.now)
        if seat is None:
            self.refuse(
                peer,
                envelope,
                "unknown",
                self.put_out.get(
                    envelope.source,
                    f"its lease of {self.job.job.lease:g} s had run out, or it never joined",
                ),
            )
            return
        seat.peer, seat.view = peer, beat.view
        seat.state, seat.counters = beat.state, beat.counters
        key = self.seen(peer).key
        if key != seat.member.key:  # it has changed its pair: all others must know
            seat.member = replace(seat.member, key=key)
            self.change()
        self._tell_of_the_unreachable(seat)
        old = beat.view < self.cluster.number
        self.answer(peer, envelope, make_view(self.cluster) if old else Ack())
        self.heard(seat)

    def _tell_of_the_unreachable(self, seat: Seat) -> None:
        """An event for each member that another one has no connection to."""
        for counter in seat.counters:
            if not counter.startswith(UNREACHABLE):
                continue
            name, _, why = counter.removeprefix(UNREACHABLE).partition(":")
            others = [s.member for s in self.roster.seats.values() if s.member.name == name]
            for other in others:
                news = (seat.member.incarnation, other.incarnation)
                if news not in self._told:
                    self._told.add(news)
                    place = other.address.removeprefix("tcp://")
                    self.event(
                        f"{seat.member.name} on {seat.member.host} cannot reach {other.name} on "
                        f"{other.host} at {place}: {why}; {REACH_FIX}"
                    )

    def _on_leave(self, peer: Peer, envelope: Envelope) -> None:
        leave = envelope.message
        assert isinstance(leave, Leave)
        self.answer(peer, envelope, Ack())
        seat = self.roster.remove(envelope.source)
        if seat is not None and self.cluster.phase != "stopped":
            self.lost(seat, leave.status, leave.reason or "it left")
        self._leave_when_alone()

    def _on_obituary(self, peer: Peer, envelope: Envelope) -> None:
        news = envelope.message
        assert isinstance(news, Obituary)
        seat = self.roster.at(news.host, news.pid)
        if seat is not None:
            self.roster.remove(seat.member.incarnation)
            if self.cluster.phase != "stopped":
                self.lost(seat, 1, f"its process ended with {_ending(news.status)}")
        self._leave_when_alone()

    def ticked(self) -> None:
        for seat in self.roster.silent(self.now):
            self.roster.remove(seat.member.incarnation)
            if self.cluster.phase != "stopped":
                self.lost(seat, 1, f"nothing heard for {self.now - seat.heard_at:.1f} s")
        self._answer_knocks()
        if self.now >= self._start_by:
            missing = ", ".join(self.roster.missing())
            self.stop(
                1,
                f"missing after {self.job.job.start_timeout:g} s: {missing}; each is to "
                f"reach the controller at {self.address}: start it with --controller "
                f"{self.address}, or allow more time with --start-timeout",
            )
        if self.now >= self._remind_at:
            self._show_the_end()
        self._leave_when_alone()

    def wake_at(self) -> float:
        moments = self._start_by, self._gone_by, self._remind_at
        return min(super().wake_at(), self.roster.lease_ends() + 0.001, *moments)

    def _on_stop(self, peer: Peer, envelope: Envelope) -> None:
        order = envelope.message
        assert isinstance(order, Stop)
        self.answer(peer, envelope, Ack())
        self.stop(order.status, order.reason)

    # The end.

    def stop(self, status: int, reason: str) -> None:
        """End the job: tell everyone, wait for their goodbyes, exit."""
        if self.cluster.phase == "stopped":
            return
        if self.board.ended_at is None:
            self.board.ended_at = self.now
        if status:
            self.event(f"stopping: {reason}")
        self._gone_by = self.now + FAREWELL
        self._start_by = NEVER
        self.change(phase="stopped", status=status, reason=reason)
        self._remind_at = self.now + REMINDER
        self.record()
        self._leave_when_alone()

    def _show_the_end(self) -> None:
        """Show the last view again to whoever has not said goodbye: a notice may get lost, and the
        next heartbeat come when nobody is there any more."""
        self._remind_at = self.now + REMINDER
        self._show(make_view(self.cluster))

    def _leave_when_alone(self) -> None:
        if self.cluster.phase != "stopped" or (self.roster.seats and self.now < self._gone_by):
            return
        for seat in self.roster.seats.values():
            self.note("warning", f"{seat.member.name} did not say goodbye")
        self.do(Exit(self.cluster.status, self.cluster.reason))

    # What everyone is told.

    def change(self, **changes: Any) -> None:
        """Number a new view and send it to all members."""
        members = tuple(seat.member for seat in self.roster.seats.values())
        self.cluster = replace(
            self.cluster, number=self.cluster.number + 1, members=members, **changes
        )
        self._show(make_view(self.cluster))

    def _show(self, view: View) -> None:
        for seat in self.roster.seats.values():
            self.do(self.courier.notify(seat.peer, view))

    def event(self, text: str) -> None:
        self.board.event(text, self.now)
        self.note("info", text)
        self.record()

    def record(self) -> None:
        rows = self.board.take()
        if rows:
            self.do(Record(rows))


def version_table(theirs: dict[str, str], ours: dict[str, str]) -> str:
    """A table of versions, a line each, for a role that is refused."""
    rows = [("", "this role", "controller")]
    rows += [(key, theirs.get(key, "-"), ours.get(key, "-")) for key in {**ours, **theirs}]
    lines = [f"  {name:<10} {left:<12} {right}" for name, left, right in rows]
    return "protocol versions differ; install the same dualshard on both\n" + "\n".join(lines)


def _ending(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"
