"""A parameter server's state: events in, actions out. No socket, thread or clock.

It follows the controller's bucket table, takes first values, applies pushes at once (Downpour:
Dean et al., NIPS 2012, section 4.1) and answers pulls.
"""

from collections import Counter
from typing import Protocol

from ..common.cluster import Cluster
from ..common.delivery import Courier, Peer
from ..common.errors import RemoteError
from ..common.job import Job
from ..common.messages import (
    Ack,
    Attach,
    Envelope,
    Form,
    Message,
    Pull,
    Push,
    Pushed,
    Ready,
    Shard,
    Start,
    WrongOwner,
)
from ..common.rules import make_rule
from ..common.types import Float32, Role
from .saving import Saving
from .store import BadPush, ShardStore


class Lanes(Protocol):
    """Memory shared with workers of this host; `sharing` has the real one."""

    def attach(self, source: int, wanted: Attach) -> None:
        """Map a worker's segment. Raises `RemoteError` where that cannot be."""

    def gradient(self, source: int, lane: int, begin: int, end: int) -> Float32 | None:
        """A shard of a lane's gradient; None if there is no such lane."""

    def deliver(self, source: int, begin: int, values: Float32) -> None:
        """Write a fresh shard into the worker's parameter vector."""

    def keep_only(self, present: set[int]) -> None:
        """Forget the segments of workers that are gone."""


class ParameterServer(Saving):
    """Holds the shards whose buckets the table gives to this rank.

    Arguments:
        lanes: memory shared with workers of this host, or None to share none.
    """

    role = Role.PARAMSERVER

    def __init__(self, courier: Courier, *, lanes: Lanes | None = None, **session: object) -> None:
        super().__init__(courier, **session)
        self.counters: Counter[str] = Counter()
        self._lanes = lanes
        self._owned: set[int] = set()
        self._told_ready = False
        self.requests |= {
            Start: self._on_start,
            Pull: self._on_pull,
            Push: self._on_push,
            Attach: self._on_attach,
        }
        self.replies[Ready] = lambda request, reply: None

    def configure(self, job: Job) -> None:
        """The job has come with the welcome."""
        self._job = job
        rule = make_rule(
            job.optimizer.rule,
            lr=job.optimizer.lr,
            momentum=job.optimizer.momentum,
            weight_decay=job.optimizer.weight_decay,
        )
        self.store = ShardStore(rule, job.train.staleness_scaling, job.optimizer.schedule)
        self.store.before_change = self.copies.before_change

    def viewed(self, old: Cluster, new: Cluster) -> None:
        if self._lanes is not None:
            self._lanes.keep_only({member.incarnation for member in new.members})
        if self._job is None or self.store is None:
            return
        if new.data is not None:
            batches = -(-new.data.samples // self._job.data.batch_size)
            self.store.planned = max(1, batches * self._job.job.epochs)
        if not new.layout or new.table.epoch == old.table.epoch:
            return
        self._shards = new.shards(self._job.paramserver.shard_bytes, self._job.paramserver.buckets)
        self._owned = {
            shard
            for bucket, owner in enumerate(new.table.owners)
            if owner == self.rank
            for shard in self._shards.shards_of(bucket)
        }
        self._tell_ready()
        self.restore(self._owned - self.store.shards.keys())

    def restored(self) -> None:
        self._tell_ready()

    def _tell_ready(self) -> None:
        """Report once that every shard has its first values; a server without shards at once."""
        if self._told_ready or self.store is None or self._owned - self.store.shards.keys():
            return
        self._told_ready = True
        self.note("info", f"holds {len(self._owned)} shards, {self.store.bytes_held:,} bytes")
        self.tell(Ready(self.cluster.table.epoch))

    def state_word(self) -> str:
        return f"{len(self._owned)} shards"

    def report(self) -> dict[str, float]:
        held = self.store.bytes_held if self.store else 0
        return {"shards": len(self._owned), "bytes_held": held, **self.counters}

    def _ours(self, peer: Peer, envelope: Envelope, shard: int, *, started: bool) -> bool:
        """Whether a request for a shard can be served here and now; says so if not."""
        message = envelope.message
        assert isinstance(message, Start | Pull | Push)
        known = self.store is not None and self.store.shards.keys()
        if (
            message.table_epoch == self.cluster.table.epoch
            and shard in self._owned
            and (not started or (known and shard in known))
        ):
            return True
        self.counters["wrong_owner"] += 1
        self.answer(peer, envelope, WrongOwner(self.cluster.table.epoch))
        return False

    def _on_start(self, peer: Peer, envelope: Envelope) -> None:
        start = envelope.message
        assert isinstance(start, Start)
        if not self._ours(peer, envelope, start.shard, started=False):
            return
        assert self.store is not None
        assert self._shards is not None
        begin, end = self._shards.span(start.shard)
        if start.values.shape != (end - begin,) or start.values.dtype.str != "<f4":
            self.refuse(
                peer,
                envelope,
                "shape",
                f"shard {start.shard} takes float32 "
                f"({end - begin},), not {start.values.dtype} {start.values.shape}",
            )
            return
        self.store.start(start.shard, start.values, self.cluster.decayed(begin, end))
        self.answer(peer, envelope, Ack())
        self._tell_ready()

    def _on_pull(self, peer: Peer, envelope: Envelope) -> None:
        pull = envelope.message
        assert isinstance(pull, Pull)
        if self._ours(peer, envelope, pull.shard, started=True):
            self.counters["pulls"] += 1
            self._send_shard(peer, envelope, pull.shard, 0)

    def _on_push(self, peer: Peer, envelope: Envelope) -> None:
        push = envelope.message
        assert isinstance(push, Push)
        if not self._ours(peer, envelope, push.shard, started=True):
            return
        assert self.store is not None
        try:
            staleness = self.store.push(
                push.shard, push.version, push.count, self._gradient(envelope.source, push)
            )
        except BadPush as bad:
            self._refuse_push(peer, envelope, bad)
            return
        self.counters["pushes"] += 1
        self.counters["staleness"] += staleness
        if push.fetch:
            self._send_shard(peer, envelope, push.shard, staleness)
        else:
            version = self.store.shards[push.shard].version
            self.answer(peer, envelope, Pushed(push.shard, version, staleness))

    def _gradient(self, source: int, push: Push) -> Float32:
        """The pushed gradient, from the message or from the worker's segment."""
        if push.lane < 0:
            if push.gradient.dtype.str != "<f4":
                found = push.gradient.dtype
                raise BadPush("dtype", f"shard {push.shard} takes float32, not {found}")
            return push.gradient
        assert self._shards is not None
        begin, end = self._shards.span(push.shard)
        shared = self._lanes.gradient(source, push.lane, begin, end) if self._lanes else None
        if shared is None:
            raise BadPush("lane", f"lane {push.lane} of the sender is not attached")
        return shared

    def _refuse_push(self, peer: Peer, envelope: Envelope, bad: BadPush) -> None:
        member = self.cluster.member(envelope.source)
        who = member.name if member else f"{envelope.source:016x}"
        self.counters[f"refused:{bad.code}:{who}"] += 1
        if self.counters[f"refused:{bad.code}:{who}"] == 1:
            self.note("warning", f"refused a push of {who}: {bad}")
        self.refuse(peer, envelope, bad.code, f"{self.role}-{self.rank}: {bad}")

    def repeated(self, peer: Peer, envelope: Envelope) -> None:
        """A repeat of what was applied gets the fresh shard; it is not applied again."""
        message = envelope.message
        if isinstance(message, Pull | Push) and envelope.form is Form.REQUEST:
            self.counters["repeats"] += 1
            self._send_shard(peer, envelope, message.shard, 0)

    def _send_shard(self, peer: Peer, envelope: Envelope, shard: int, staleness: int) -> None:
        """Hand out a copy: a live view could tear under the next push."""
        assert self.store is not None
        assert self._shards is not None
        held = self.store.shards[shard]
        message = envelope.message
        reply: Message = Pushed(shard, held.version, staleness)
        if isinstance(message, Push) and message.lane >= 0:
            assert self._lanes is not None
            self._lanes.deliver(envelope.source, self._shards.span(shard)[0], held.values)
        else:
            reply = Shard(shard, held.version, staleness, held.values.copy())
        self.answer(peer, envelope, reply, remember=False)

    def _on_attach(self, peer: Peer, envelope: Envelope) -> None:
        attach = envelope.message
        assert isinstance(attach, Attach)
        if not self.cluster.table.owners:  # the worker's view is ahead of ours
            self.answer(peer, envelope, WrongOwner(self.cluster.table.epoch))
            return
        try:
            if self._lanes is None or self._job is None or self._job.train.transport == "tcp":
                raise RemoteError("this server shares no memory")
            if attach.size != self.cluster.size:
                raise RemoteError(f"rows of {attach.size} elements, not {self.cluster.size}")
            self._lanes.attach(envelope.source, attach)
        except RemoteError as refused:
            self.refuse(peer, envelope, "lane", str(refused))
            return
        self.answer(peer, envelope, Ack())
