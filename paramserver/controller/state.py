"""The controller's state: events in, actions out. No socket, thread or clock.

It decides when an epoch starts and ends, when to evaluate, and when the job is over; who may take
part stands in `admission`, what must be there first in `setting_up`. Gradients never pass here.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...common.cluster import Cluster
from ...common.delivery import Courier, Open, Peer
from ...common.gathering import Gathering
from ...common.job import Job
from ...common.messages import (
    Accuse,
    Ack,
    AskStatus,
    Backup,
    Envelope,
    Evaluate,
    Evaluated,
    Form,
    Message,
    Progress,
    Pull,
    Refused,
    Serve,
    Shard,
    Status,
)
from ...common.node import Failed
from ...common.partition import takes_data
from ...common.types import Float32, Member, Role
from .checkpoints import NO_SUMS, Place
from .epochs import Ledger, Stretch
from .membership import Seat
from .position import next_evaluation
from .replacing import Replacing
from .report import status_report
from .resuming import Resumed
from .scoreboard import NAMED

REFUSALS = {
    "nonfinite": "it holds NaN or infinity",
    "shape": "its shape is not the shard's",
    "dtype": "it is not float32",
    "version": "its version is impossible",
    "lane": "its memory is not shared, or no longer",
    "encoding": "it is not what its encoding says",
    "turn": "the one before was not answered yet",
}
"""What the codes of `BadPush` mean to a person."""


@dataclass(frozen=True, slots=True)
class SaveModel:
    """Action: write the final model; post `Saved` when it is on disk."""

    vector: Float32
    cluster: Cluster


@dataclass(frozen=True, slots=True)
class Saved:
    """Local event: the run directory is complete."""


class Controller(Replacing):
    """One job from the first join to the last goodbye: set-up, epochs, evaluations, final model."""

    def __init__(
        self,
        courier: Courier,
        job: Job,
        address: str,
        versions: dict[str, str],
        place: Place | None = None,
        resumed: Resumed | None = None,
    ) -> None:
        super().__init__(courier, job, address, versions, place, resumed)
        self.gathering: Gathering | None = None
        self.wall_time: Callable[[], float] = lambda: 0.0
        """Seconds since 1970, for people; its process tells."""
        self._evaluation = 0
        self._evaluating = False
        self._next_evaluation = next_evaluation(
            job.job.evaluate_every, self.epochs_before, self.board.evaluations
        )
        self._measured = False
        self._saving = False
        self._saved_model = False
        self._refusals: set[str] = set()
        self.requests |= {
            Progress: self._on_progress,
            Accuse: self._on_accuse,
            AskStatus: self._on_status,
        }
        self.replies |= {
            Serve: lambda request, reply: None,
            Backup: lambda request, reply: None,
            Evaluate: self._on_evaluated,
            Pull: self._on_shard,
        }

    # Legs and epochs.

    def begin_leg(
        self, stretch: Stretch, done: Sequence[int] = (), measures: Mapping[str, float] = NO_SUMS
    ) -> None:
        servers = [
            seat
            for seat in self.roster.of_role(Role.DATASERVER)
            if seat.member.incarnation in self.facts
        ]
        incarnations = [seat.member.incarnation for seat in servers]
        sums: Counter[str] = Counter()
        sums.update(measures)
        leg = 0 if self.ledger is None else self.ledger.leg + 1
        self.ledger = Ledger(leg, stretch, incarnations, done, sums)
        if self.board.epoch != stretch.epoch:
            self.board.begin_epoch(stretch.epoch, self.now)
        for seat in servers:  # before the view: what workers wait for is their data
            share = self.ledger.share[seat.member.incarnation]
            self._serve(seat, share)
        self.change(phase="training", leg=self.ledger.leg)

    def _serve(self, seat: Seat, portions: list[int]) -> None:
        assert self.ledger is not None
        leg, stretch = self.ledger.leg, self.ledger.stretch
        self.ask(seat.peer, Serve(leg, stretch.epoch, stretch.begin, portions, stretch.end))

    def _on_progress(self, peer: Peer, envelope: Envelope) -> None:
        progress = envelope.message
        assert isinstance(progress, Progress)
        self.answer(peer, envelope, Ack())
        self.board.skip(progress.skipped, self.now)
        if (
            self.ledger is None
            or progress.leg != self.ledger.leg
            or self.cluster.phase != "training"
        ):
            return
        self.ledger.progress(envelope.source, progress)
        self.board.add_samples(progress.measures.get("samples", 0.0), self.now)
        if progress.reissued:
            named = self._named(self.ledger, progress.reissued)
            self.event(f"served again: {named}")
        self.check_epoch()
        if self.job.dataserver.backup and self.ledger.back_up():
            for seat in self.roster.of_role(Role.DATASERVER):
                self.ask(seat.peer, Backup(self.ledger.leg))

    def check_epoch(self) -> None:
        """End the epoch if it is over; evaluate when it is time."""
        ledger = self.ledger
        if ledger is None or self.between_legs or self.cluster.phase != "training":
            return
        workers = [seat.member for seat in self.roster.of_role(Role.WORKER)]
        takers = [one.incarnation for one in workers if takes_data(self.job, one.rank)]
        over = ledger.ended(takers, self.job.job.epoch_quorum)
        ends = over and ledger.stretch.ends_epoch
        if over:
            self._close(ledger)
        if ends and ledger.epoch + 1 >= self.job.job.epochs:
            self._finish(ledger)
        elif over:
            self.next_leg(ledger)
        elif self.job.job.epoch_quorum < 1.0 and self.checkpoint_due(self._epochs_done()):
            self.checkpoint(ledger)
        position = self._epochs_done()
        if position >= self._next_evaluation and self.cluster.phase == "training":
            every = self.job.job.evaluate_every
            self._next_evaluation = (position // every + 1) * every
            self._evaluate()
        self.record()

    def _close(self, ledger: Ledger) -> None:
        """A leg is over."""
        if ledger.repeated:
            self.event(f"done twice: {self._named(ledger, ledger.repeated)}")
        if ledger.dropped:
            self.event(
                f"epoch {ledger.epoch} ended with {ledger.dropped} of "
                f"{ledger.portions} portions dropped (epoch_quorum "
                f"{self.job.job.epoch_quorum:g})"
            )
        if ledger.stretch.ends_epoch:
            self.board.end_epoch(ledger, self.now)

    def _named(self, ledger: Ledger, portions: Sequence[int]) -> str:
        """Portions in words, by their places in the epoch's order."""
        spans = [ledger.stretch.span(portion) for portion in sorted(portions)[:NAMED]]
        named = ", ".join(f"{begin} to {end - 1}" for begin, end in spans)
        more = ", ..." if len(portions) > NAMED else ""
        count = f"{len(portions)} portion{'s' if len(portions) > 1 else ''}"
        return f"{count} of epoch {ledger.epoch} (samples {named}{more} of its order)"

    def _epochs_done(self) -> float:
        """How many epochs of samples are done."""
        return self.epochs_before if self.ledger is None else self.ledger.position

    # The end of training: last evaluation, final model, goodbye.

    def _finish(self, ledger: Ledger) -> None:
        self.board.ended_at = self.now
        self.change(phase="finishing")
        self._evaluate(last=True)
        shards = self.cluster.shards(self.job.paramserver.shard_bytes, self.job.paramserver.buckets)
        self.gathering = Gathering(shards)
        self._gather()
        self.checkpoint(ledger, over=True, last=True)

    def _evaluate(self, *, last: bool = False) -> None:
        """Ask the first worker that has a model to measure; skipped while it is still busy with the
        one before."""
        workers = self.roster.of_role(Role.WORKER)
        workers = [seat for seat in workers if self.has_model(seat)] or workers
        if not workers and last:
            self.stop(1, "no worker is left to measure the final model")
        if not workers or (self._evaluating and not last):
            return
        self._evaluation += 1
        self._evaluating = True
        tag = (self._evaluation, self._epochs_done(), last)
        self.ask(workers[0].peer, Evaluate(self._evaluation), tag)

    def _on_evaluated(self, request: Open, reply: Message) -> None:
        assert isinstance(reply, Evaluated)
        number, position, last = request.tag
        self._evaluating = False
        self.board.evaluated(number, position, reply.samples, reply.metrics, self.now)
        self.record()
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

    # Heartbeats and losses.

    def heard(self, seat: Seat) -> None:
        """End the warm start when it is time; tell of pushes that a server refused."""
        member, counters = seat.member, seat.counters
        if (
            member.role is Role.WORKER
            and member.rank == self.cluster.active
            and counters.get("steps", 0.0) >= self.job.job.warm_start
        ):
            self.event("the warm start is over: all workers train")
            self.change(active=-1)
        if member.role is not Role.PARAMSERVER:
            return
        for name in counters.keys() - self._refusals:
            if name.startswith("refused:"):
                self._refusals.add(name)
                code, _, who = name.removeprefix("refused:").partition(":")
                self.event(f"{member.name} refused a push of {who}: {REFUSALS.get(code, code)}")

    def _on_accuse(self, peer: Peer, envelope: Envelope) -> None:
        """A server has seen too many bad pushes in a row: stop, or go on without the worker."""
        accuse = envelope.message
        assert isinstance(accuse, Accuse)
        self.answer(peer, envelope, Ack())
        seat = self.roster.seats.get(accuse.incarnation)
        if seat is None or self.cluster.phase != "training":
            return
        why = f"{accuse.count} pushes in a row held NaN or infinity"
        if self.job.train.nonfinite == "stop":
            ref = self.job.model.ref
            self.stop(1, f"{seat.member.name}: {why} of {ref} (train.nonfinite = stop)")
        elif self.job.train.nonfinite == "drop-worker":
            self.put_out[accuse.incarnation] = why
            self.roster.remove(accuse.incarnation)
            self.lost(seat, 1, f"put out: {why} (train.nonfinite = drop-worker)")

    def lost(self, seat: Seat, status: int, why: str) -> None:
        """Go on without a member, or stop and say why."""
        member = seat.member
        if status == 2 and not self.spares(member):
            self.stop(2, why)
            return
        name = f"{member.name} on {member.host} (pid {member.pid})"
        self.event(f"lost {name}: {why}")
        self.forget(seat)
        if self.cluster.phase == "joining":
            self.change()
        elif member.role is Role.PARAMSERVER:
            self.stop(1, f"lost {name} and the shards it held: {why}")
        elif not self.roster.of_role(member.role) and not self.replaces(member.role):
            self.stop(1, f"lost the last {member.role}, {name}: {why}")
        else:
            self._go_on_without(member)
            self.look_for_the_last(member.role)
            self.look_for_parts()

    def forget(self, seat: Seat) -> None:
        for request in self.courier.forget(seat.peer):
            if isinstance(request.message, Evaluate):
                self._evaluating = False
                self._evaluate(last=request.tag[2])

    def _go_on_without(self, member: Member) -> None:
        dealt: dict[int, list[int]] = {}
        if member.role is Role.DATASERVER and self.ledger is not None:
            dealt = self.ledger.lose_server(member.incarnation)
        self.change(active=self._who_warms_up())
        for incarnation, portions in dealt.items():
            self._serve(self.roster.seats[incarnation], portions)
        self.begin_training()
        self.check_epoch()

    def _who_warms_up(self) -> int:
        """The rank of the only worker that trains; -1 if all do."""
        ranks = [seat.member.rank for seat in self.roster.of_role(Role.WORKER)]
        active = self.cluster.active
        return active if active < 0 or active in ranks or not ranks else ranks[0]

    def joined(self) -> None:
        super().joined()
        if (active := self._who_warms_up()) != self.cluster.active:
            self.change(active=active)

    def data_opened(self, incarnation: int) -> None:
        seat = self.roster.seats.get(incarnation)
        if seat is None or self.ledger is None or self.cluster.phase != "training":
            return
        if adopted := self.ledger.adopt(incarnation):
            self._serve(seat, adopted)

    def happened(self, event: object) -> None:
        if isinstance(event, Saved):
            self._saved_model = True
            self.checkpoints_done()
        elif isinstance(event, Failed):
            self.stop(event.status, event.reason)
        else:
            super().happened(event)

    def checkpoints_done(self) -> None:
        """Stop once the final model and the last checkpoint are there."""
        if self._saved_model and not self.checkpointing:
            self.stop(0, "")

    def refused(self, request: Open, reply: Refused) -> None:
        super().refused(request, reply)
        if not isinstance(request.message, Evaluate):
            return
        why = f"the evaluation failed: {reply.detail}"
        seat = next((s for s in self.roster.seats.values() if s.peer == request.peer), None)
        if seat is None or not self.spares(seat.member):
            self.stop(1, why)
            return
        self._evaluating = False
        self.drop(seat, why)
        self._evaluate(last=request.tag[2])

    def _on_status(self, peer: Peer, envelope: Envelope) -> None:
        if envelope.form is Form.REQUEST:
            self.answer(peer, envelope, Status(self.status()), remember=False)

    def repeated(self, peer: Peer, envelope: Envelope) -> None:
        if isinstance(envelope.message, AskStatus):
            self._on_status(peer, envelope)

    def status(self) -> dict[str, Any]:
        """The report behind `dualshard status`."""
        return {**status_report(self, self._epochs_done()), "time": self.wall_time()}
