"""A parameter server's state: events in, actions out. No socket, thread or clock.

It follows the controller's bucket table and view, takes first values, answers pulls, and shares
memory with workers of its host. Pushes are taken in `pushing`, checkpoints made in `saving`.
"""

from dataclasses import dataclass

from ..common import modes
from ..common.cluster import Cluster
from ..common.delivery import Courier, Peer
from ..common.errors import RemoteError
from ..common.job import Job
from ..common.messages import (
    Ack,
    Attach,
    Envelope,
    Pull,
    Ready,
    Start,
    WrongOwner,
)
from ..common.types import Role
from ..common.wire import take_over
from .modes import make_store, segments_of
from .pushes import Lanes
from .pushing import Pushing
from .store import BadPush


@dataclass(frozen=True, slots=True)
class WarmedUp:
    """Local event: the kernels of the job's mode are loaded."""


class ParameterServer(Pushing):
    """Holds the shards whose buckets the table gives to this rank.

    Arguments:
        lanes: memory shared with workers of this host, or None to share none.
    """

    role = Role.PARAMSERVER

    def __init__(self, courier: Courier, *, lanes: Lanes | None = None, **session: object) -> None:
        super().__init__(courier, lanes=lanes, **session)
        self._warming = self._told_ready = False
        self.requests |= {Start: self._on_start, Pull: self._on_pull, Attach: self._on_attach}
        self.replies[Ready] = lambda request, reply: None

    def configure(self, job: Job) -> None:
        """The job has come with the welcome."""
        super().configure(job)
        self._job = job
        self.store = make_store(job)
        self.store.before_change = self.copies.before_change

    def warm_up(self) -> None:
        """The kernels are being loaded: training waits until `WarmedUp` has come."""
        self._warming = True

    def happened(self, event: object) -> None:
        if isinstance(event, WarmedUp):
            self._warming = False
            if self.cluster.table.owners:
                self._tell_ready()
        else:
            super().happened(event)

    # Following the view.

    def viewed(self, old: Cluster, new: Cluster) -> None:
        if self._lanes is not None:
            self._lanes.keep_only({member.incarnation for member in new.members})
        if self.store is None:
            return
        if new.data is not None:
            batches = -(-new.data.samples // self._job.data.batch_size)
            self.store.update.planned = max(1, batches * self._job.job.epochs)
        if new.layout and new.table.epoch != old.table.epoch:
            self._shards = new.shards(
                self._job.paramserver.shard_bytes, self._job.paramserver.buckets
            )
            self._owned = {
                shard
                for bucket, owner in enumerate(new.table.owners)
                if owner == self.rank
                for shard in self._shards.shards_of(bucket)
            }
            self._tell_ready()
            self.restore(self._owned - self.store.shards.keys())
        self._see(old, new)

    def _see(self, old: Cluster, new: Cluster) -> None:
        """Who takes part now; nobody waits any longer for those that have gone."""
        assert self.store is not None
        crowd = self.store.crowd
        active = [m for m in new.of_role(Role.WORKER) if new.active in (-1, m.rank)]
        lanes = range(modes.participants(self._job))
        present = [(member.incarnation, lane) for member in active for lane in lanes]
        # The warm start's end brings the others in, as the beginning did the first.
        begins = old.phase != "training" or old.active != new.active
        fresh = [who for who in present if who not in crowd]
        for who in crowd.see(present, training=not begins):
            self.store.forget(who)
            self._tickets.forget(who)
        if begins and fresh:
            self.store.join(fresh)
        if self._pacing is not None:
            self._pacing.keep_only(present)
        if new.phase == "training":
            crowd.turn(new.leg)
        self._settle_all()

    def restored(self) -> None:
        self._tell_ready()

    def _tell_ready(self) -> None:
        """Report once that every shard has its first values, and the kernels are there."""
        if self._told_ready or self._warming or self.store is None:
            return
        if self._owned - self.store.shards.keys():
            return
        self._told_ready = True
        self.note("info", f"holds {len(self._owned)} shards, {self.store.bytes_held:,} bytes")
        self.tell(Ready(self.cluster.table.epoch))

    def state_word(self) -> str:
        return f"{len(self._owned)} shards"

    def report(self) -> dict[str, float]:
        held = self.store.bytes_held if self.store else 0
        return {"shards": len(self._owned), "bytes_held": held, **self.counters}

    # First values, pulls, shared memory.

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
        segments = segments_of(self._job, self.cluster, begin, end)
        taken = take_over(start.values)
        values = start.values.copy() if taken is None else taken
        self.store.start(start.shard, values, segments)
        self.answer(peer, envelope, Ack())
        self._tell_ready()

    def _on_pull(self, peer: Peer, envelope: Envelope) -> None:
        pull = envelope.message
        assert isinstance(pull, Pull)
        if not self._ours(peer, envelope, pull.shard):
            return
        assert self.store is not None
        self.counters["pulls"] += 1
        if pull.lane >= 0:
            self._wake((envelope.source, pull.lane), pull.leg)
        try:
            reply = self._fresh(pull.shard, pull.encoding)
        except BadPush as bad:
            self.refuse(peer, envelope, bad.code, f"{self.role}-{self.rank}: {bad}")
            return
        self.answer(peer, envelope, reply, remember=False)

    def _on_attach(self, peer: Peer, envelope: Envelope) -> None:
        attach = envelope.message
        assert isinstance(attach, Attach)
        if not self.cluster.table.owners:  # the worker's view is ahead of ours
            self.answer(peer, envelope, WrongOwner(self.cluster.table.epoch))
            return
        try:
            if self._lanes is None or self._job.train.transport in ("tcp", "ipc"):
                raise RemoteError("this server shares no memory")
            self._check_rows(attach)
            self._lanes.attach(envelope.source, attach)
        except RemoteError as refused:
            self.refuse(peer, envelope, "lane", str(refused))
            return
        self.answer(peer, envelope, Ack())

    def _check_rows(self, attach: Attach) -> None:
        """Raises `RemoteError` unless the rows are of the whole net, or of a part of a cut one."""
        assert self._shards is not None
        parts = map(self._shards.elements_of_part, range(self._shards.parts))
        held = {begin: end - begin for begin, end in parts}
        if held.get(attach.begin) != attach.size:
            told = f"rows of {attach.size} elements from {attach.begin} on"
            raise RemoteError(f"{told}, not {' or '.join(map(str, held.values()))}")
