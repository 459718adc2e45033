"""A parameter server's part in checkpoints: what is saved when, and what is restored. Pure.

A `Snapshot` marks all shards at once, and that moment is the cut: from then on the file holds what
they were. The file is written beside the loop, a shard at a time; `snapshots` says which copies are
made when. `disk` performs the actions.
"""

from dataclasses import dataclass

from ..common.delivery import Courier, Peer
from ..common.job import Job
from ..common.messages import Ack, Envelope, Snapshot, Written
from ..common.rules import RuleState
from ..common.session import Session
from ..common.sharding import Shards
from .manifest import ShardEntry, file_name
from .modes import segments_of
from .snapshots import CopyOnWrite, ShardCopy
from .store import ShardStore


@dataclass(frozen=True, slots=True)
class OpenFile:
    """Action: begin the file of server `rank` in `directory`, then post `NextShard`. `plan` has
    the shards in the order in which they come, with their numbers of elements."""

    directory: str
    rank: int
    plan: tuple[tuple[int, int], ...]
    slots: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WriteShard:
    """Action: write the next shard, then post `NextShard`."""

    copy: ShardCopy


@dataclass(frozen=True, slots=True)
class CloseFile:
    """Action: bring the file to the disk and to its place, then post `FileClosed`."""


@dataclass(frozen=True, slots=True)
class NextShard:
    """Local event: the file is ready for the next shard."""


@dataclass(frozen=True, slots=True)
class FileClosed:
    """Local event: the file is there, of `size` bytes with this SHA-256; or there is none, and
    `problem` says why."""

    size: int = 0
    checksum: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Restore:
    """Action: read these shards of a vector that is cut as `cut` says, from the checkpoint in
    `directory`, then post `Restored`."""

    directory: str
    shards: tuple[int, ...]
    cut: Shards


@dataclass(frozen=True, slots=True)
class Restored:
    """Local event: the shards have been read."""

    copies: list[ShardCopy]


class Saving(Session):
    """Answers `Snapshot`, and takes its shards from a checkpoint where the job goes on from one.

    The server's state is built on top; it sets `store`, `_job` and `_shards`.
    """

    def __init__(self, courier: Courier, **session: object) -> None:
        super().__init__(courier, **session)  # type: ignore[arg-type]
        self.store: ShardStore | None = None
        self._job = Job()
        self._shards: Shards | None = None
        self.copies: CopyOnWrite[ShardCopy] = CopyOnWrite(self._copy)
        """To be told of each change of a shard, by `before_change`."""
        self._saving = 0
        self._entries: tuple[ShardEntry, ...] = ()
        self._restoring: set[int] = set()
        self.requests[Snapshot] = self._on_snapshot
        self.replies[Written] = lambda request, reply: None

    def restored(self) -> None:
        """Shards have come back from a checkpoint."""

    def happened(self, event: object) -> None:
        if isinstance(event, NextShard):
            copy = self.copies.next()
            self.do(CloseFile() if copy is None else WriteShard(copy))
        elif isinstance(event, FileClosed):
            self._file_closed(event)
        elif isinstance(event, Restored):
            self._take_back(event)

    def _on_snapshot(self, peer: Peer, envelope: Envelope) -> None:
        snapshot = envelope.message
        assert isinstance(snapshot, Snapshot)
        if peer != self.controller:  # it names a folder that is written to
            self.refuse(peer, envelope, "stranger", "the controller alone asks for checkpoints")
            return
        if self.store is None or self._saving:
            doing = f"checkpoint {self._saving} is being written" if self._saving else "no job yet"
            self.refuse(peer, envelope, "busy", doing)
            return
        held = self.store.shards
        self._saving = snapshot.number
        self._entries = tuple(
            ShardEntry(n, held[n].version, held[n].minibatches, held[n].state.steps)
            for n in sorted(held)
        )
        self.copies.begin(held)
        plan = tuple((entry.shard, held[entry.shard].values.size) for entry in self._entries)
        slots = tuple(held[plan[0][0]].state.slots) if plan else ()
        self.do(OpenFile(snapshot.directory, self.rank, plan, slots))
        self.answer(peer, envelope, Ack())

    def _copy(self, shard: int) -> ShardCopy:
        """Everything about a shard as it is now."""
        assert self.store is not None
        held = self.store.shards[shard]
        slots = {name: slot.copy() for name, slot in held.state.slots.items()}
        steps = held.state.steps
        return ShardCopy(shard, held.values.copy(), slots, held.version, held.minibatches, steps)

    def _file_closed(self, event: FileClosed) -> None:
        if event.problem:
            self.copies.cancel()
            self.note("warning", f"checkpoint {self._saving} was not written: {event.problem}")
        rows = [entry.to_row() for entry in self._entries]
        number, self._saving = self._saving, 0
        name = file_name(self.rank)
        self.tell(Written(number, name, event.size, event.checksum, rows, event.problem))

    def restore(self, shards: set[int]) -> None:
        """Read these shards from the checkpoint that the job goes on from, if it does; then
        `restored` is called."""
        wanted = shards - self._restoring
        if self._job.job.resume and wanted:
            assert self._shards is not None
            self._restoring |= wanted
            self.do(Restore(self._job.job.resume, tuple(sorted(wanted)), self._shards))

    def _take_back(self, event: Restored) -> None:
        assert self.store is not None
        assert self._shards is not None
        for copy in event.copies:
            span = self._shards.span(copy.shard)
            self.store.start(copy.shard, copy.values, segments_of(self._job, self.cluster, *span))
            held = self.store.shards[copy.shard]
            assert copy.slots.keys() == held.state.slots.keys()
            held.state = RuleState(copy.steps, copy.slots)
            held.version, held.minibatches = copy.version, copy.minibatches
        self.restored()
