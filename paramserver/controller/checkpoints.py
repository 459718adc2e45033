"""The controller's part in checkpoints: when one is due, who has saved, what the index says. Pure.

All servers are asked at once; the cut is when each takes note. At the end of an epoch nothing is in
flight and the next one waits for the servers' word, so the cut is exact. In mid-epoch it does not
wait: what is in flight then is done again by a job that goes on from there. Nobody waits for a
disk, and a checkpoint that fails is an event; only the end of the job waits for the last one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import floor

from ...common.cluster import Parameter
from ...common.delivery import Courier, Open, Peer
from ...common.job import Job
from ...common.messages import Ack, Envelope, Message, Refused, Snapshot, Written
from ...common.types import Role
from ..manifest import FileEntry, Manifest, Position
from .admission import Admission
from .epochs import EpochLedger
from .position import cut_of, history, position_before, position_within
from .resuming import Resumed, layout_difference, rule_of


@dataclass(frozen=True, slots=True)
class Place:
    """Where the checkpoints go: a directory, absolute, that exists; and the next one's number."""

    directory: str
    number: int


@dataclass(frozen=True, slots=True)
class Seal:
    """Action: complete the checkpoint in `directory` and remove old ones, then post `Sealed`."""

    directory: str
    manifest: Manifest
    keep: int


@dataclass(frozen=True, slots=True)
class Discard:
    """Action: remove a checkpoint that some server could not write."""

    directory: str


@dataclass(frozen=True, slots=True)
class Sealed:
    """Local event: the checkpoint is complete, or not, and `problem` says why."""

    problem: str = ""


@dataclass(frozen=True, slots=True)
class GoesOn:
    """Action: a job goes on from a checkpoint, the roles fit it: keep its settings as the run's."""


@dataclass(slots=True)
class InWork:
    """A checkpoint that is being written; servers are known by their incarnations."""

    number: int
    directory: str
    position: Position
    began_at: float
    asked: set[int]
    writing: set[int]
    files: list[FileEntry] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    skipped: int = 0


class Checkpointing(Admission):
    """Takes checkpoints; the job's state, built on top, says where it stands.

    Arguments:
        place: where they go, None for none.
        resumed: what the job goes on from.
    """

    def __init__(
        self,
        courier: Courier,
        job: Job,
        address: str,
        versions: dict[str, str],
        place: Place | None = None,
        resumed: Resumed | None = None,
    ) -> None:
        super().__init__(courier, job, address, versions)
        self.ledger: EpochLedger | None = None
        self.skipped_checkpoints = 0
        self.epochs_before = 0.0
        """Epochs done before, by the job that this one goes on with."""
        self._place = place if job.job.checkpoint_every else None
        self._number = place.number if place else 1
        self._resumed = resumed
        if resumed is not None:
            position = resumed.manifest.position
            self.epochs_before = position.epochs
            seconds = position.totals.get("wall_seconds", 0.0)
            self.board.resume(*history(resumed.rows, position), seconds)
        self._due_at = self._next_due(self.epochs_before)
        self._in_work: InWork | None = None
        self._last: Position | None = None
        self._next_epoch: int | None = None
        self.requests[Written] = self._on_written
        self.replies[Snapshot] = self._on_taken

    # What the job's state fills in.

    def begin_epoch(self, epoch: int, active: int, done: Sequence[int] = ()) -> None:
        """Start an epoch, some portions of which may be done."""

    def checkpoints_done(self) -> None:
        """No checkpoint is being written any more."""

    # Going on from a checkpoint.

    def unlike_checkpoint(self, layout: tuple[Parameter, ...]) -> str:
        """How a worker's model differs from what the job goes on from; empty if it does not."""
        if self._resumed is None or layout == self._resumed.manifest.layout:
            return ""
        return layout_difference(self._resumed.manifest.layout, layout)

    def go_on_from_checkpoint(self) -> bool:
        """Start with the epoch of a checkpoint, and what is left of it; False if there is none."""
        if self._resumed is None:
            return False
        position, number = self._resumed.manifest.position, self._resumed.manifest.number
        self.do(GoesOn())
        self.event(f"goes on from checkpoint {number}, after {position.epochs:g} epochs")
        done = position.done
        assert self.cluster.data is not None
        if done and position.cut != cut_of(self.job, self.cluster.data):
            self.event(f"epoch {position.epoch} starts over: its portions are cut otherwise now")
            done = ()
        self.begin_epoch(position.epoch, -1, done)
        if done and self.ledger is not None:
            self.ledger.measures.update(position.measures)
        return True

    # Taking checkpoints.

    def checkpoint_due(self, epochs: float) -> bool:
        """Whether it is time for one, with so many epochs done."""
        return self._place is not None and epochs >= self._due_at

    @property
    def between_epochs(self) -> bool:
        """Whether the next epoch waits until all servers have marked their shards."""
        return self._next_epoch is not None

    def next_epoch(self, epoch: int) -> None:
        """Begin the next epoch, with a checkpoint before it if one is due."""
        if self.checkpoint_due(epoch) and self.checkpoint(epoch):
            self._next_epoch = epoch
        else:
            self.begin_epoch(epoch, self.cluster.active)

    def checkpoint(self, where: int | EpochLedger, *, last: bool = False) -> bool:
        """Ask all servers for a snapshot before an epoch, or within one.

        While the one before is still being written there is none: it is skipped and counted, but
        the `last` one waits for its turn.

        Returns:
            whether the servers have been asked.
        """
        if self._place is None:
            return False
        assert self.cluster.data is not None
        totals = self.board.summary(self.now)
        if isinstance(where, int):
            position = position_before(where, self.job, self.cluster.data, totals)
        else:
            position = position_within(where, self.job, self.cluster.data, totals)
        self._due_at = self._next_due(position.epochs)
        if self._in_work is None:
            self._begin(self._place, position)
            return True
        if last:
            self._last = position
        else:
            self._skip(self._in_work)
        return False

    def _skip(self, work: InWork) -> None:
        self.skipped_checkpoints += 1
        work.skipped += 1
        if work.skipped == 1:
            self.event(f"skipped a checkpoint: number {work.number} is still being written")

    @property
    def checkpointing(self) -> bool:
        """Whether a checkpoint is being written or waits for its turn."""
        return self._in_work is not None or self._last is not None

    def _next_due(self, epochs: float) -> float:
        every = self.job.job.checkpoint_every
        return (floor(epochs / every + 1e-9) + 1) * every if every else float("inf")

    def _begin(self, place: Place, position: Position) -> None:
        number, self._number = self._number, self._number + 1
        directory = f"{place.directory}/{number:06d}"
        servers = self.roster.of_role(Role.PARAMSERVER)
        all_of_them = {seat.member.incarnation for seat in servers}
        self._in_work = InWork(number, directory, position, self.now, all_of_them, set(all_of_them))
        for seat in servers:
            self.ask(seat.peer, Snapshot(number, directory), seat.member.incarnation)

    def _on_taken(self, request: Open, reply: Message) -> None:
        assert isinstance(request.message, Snapshot)
        if self._in_work is not None and self._in_work.number == request.message.number:
            self._took(request.tag)

    def _took(self, server: int) -> None:
        assert self._in_work is not None
        if server in self._in_work.asked:
            self._in_work.asked.remove(server)
            if not self._in_work.asked:
                self._taken()

    def _taken(self) -> None:
        """All servers have marked their shards: they may change now."""
        epoch, self._next_epoch = self._next_epoch, None
        if epoch is not None and self.cluster.phase == "training":
            self.begin_epoch(epoch, self.cluster.active)

    def refused(self, request: Open, reply: Refused) -> None:
        super().refused(request, reply)
        if isinstance(request.message, Snapshot):
            self._saved(request.message.number, request.tag, reply.detail)

    def _on_written(self, peer: Peer, envelope: Envelope) -> None:
        written = envelope.message
        assert isinstance(written, Written)
        self.answer(peer, envelope, Ack())
        found: FileEntry | str = written.problem
        if not written.problem:
            try:
                found = FileEntry.of(written.file, written.size, written.checksum, written.shards)
            except (ValueError, TypeError) as broken:
                found = str(broken)
        self._saved(written.number, envelope.source, found)

    def _saved(self, number: int, server: int, found: FileEntry | str) -> None:
        """A server is through: with a file, or with a problem."""
        work = self._in_work
        if work is None or work.number != number or server not in work.writing:
            return
        work.writing.remove(server)
        if isinstance(found, FileEntry):
            work.files.append(found)
        else:
            seat = self.roster.seats.get(server)
            work.problems.append(f"{seat.member.name if seat else 'a server'}: {found}")
        self._took(server)  # its word that it has marked its shards may come later, or never
        if not work.writing:
            self._seal(work)

    def _seal(self, work: InWork) -> None:
        try:
            if work.problems:
                raise ValueError(work.problems[0])
            manifest = self._manifest(work)
        except ValueError as problem:
            self.do(Discard(work.directory))
            self._over(str(problem))
            return
        self.do(Seal(work.directory, manifest, self.job.job.checkpoint_keep))

    def _manifest(self, work: InWork) -> Manifest:
        job, rule = self.job, rule_of(self.job)
        return Manifest(
            work.number,
            job.job.seed,
            self.cluster.layout,
            job.paramserver.shard_bytes,
            job.paramserver.buckets,
            rule.name,
            rule.slots,
            work.position,
            tuple(sorted(work.files, key=lambda file: file.name)),
        )

    def happened(self, event: object) -> None:
        if isinstance(event, Sealed):
            self._over(event.problem)
        else:
            super().happened(event)

    def _over(self, problem: str) -> None:
        """The checkpoint in work is complete, or was given up."""
        work, self._in_work = self._in_work, None
        assert work is not None
        if problem:
            self.event(f"checkpoint {work.number} was not written: {problem}")
        else:
            seconds = self.now - work.began_at
            size = sum(file.size for file in work.files)
            self.board.checkpointed(work.number, work.position.epochs, size, seconds, self.now)
            self.record()
        last, self._last = self._last, None
        if last is not None and self._place is not None:
            self._begin(self._place, last)
        if not self.checkpointing:
            self.checkpoints_done()
