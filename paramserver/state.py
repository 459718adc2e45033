"""A parameter server's state: events in, actions out. No socket, thread or clock.

It follows the controller's bucket table, takes first values, applies pushes at once (Downpour:
Dean et al., NIPS 2012, section 4.1) and answers pulls.
"""

from collections import Counter
from collections.abc import Callable, Sequence

from ..common.cluster import Cluster
from ..common.delivery import Courier, Peer
from ..common.job import Job
from ..common.messages import (
    Ack,
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
from ..common.session import Session
from ..common.sharding import Shards
from ..common.types import Float32, Role
from .store import BadPush, ShardStore


def no_lane(source: int, lane: Sequence[int], size: int) -> Float32:
    """For servers that share memory with nobody."""
    raise BadPush("lane", "this server shares no memory with the sender")


class ParameterServer(Session):
    """Holds the shards whose buckets the table gives to this rank.

    Arguments:
        lane: returns a gradient that lies in memory shared with `source`.
    """

    role = Role.PARAMSERVER

    def __init__(
        self, courier: Courier, *,
        lane: Callable[[int, Sequence[int], int], Float32] = no_lane, **session: object,
    ) -> None:
        super().__init__(courier, **session)  # type: ignore[arg-type]
        self.counters: Counter[str] = Counter()
        self.store: ShardStore | None = None
        self._lane = lane
        self._job: Job | None = None
        self._shards: Shards | None = None
        self._owned: set[int] = set()
        self._told_ready = False
        self.requests |= {Start: self._on_start, Pull: self._on_pull, Push: self._on_push}
        self.replies[Ready] = lambda request, reply: None

    def configure(self, job: Job) -> None:
        """The job has come with the welcome."""
        self._job = job
        rule = make_rule(job.optimizer.rule, lr=job.optimizer.lr, momentum=job.optimizer.momentum,
                         weight_decay=job.optimizer.weight_decay)
        self.store = ShardStore(rule, job.train.staleness_scaling)

    def viewed(self, old: Cluster, new: Cluster) -> None:
        if self._job is None or not new.layout or new.table.epoch == old.table.epoch:
            return
        self._shards = new.shards(self._job.paramserver.shard_bytes, self._job.paramserver.buckets)
        self._owned = {
            shard for shard in range(self._shards.count)
            if new.table.owners[self._shards.bucket(shard)] == self.rank
        }
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
        if message.table_epoch == self.cluster.table.epoch and shard in self._owned \
                and (not started or (known and shard in known)):
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
            self.refuse(peer, envelope, "shape", f"shard {start.shard} takes float32 "
                        f"({end - begin},), not {start.values.dtype} {start.values.shape}")
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
            staleness = self.store.push(push.shard, push.version, push.count,
                                        self._gradient(envelope.source, push))
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
        if push.gradient.dtype.str != "<f4":
            raise BadPush("dtype", f"shard {push.shard} takes float32, not {push.gradient.dtype}")
        if push.lane:
            assert self.store is not None
            return self._lane(source, push.lane, self.store.shards[push.shard].values.size)
        return push.gradient

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
        """Reply with a copy: a live view could tear under the next push."""
        assert self.store is not None
        held = self.store.shards[shard]
        reply: Message = Shard(shard, held.version, staleness, held.values.copy())
        self.answer(peer, envelope, reply, remember=False)
