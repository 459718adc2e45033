"""A data server's state: portions of the epoch, credits of the workers, leases. Pure.

A worker's open `Fetch` is one credit: it is answered as soon as a portion is ready for it. A
portion that a worker holds is leased until the worker says that its gradients are applied; the
portions of a worker that is gone are served again. Up to `AHEAD` portions are prepared before
they are asked for.
"""

from collections import Counter, deque
from itertools import chain

import numpy as np

from ..common import modes
from ..common.cluster import Cluster
from ..common.delivery import Courier, Open, Peer
from ..common.errors import RemoteError
from ..common.job import Job
from ..common.messages import (
    Ack,
    DataFacts,
    Done,
    Envelope,
    Fetch,
    Message,
    Portion,
    Progress,
    Refused,
    Serve,
    Shelf,
    Shelved,
)
from ..common.session import Session
from ..common.types import Role
from .events import Credit, Opened, Prepare, Prepared
from .shelves import Shelves

AHEAD = 4
"""Portions prepared and not yet asked for, and one more for each further thread that prepares them:
that, and one portion an open credit, bounds the memory of a server."""


class DataServer(Session):
    """Serves its share of each epoch, each portion to one worker at a time."""

    role = Role.DATASERVER

    def __init__(
        self, courier: Courier, *, shelves: Shelves | None = None, **session: object
    ) -> None:
        super().__init__(courier, **session)  # type: ignore[arg-type]
        self.counters: Counter[str] = Counter()
        self._job = Job()
        self._opened = False
        self._epoch = -1
        self._given = 0
        self._todo: deque[int] = deque()
        self._preparing: set[int] = set()
        self._ready: dict[int, Prepared] = {}
        self._credits: deque[Credit] = deque()
        self._leases: dict[int, tuple[int, int]] = {}
        self._granted: dict[tuple[int, int], int] = {}
        self._again: dict[int, Credit] = {}
        self._empty: dict[tuple[int, int], Prepared] = {}
        self._gone: set[int] = set()
        self._tests: dict[int, list[Credit]] = {}
        self._done: list[int] = []
        self._measures: Counter[str] = Counter()
        self._reissued = 0
        self._reporting = False
        self._changed = False
        self._shelves = shelves or Shelves()
        self.requests |= {
            Shelf: self._on_shelf,
            Serve: self._on_serve,
            Fetch: self._on_fetch,
            Done: self._on_done,
        }
        self.replies |= {DataFacts: lambda request, reply: None, Progress: self._on_reported}

    def configure(self, job: Job) -> None:
        """The job has come with the welcome."""
        self._job = job

    def state_word(self) -> str:
        return f"{len(self._todo) + len(self._ready) + len(self._preparing)} portions left"

    def report(self) -> dict[str, float]:
        return {"credits": len(self._credits), "leases": len(self._leases), **self.counters}

    def happened(self, event: object) -> None:
        if isinstance(event, Opened):
            self._opened = True
            self.tell(event.facts)
            for portion in self._tests:
                self.do(Prepare(True, 0, portion))
            self._prepare_ahead()
        if isinstance(event, Prepared):
            self._note_skipped(event.skipped)
            self.counters |= Counter(event.counts)  # the larger of each: they only grow
        if isinstance(event, Prepared) and event.test:
            for credit in self._tests.pop(event.portion, []):
                self._send(credit, event)
        elif isinstance(event, Prepared) and event.epoch == self._epoch:
            self._prepared(event)

    def _prepared(self, event: Prepared) -> None:
        """A training portion is here: for a worker that asks for it again, or for the next one.

        One whose samples are all damaged is done at once.
        """
        credit = self._again.pop(event.portion, None)
        if credit is not None and self._leases.get(event.portion) == credit.key:
            self._send(credit, event)
        if event.portion in self._preparing:
            self._preparing.discard(event.portion)
            if len(event.arrays[1]):
                self._ready[event.portion] = event
            else:
                self._done.append(event.portion)
                self._report()
            self._serve()

    def _note_skipped(self, names: list[str]) -> None:
        for name in names:
            self.note("warning", f"a damaged sample is left out: {name}")
        if names:
            self.counters["corrupt_skipped"] += len(names)

    def refused(self, request: Open, reply: Refused) -> None:
        """Without the controller's word on the data there is nothing to serve."""
        if isinstance(request.message, DataFacts):
            self.fail(1, f"the controller refused the data: {reply.detail}")
        else:
            super().refused(request, reply)

    # The controller's side: shares of epochs.

    def _on_serve(self, peer: Peer, envelope: Envelope) -> None:
        serve = envelope.message
        assert isinstance(serve, Serve)
        self.answer(peer, envelope, Ack())
        if serve.epoch < self._epoch:
            return
        if serve.epoch > self._epoch:
            self._begin(serve.epoch)
        self._given += len(serve.portions)
        self._todo.extend(serve.portions)
        self._prepare_ahead()
        self._serve()
        self._report()

    def _begin(self, epoch: int) -> None:
        """A new epoch: what is left of the old one is dropped."""
        self._epoch = epoch
        self._given = 0
        self._todo.clear()
        self._preparing.clear()
        self._ready.clear()
        self._leases.clear()
        for key in self._granted:
            self._empty[key] = _nothing(epoch - 1, 0)
        self._granted.clear()
        self._again.clear()
        self._done, self._measures, self._reissued = [], Counter(), 0

    def viewed(self, old: Cluster, new: Cluster) -> None:
        present = {member.incarnation for member in new.members}
        gone = {member.incarnation for member in old.members} - present
        if not gone:
            return
        self._gone |= gone
        self._shelves.keep_only(present)
        self._credits = deque(c for c in self._credits if c.envelope.source not in gone)
        self._empty = {key: told for key, told in self._empty.items() if key[0] not in gone}
        orphans = [p for p, (worker, _) in self._leases.items() if worker in gone]
        for portion in sorted(orphans, reverse=True):
            del self._granted[self._leases.pop(portion)]
            self._todo.appendleft(portion)
        if orphans:
            self.note(
                "warning",
                f"portions {sorted(orphans)} of epoch {self._epoch} were held by "
                "a worker that is gone; they are served again",
            )
            self._reissued += len(orphans)
            self.counters["reissued"] += len(orphans)
        self._prepare_ahead()
        self._serve()
        self._report()

    # The workers' side: credits and leases.

    def _on_shelf(self, peer: Peer, envelope: Envelope) -> None:
        shelf = envelope.message
        assert isinstance(shelf, Shelf)
        try:
            if self._job.train.transport not in ("auto", "shm"):
                raise RemoteError("this server shares no memory")
            self._shelves.attach(envelope.source, shelf)
        except RemoteError as refused:
            self.refuse(peer, envelope, "shelf", str(refused))
            return
        self.answer(peer, envelope, Ack())

    def _on_fetch(self, peer: Peer, envelope: Envelope) -> None:
        fetch = envelope.message
        assert isinstance(fetch, Fetch)
        self._shelves.name(envelope.source, fetch.slot, envelope.sequence)
        credit = Credit(peer, envelope)
        if fetch.test and fetch.portion < 0:
            self.refuse(peer, envelope, "portion", f"there is no test portion {fetch.portion}")
        elif fetch.test:
            self._tests.setdefault(fetch.portion, []).append(credit)
            if self._opened:
                self.do(Prepare(True, 0, fetch.portion))
        elif envelope.source not in self._gone:
            self._forget_answered(envelope.source, envelope.floor)
            self._credits.append(credit)
            self._serve()

    def _forget_answered(self, source: int, floor: int) -> None:
        """A worker has its answers to all requests below `floor`: none of them comes again."""
        self._empty = {
            key: told for key, told in self._empty.items() if key[0] != source or key[1] >= floor
        }

    def repeated(self, peer: Peer, envelope: Envelope) -> None:
        """A credit came again whose answer was lost, or is still on its way.

        It stands for the same portion: a worker takes one answer to a request, so that another
        portion would be leased to somebody who never sees it. If the epoch of its portion is
        over, an empty portion gives the worker its credit back.
        """
        fetch, credit = envelope.message, Credit(peer, envelope)
        if not isinstance(fetch, Fetch):
            return
        if fetch.test:
            self._on_fetch(peer, envelope)
        elif credit.key in self._granted:
            self.counters["resent"] += 1
            portion = self._granted[credit.key]
            self._again[portion] = credit
            self.do(Prepare(False, self._epoch, portion))
        elif credit.key in self._empty:
            self.counters["resent"] += 1
            self._send(credit, self._empty[credit.key])

    def _serve(self) -> None:
        """Give ready portions to waiting credits."""
        for portion in list(self._ready):
            credit = next((c for c in self._credits if self._suits(portion, c)), None)
            if credit is None:
                continue
            self._credits.remove(credit)
            prepared = self._ready.pop(portion)
            self._leases[portion] = credit.key
            self._granted[credit.key] = portion
            self._send(credit, prepared)
            self.counters["portions"] += 1
            if not (self._todo or self._ready or self._preparing):
                self._report()
        self._prepare_ahead()
        self._tell_the_end()

    def _suits(self, portion: int, credit: Credit) -> bool:
        """Whether this worker may have this portion: any may, but where the order is fixed each
        has its own as long as it is there."""
        if not modes.in_order(self._job):
            return True
        rank = portion % self._job.worker.count
        if self.cluster.active not in (-1, rank):  # it does not train yet
            return True
        owners = [m for m in self.cluster.of_role(Role.WORKER) if m.rank == rank]
        return not owners or owners[0].incarnation == credit.envelope.source

    def _tell_the_end(self) -> None:
        """Tell workers that wait in vain that this epoch has nothing left for them."""
        if self._epoch < 0 or not modes.told_the_end(self._job):
            return
        for credit in list(self._credits):
            left = chain(self._ready, self._preparing, self._todo)
            fetch = credit.envelope.message
            assert isinstance(fetch, Fetch)
            if fetch.drained < self._epoch and not any(self._suits(p, credit) for p in left):
                self._credits.remove(credit)
                self._empty[credit.key] = _nothing(self._epoch, -1)
                self._send(credit, self._empty[credit.key])

    def _send(self, credit: Credit, prepared: Prepared) -> None:
        """Answer a credit: on the worker's shelf if it has named a slot there."""
        fetch, (inputs, labels) = credit.envelope.message, prepared.arrays
        assert isinstance(fetch, Fetch)
        try:
            shelved = len(labels) and self._shelves.write(*credit.key, fetch.slot, inputs)
        except RemoteError:
            return  # it has the answer: it has gone on since
        number = prepared.epoch, prepared.portion, prepared.last
        reply: Message = Portion(*number, inputs, labels)
        if shelved:
            self.counters["shelved"] += 1
            reply = Shelved(*number, fetch.slot, inputs.dtype.str, list(inputs.shape), labels)
        self.answer(credit.peer, credit.envelope, reply, remember=False)

    def _prepare_ahead(self) -> None:
        while self._opened and (portion := self._next_to_prepare()) is not None:
            self._todo.remove(portion)
            self._preparing.add(portion)
            self.do(Prepare(False, self._epoch, portion))

    def _next_to_prepare(self) -> int | None:
        """The next portion to get ready, None while enough are; where each worker has its own,
        enough for each, whether the others come for theirs or not."""
        ahead = [*self._preparing, *self._ready]
        room = AHEAD + self._job.dataserver.threads - 1
        if not modes.in_order(self._job):
            return self._todo[0] if self._todo and len(ahead) < room else None
        workers = self._job.worker.count
        held = Counter(portion % workers for portion in ahead)
        each = max(2, room // workers)
        if all(held[rank] >= each for rank in range(workers)):
            return None  # without a look at all that is left
        return next((p for p in self._todo if held[p % workers] < each), None)

    def _on_done(self, peer: Peer, envelope: Envelope) -> None:
        done = envelope.message
        assert isinstance(done, Done)
        self.answer(peer, envelope, Ack())
        holder = self._leases.get(done.portion, (0, 0))
        if done.epoch != self._epoch or holder[0] != envelope.source:
            self.counters["late"] += 1
            return
        del self._leases[done.portion]
        self._granted.pop(holder, None)
        self._done.append(done.portion)
        self._measures.update(done.measures)
        self._report()

    # What the controller is told: the newest state, one report at a time.

    def _report(self) -> None:
        self._changed = True
        if self._reporting or self._epoch < 0:
            return
        self._reporting, self._changed = True, False
        left = len(self._todo) + len(self._preparing) + len(self._ready)
        busy = sorted({worker for worker, _ in self._leases.values()})
        self.tell(
            Progress(
                self._epoch,
                self._given,
                left,
                busy,
                self._done,
                self._reissued,
                dict(self._measures),
            )
        )
        self._done, self._measures, self._reissued = [], Counter(), 0

    def _on_reported(self, request: Open, reply: Message) -> None:
        self._reporting = False
        if self._changed:
            self._report()


def _nothing(epoch: int, portion: int) -> Prepared:
    """An answer without samples: it gives the worker its credit back."""
    arrays = (np.empty(0, np.float32), np.empty(0, np.int64))
    return Prepared(False, epoch, portion, False, arrays)
