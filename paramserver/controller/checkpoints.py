"""The controller's part in checkpoints: when one is due, who has saved, what the index says. Pure.

All servers are asked at once; the cut is when each takes note. At the end of a leg nothing is in
flight and the next one waits for the servers' word, so the cut is exact; a leg ends where a
checkpoint is due. Where an epoch may end before all is done (`epoch_quorum` below 1) nobody waits
in mid-epoch: what is in flight then is done again by a job that goes on from there. Nobody waits
for a disk, and a checkpoint that fails is an event; only the end of the job waits for the last one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import floor, inf

from ...common.cluster import Parameter
from ...common.delivery import Courier, Open, Peer
from ...common.job import Job
from ...common.messages import Ack, Envelope, Message, Refused, Snapshot, Written
from ...common.partition import replicas
from ...common.types import Role
from ..manifest import FileEntry, Manifest, Position
from .admission import Admission
from .epochs import Ledger, Stretch, next_stretch
from .position import going_on, history, position_after, position_within
from .resuming import Resumed, layout_difference, rule_of

NO_SUMS: Mapping[str, float] = {}
"""Of an epoch that begins."""


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
        self.ledger: Ledger | None = None
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
        self._next: Stretch | None = None
        self.requests[Written] = self._on_written
        self.replies[Snapshot] = self._on_taken

    # What the job's state fills in.

    def begin_leg(
        self, stretch: Stretch, done: Sequence[int] = (), measures: Mapping[str, float] = NO_SUMS
    ) -> None:
        """Start a leg, some portions of which may be done; `measures` are its epoch's so far."""

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
        assert self.cluster.data is not None
        rest = going_on(position, self.job, self.cluster.data)
        if rest.lost:
            self.event(rest.lost)
        kept = position.measures if rest.begin or rest.done else NO_SUMS
        self.begin_leg(self.stretch(position.epoch, rest.begin), rest.done, kept)
        return True

    # Legs.

    def stretch(self, epoch: int, begin: int = 0) -> Stretch:
        """What is done next, from sample `begin` of an epoch's order on: up to its end, or to where
        a checkpoint is due, if all of it will be done there."""
        assert self.cluster.data is not None
        data = self.cluster.data
        exact = self._place is not None and self.job.job.epoch_quorum >= 1.0
        due = self._due_at if exact else inf
        takers = replicas(self.job)
        return next_stretch(epoch, begin, data.samples, data.portion_size, due, takers)

    def next_leg(self, ledger: Ledger) -> None:
        """Go on after a leg, with a checkpoint in between if one is due."""
        old = ledger.stretch
        due = self.checkpoint_due(old.epoch + old.end / old.samples)
        asked = due and self.checkpoint(ledger, over=True)
        epoch, begin = (old.epoch + 1, 0) if old.ends_epoch else (old.epoch, old.end)
        self._next = self.stretch(epoch, begin)
        if not asked:
            self._go_on()

    def _go_on(self) -> None:
        """All servers have marked their shards: they may change now."""
        stretch, self._next = self._next, None
        if stretch is None or self.cluster.phase != "training":
            return
        assert self.ledger is not None
        self.begin_leg(stretch, (), self.ledger.measures if stretch.begin else NO_SUMS)

    # Taking checkpoints.

    def checkpoint_due(self, epochs: float) -> bool:
        """Whether it is time for one, with so many epochs done."""
        return self._place is not None and epochs >= self._due_at - 1e-9

    @property
    def between_legs(self) -> bool:
        """Whether the next leg waits until all servers have marked their shards."""
        return self._next is not None

    def checkpoint(self, ledger: Ledger, *, over: bool = False, last: bool = False) -> bool:
        """Ask all servers for a snapshot, of a leg that is `over`, or within it.

        While the one before is still being written there is none: it is skipped and counted, but
        the `last` one waits for its turn.

        Returns:
            whether the servers have been asked.
        """
        if self._place is None:
            return False
        assert self.cluster.data is not None
        totals = self.board.summary(self.now)
        find = position_after if over else position_within
        position = find(ledger, self.job, self.cluster.data, totals)
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
                self._go_on()

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
            self.cluster.starts,
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
