"""The controller's state: events in, actions out. No socket, thread or clock.

It decides who is in, which server owns which bucket, when an epoch starts and ends, and when the
job is over. All that it decides is one numbered view (`common.cluster`), sent to everyone at each
change and again to whoever answers a heartbeat with an old one. Gradients never pass here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...common.cluster import EMPTY, Cluster, DataShape, make_view, parse_layout
from ...common.delivery import Courier, Open, Peer
from ...common.job import Job
from ...common.messages import (
    PROTOCOL,
    Ack,
    AskStatus,
    DataFacts,
    Describe,
    Envelope,
    Evaluate,
    Evaluated,
    Form,
    Heartbeat,
    Join,
    Leave,
    Message,
    Obituary,
    Progress,
    Pull,
    Ready,
    Refused,
    Serve,
    Shard,
    Status,
    Stop,
    View,
    Welcome,
)
from ...common.node import NEVER, Action, Exit, Failed, Node
from ...common.sharding import Table, assign
from ...common.types import Float32, Member, Role
from .epochs import EpochLedger
from .gather import Gathering
from .membership import Roster, Seat
from .scoreboard import Row, Scoreboard

FAREWELL = 3.0
"""Seconds that the controller waits for the roles to say goodbye."""


@dataclass(frozen=True, slots=True)
class Record:
    """Action: append these rows to metrics.jsonl."""

    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class SaveModel:
    """Action: write the final model; post `Saved` when it is on disk."""

    vector: Float32
    cluster: Cluster


@dataclass(frozen=True, slots=True)
class Saved:
    """Local event: the run directory is complete."""


class Controller(Node):
    """One job from the first join to the last goodbye.

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
        )
        self.cluster: Cluster = EMPTY
        self.board = Scoreboard()
        self.ledger: EpochLedger | None = None
        self.gathering: Gathering | None = None
        self._start_by = NEVER
        self._facts: set[int] = set()
        self._described: set[int] = set()
        self._ready: set[int] = set()
        self._evaluation = 0
        self._evaluating = False
        self._next_evaluation = job.job.evaluate_every
        self._measured = False
        self._saving = False
        self._gone_by = NEVER
        self.requests |= {
            Join: self._on_join,
            Heartbeat: self._on_heartbeat,
            Leave: self._on_leave,
            Obituary: self._on_obituary,
            DataFacts: self._on_facts,
            Describe: self._on_describe,
            Ready: self._on_ready,
            Progress: self._on_progress,
            AskStatus: self._on_status,
            Stop: self._on_stop,
        }
        self.replies |= {
            Serve: lambda request, reply: None,
            Evaluate: self._on_evaluated,
            Pull: self._on_shard,
        }

    def start(self, now: float) -> list[Action]:
        """The first actions."""
        self.now = now
        self._start_by = now + self.job.job.start_timeout
        self.note("info", f"waiting at {self.address} for {', '.join(self.roster.missing())}")
        self._change()
        return self.take()

    # Joining.

    def _on_join(self, peer: Peer, envelope: Envelope) -> None:
        join = envelope.message
        assert isinstance(join, Join)
        if envelope.protocol != PROTOCOL:
            self._event(
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
        member = Member(Role(join.role), -1, envelope.source, join.address, join.host, join.pid)
        seat = self.roster.join(member, join.rank, peer, self.now)
        if isinstance(seat, str):
            self.refuse(peer, envelope, "full", seat)
            return
        self.answer(
            peer, envelope, Welcome(seat.member.rank, self.job.to_dict(), self.job.job.lease)
        )
        missing = self.roster.missing()
        waiting = f"; waiting for {', '.join(missing)}" if missing else "; all are here"
        self._event(f"{seat.member.name} joined from {join.host} (pid {join.pid}){waiting}")
        phase = self.cluster.phase
        if phase == "joining" and not missing:
            phase = "preparing"
            self._start_by = NEVER
        self._change(phase=phase)

    def _on_facts(self, peer: Peer, envelope: Envelope) -> None:
        facts = envelope.message
        assert isinstance(facts, DataFacts)
        self.answer(peer, envelope, Ack())
        shape = DataShape(
            facts.samples,
            facts.test_samples,
            facts.classes,
            tuple(facts.sample_shape),
            facts.portions,
        )
        if self.cluster.data is not None and shape != self.cluster.data:
            self.stop(
                2,
                f"the data servers hold different data: {self.cluster.data} and {shape}; "
                "give each the same data.source",
            )
            return
        self._facts.add(envelope.source)
        if self.cluster.data is None:
            self._change(data=shape)

    def _on_describe(self, peer: Peer, envelope: Envelope) -> None:
        describe = envelope.message
        assert isinstance(describe, Describe)
        try:
            layout = parse_layout(describe.layout)
        except (ValueError, TypeError) as broken:
            self.refuse(peer, envelope, "layout", f"malformed layout: {broken}")
            return
        seat = self.roster.seats.get(envelope.source)
        if seat is None:
            self.refuse(peer, envelope, "unknown", "this worker is not a member")
            return
        if self.cluster.layout and layout != self.cluster.layout:
            detail = _layout_difference(seat.member.name, self.cluster.layout, layout)
            self.refuse(peer, envelope, "layout", detail)
            self.stop(2, detail)
            return
        self.answer(peer, envelope, Ack())
        self._described.add(envelope.source)
        if not self.cluster.layout:
            cluster = replace(self.cluster, layout=layout)
            shards = cluster.shards(self.job.paramserver.shard_bytes, self.job.paramserver.buckets)
            ranks = [seat.member.rank for seat in self.roster.of_role(Role.PARAMSERVER)]
            owners = assign(shards.weights(), ranks, None)
            self._change(layout=layout, table=Table(1, tuple(owners)))
        self._begin_training()

    def _on_ready(self, peer: Peer, envelope: Envelope) -> None:
        self.answer(peer, envelope, Ack())
        self._ready.add(envelope.source)
        self._begin_training()

    def _begin_training(self) -> None:
        """Start the first epoch once data, models and shards are ready."""

        def all_in(role: Role, done: set[int]) -> bool:
            seats = self.roster.of_role(role)
            return bool(seats) and all(seat.member.incarnation in done for seat in seats)

        if (
            self.cluster.phase == "preparing"
            and all_in(Role.PARAMSERVER, self._ready)
            and all_in(Role.WORKER, self._described)
            and all_in(Role.DATASERVER, self._facts)
        ):
            active = -1
            if self.job.job.warm_start > 0:
                active = self.roster.of_role(Role.WORKER)[0].member.rank
                self._event(f"worker-{active} warms up alone for {self.job.job.warm_start} steps")
            self._begin_epoch(0, active)

    # Epochs.

    def _begin_epoch(self, epoch: int, active: int) -> None:
        assert self.cluster.data is not None
        servers = self.roster.of_role(Role.DATASERVER)
        incarnations = [seat.member.incarnation for seat in servers]
        self.ledger = EpochLedger(epoch, self.cluster.data.portions, incarnations)
        self.board.begin_epoch(self.now)
        self._change(phase="training", epoch=epoch, active=active)
        for seat in servers:
            self.ask(seat.peer, Serve(epoch, self.ledger.share[seat.member.incarnation]))

    def _on_progress(self, peer: Peer, envelope: Envelope) -> None:
        progress = envelope.message
        assert isinstance(progress, Progress)
        self.answer(peer, envelope, Ack())
        if (
            self.ledger is None
            or progress.epoch != self.ledger.epoch
            or self.cluster.phase != "training"
        ):
            return
        self.ledger.progress(
            envelope.source,
            progress.left,
            progress.busy,
            progress.done,
            progress.reissued,
            progress.measures,
        )
        self.board.add_samples(progress.measures.get("samples", 0.0), self.now)
        if progress.reissued:
            self._event(f"{progress.reissued} portions of epoch {progress.epoch} served again")
        self._check_epoch()

    def _check_epoch(self) -> None:
        """End the epoch if it is over; evaluate when it is time."""
        ledger = self.ledger
        if ledger is None or self.cluster.phase != "training":
            return
        workers = [seat.member.incarnation for seat in self.roster.of_role(Role.WORKER)]
        over = ledger.ended(workers, self.job.job.epoch_quorum)
        if over:
            self.board.end_epoch(ledger, self.now)
            if ledger.dropped:
                self._event(
                    f"epoch {ledger.epoch} ended with {ledger.dropped} of "
                    f"{ledger.portions} portions dropped (epoch_quorum "
                    f"{self.job.job.epoch_quorum:g})"
                )
        if over and ledger.epoch + 1 >= self.job.job.epochs:
            self._finish()
        elif over:
            self._begin_epoch(ledger.epoch + 1, self.cluster.active)
        position = self._epochs_done()
        if position >= self._next_evaluation and self.cluster.phase == "training":
            every = self.job.job.evaluate_every
            self._next_evaluation = (position // every + 1) * every
            self._evaluate()
        self._record()

    def _epochs_done(self) -> float:
        """How many epochs of samples are done."""
        ledger = self.ledger
        if ledger is None:
            return 0.0
        return ledger.epoch + len(ledger.done) / max(ledger.portions, 1)

    # The end of training: last evaluation, final model, goodbye.

    def _finish(self) -> None:
        self.board.ended_at = self.now
        self._change(phase="finishing")
        self._evaluate(last=True)
        shards = self.cluster.shards(self.job.paramserver.shard_bytes, self.job.paramserver.buckets)
        self.gathering = Gathering(shards)
        self._gather()

    def _evaluate(self, *, last: bool = False) -> None:
        """Ask the first worker to measure; skipped while it is still busy with the one before."""
        workers = self.roster.of_role(Role.WORKER)
        if not workers or (self._evaluating and not last):
            return
        self._evaluation += 1
        self._evaluating = True
        tag = (self._evaluation, self._epochs_done(), last, workers[0].member.incarnation)
        self.ask(workers[0].peer, Evaluate(self._evaluation), tag)

    def _on_evaluated(self, request: Open, reply: Message) -> None:
        assert isinstance(reply, Evaluated)
        number, position, last, _ = request.tag
        self._evaluating = False
        self.board.evaluated(number, position, reply.samples, reply.metrics, self.now)
        self._record()
        if last:
            self._measured = True
            self._save()

    def _gather(self) -> None:
        assert self.gathering is not None
        shards = self.cluster.shards(self.job.paramserver.shard_bytes, self.job.paramserver.buckets)
        peers = {s.member.rank: s.peer for s in self.roster.of_role(Role.PARAMSERVER)}
        for shard in self.gathering.next():
            owner = self.cluster.table.owners[shards.bucket(shard)]
            self.ask(peers[owner], Pull(self.cluster.table.epoch, shard))

    def _on_shard(self, request: Open, reply: Message) -> None:
        if self.gathering is not None and isinstance(reply, Shard):
            self.gathering.add(reply.shard, reply.values)
            self._gather()
            self._save()

    def _save(self) -> None:
        if self._saving or not self._measured:
            return
        if self.gathering is not None and self.gathering.complete:
            self._saving = True
            self.do(SaveModel(self.gathering.vector, self.cluster))

    def stop(self, status: int, reason: str) -> None:
        """End the job: tell everyone, wait for their goodbyes, exit."""
        if self.cluster.phase == "stopped":
            return
        if self.board.ended_at is None:
            self.board.ended_at = self.now
        if status:
            self._event(f"stopping: {reason}")
        self._gone_by = self.now + FAREWELL
        self._start_by = NEVER
        self._change(phase="stopped", status=status, reason=reason)
        self._record()
        self._leave_when_alone()

    def _leave_when_alone(self) -> None:
        if self.cluster.phase != "stopped" or (self.roster.seats and self.now < self._gone_by):
            return
        for seat in self.roster.seats.values():
            self.note("warning", f"{seat.member.name} did not say goodbye")
        self.do(Exit(self.cluster.status, self.cluster.reason))

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
                f"its lease of {self.job.job.lease:g} s had run out, or it never joined",
            )
            return
        seat.peer, seat.view = peer, beat.view
        seat.state, seat.counters = beat.state, beat.counters
        old = beat.view < self.cluster.number
        self.answer(peer, envelope, make_view(self.cluster) if old else Ack())
        if (
            seat.member.rank == self.cluster.active
            and beat.counters.get("steps", 0.0) >= self.job.job.warm_start
        ):
            self._event("the warm start is over: all workers train")
            self._change(active=-1)

    def _on_leave(self, peer: Peer, envelope: Envelope) -> None:
        leave = envelope.message
        assert isinstance(leave, Leave)
        self.answer(peer, envelope, Ack())
        seat = self.roster.remove(envelope.source)
        if seat is not None and self.cluster.phase != "stopped":
            self._lost(seat, leave.status, leave.reason or "it left")
        self._leave_when_alone()

    def _on_obituary(self, peer: Peer, envelope: Envelope) -> None:
        news = envelope.message
        assert isinstance(news, Obituary)
        seat = self.roster.at(news.host, news.pid)
        if seat is not None:
            self.roster.remove(seat.member.incarnation)
            if self.cluster.phase != "stopped":
                self._lost(seat, 1, f"its process ended with {_ending(news.status)}")
        self._leave_when_alone()

    def ticked(self) -> None:
        for seat in self.roster.silent(self.now):
            self.roster.remove(seat.member.incarnation)
            if self.cluster.phase != "stopped":
                self._lost(seat, 1, f"nothing heard for {self.now - seat.heard_at:.1f} s")
        if self.now >= self._start_by:
            missing = ", ".join(self.roster.missing())
            self.stop(
                1,
                f"missing after {self.job.job.start_timeout:g} s: {missing}; each is to "
                f"reach the controller at {self.address}: start it with --controller "
                f"{self.address}, or allow more time with --start-timeout",
            )
        self._leave_when_alone()

    def wake_at(self) -> float:
        return min(
            super().wake_at(), self.roster.lease_ends() + 0.001, self._start_by, self._gone_by
        )

    def _lost(self, seat: Seat, status: int, why: str) -> None:
        """A member is gone before the end: go on without it, or stop and say why."""
        member = seat.member
        if status == 2:
            self.stop(2, why)
            return
        name = f"{member.name} on {member.host} (pid {member.pid})"
        self._event(f"lost {name}: {why}")
        for request in self.courier.forget(seat.peer):
            if isinstance(request.message, Evaluate):
                self._evaluating = False
                self._evaluate(last=request.tag[2])
        if self.cluster.phase == "joining":
            self._change()
        elif member.role is Role.PARAMSERVER:
            self.stop(1, f"lost {name} and the shards it held: {why}")
        elif not self.roster.of_role(member.role):
            self.stop(1, f"lost the last {member.role}, {name}: {why}")
        else:
            self._go_on_without(member)

    def _go_on_without(self, member: Member) -> None:
        dealt: dict[int, list[int]] = {}
        if member.role is Role.DATASERVER and self.ledger is not None:
            dealt = self.ledger.lose_server(member.incarnation)
        if member.rank == self.cluster.active and member.role is Role.WORKER:
            self._change(active=self.roster.of_role(Role.WORKER)[0].member.rank)
        else:
            self._change()
        for incarnation, portions in dealt.items():
            self.ask(self.roster.seats[incarnation].peer, Serve(self.cluster.epoch, portions))
        self._begin_training()
        self._check_epoch()

    def _on_stop(self, peer: Peer, envelope: Envelope) -> None:
        order = envelope.message
        assert isinstance(order, Stop)
        self.answer(peer, envelope, Ack())
        self.stop(order.status, order.reason)

    def happened(self, event: object) -> None:
        if isinstance(event, Saved):
            self.stop(0, "")
        elif isinstance(event, Failed):
            self.stop(event.status, event.reason)

    def refused(self, request: Open, reply: Refused) -> None:
        super().refused(request, reply)
        if isinstance(request.message, Evaluate):
            self.stop(1, f"the evaluation failed: {reply.detail}")

    # What everyone is told.

    def _change(self, **changes: Any) -> None:
        """Number a new view and send it to all members."""
        members = tuple(seat.member for seat in self.roster.seats.values())
        self.cluster = replace(
            self.cluster, number=self.cluster.number + 1, members=members, **changes
        )
        view: View = make_view(self.cluster)
        for seat in self.roster.seats.values():
            self.do(self.courier.notify(seat.peer, view))

    def _event(self, text: str) -> None:
        self.board.event(text, self.now)
        self.note("info", text)
        self._record()

    def _record(self) -> None:
        rows = self.board.take()
        if rows:
            self.do(Record(rows))

    def _on_status(self, peer: Peer, envelope: Envelope) -> None:
        if envelope.form is Form.REQUEST:
            self.answer(peer, envelope, Status(self.status()), remember=False)

    def repeated(self, peer: Peer, envelope: Envelope) -> None:
        if isinstance(envelope.message, AskStatus):
            self._on_status(peer, envelope)

    def status(self) -> dict[str, Any]:
        """The report behind `dualshard status`: plain values only."""
        roles = [
            {
                "name": s.member.name,
                "role": str(s.member.role),
                "rank": s.member.rank,
                "host": s.member.host,
                "pid": s.member.pid,
                "address": s.member.address,
                "state": s.state,
                "silent_seconds": self.now - s.heard_at,
                "counters": s.counters,
            }
            for role in self.roster.expected
            for s in self.roster.of_role(role)
        ]
        return {
            "phase": self.cluster.phase,
            "epoch": self.cluster.epoch,
            "epochs": self.job.job.epochs,
            "epochs_done": self._epochs_done(),
            "missing": self.roster.missing(),
            "roles": roles,
            "samples_per_second_now": self.board.rate(self.now),
            "last_epoch": self.board.epochs[-1] if self.board.epochs else {},
            "last_evaluation": self.board.evaluations[-1] if self.board.evaluations else {},
            "events": list(self.board.events),
            "status": self.cluster.status,
            "reason": self.cluster.reason,
            "address": self.address,
            "summary": self.board.summary(self.now),
        }


def version_table(theirs: dict[str, str], ours: dict[str, str]) -> str:
    """A table of versions, a line each, for a role that is refused."""
    rows = [("", "this role", "controller")]
    rows += [(key, theirs.get(key, "-"), ours.get(key, "-")) for key in {**ours, **theirs}]
    lines = [f"  {name:<10} {left:<12} {right}" for name, left, right in rows]
    return "protocol versions differ; install the same dualshard on both\n" + "\n".join(lines)


def _layout_difference(who: str, expected: Sequence[Any], actual: Sequence[Any]) -> str:
    """The first parameter in which two models differ."""
    for one, other in zip(expected, actual, strict=False):
        if one != other:
            return (
                f"{who} built another model: parameter {other.name} {list(other.shape)}, "
                f"the first worker's is {one.name} {list(one.shape)}; give all the same "
                "model.ref and model.args"
            )
    return (
        f"{who} built another model: {len(actual)} parameters, the first worker's has "
        f"{len(expected)}; give all the same model.ref and model.args"
    )


def _ending(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"
