"""A data server's end of the workers: their credits, their leases, what is handed out. Pure.

A worker's open `Fetch` is one credit: it is answered as soon as a portion is ready for it. A
portion that a worker holds is leased until the worker says that its gradients are applied; the
portions of a worker that is gone are served again, and of one that leaves what it hands back. Up to
`AHEAD` portions are prepared before they are asked for, once nothing is left those of the next leg.
"""

from collections import Counter, deque
from itertools import chain

import numpy as np

from ..common import modes
from ..common.delivery import Courier, Peer
from ..common.errors import RemoteError
from ..common.messages import (
    Ack,
    Done,
    Envelope,
    Fetch,
    Message,
    Portion,
    Return,
    Serve,
    Shelf,
    Shelved,
)
from ..common.partition import replicas
from ..common.types import Role
from .ahead import NextLeg
from .events import NO_LABELS, Credit, Prepare, Prepared
from .leases import Leases
from .looking_up import LookingUp
from .shelves import Shelves

AHEAD = 4
"""Portions prepared and not yet asked for, and one more for each further thread that prepares them:
that, and one portion an open credit, bounds the memory of a server."""


class Serving(LookingUp):
    """Hands out the portions of a leg, each to one worker at a time."""

    def __init__(
        self, courier: Courier, *, shelves: Shelves | None = None, **session: object
    ) -> None:
        super().__init__(courier, **session)
        self._serving = Serve(-1, 0, 0, [])
        self._given = 0
        self._todo: deque[int] = deque()
        self._preparing: set[int] = set()
        self._ready: dict[int, Prepared] = {}
        self._next = NextLeg()
        self._credits: deque[Credit] = deque()
        self._leases = Leases()
        self._backing = False
        self._orphans_done: set[int] = set()  # their share may still be on its way to this server
        self._again: dict[int, list[Credit]] = {}
        self._empty: dict[tuple[int, int], Prepared] = {}
        self._gone: set[int] = set()
        self._tests: dict[int, list[Credit]] = {}
        self._shelves = shelves or Shelves()
        self.requests |= {
            Shelf: self._on_shelf,
            Fetch: self._on_fetch,
            Done: self._on_done,
            Return: self._on_return,
        }

    def begin(self, serve: Serve) -> list[Prepared]:
        """A new leg: what is left of the old one is dropped. Returns what is ready of this one."""
        for key in self._leases.keys():  # noqa: SIM118, not those of a dictionary
            self._empty[key] = _nothing(self._serving.leg, 0)
        self._serving = serve
        self._given = 0
        self._todo.clear()
        self._preparing.clear()
        self._ready.clear()
        self._leases = Leases()
        self._orphans_done.clear()
        self._again.clear()
        self.forget_noted()
        preparing, ready = self._next.take(serve)
        self._preparing = preparing | {event.wanted.portion for event in ready}
        if (facts := self._facts) is not None:
            self._next.expect(serve, facts.samples, facts.portion_size, self._job.job.epochs)
        return ready

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
            if self._facts is not None:
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
        portion would be leased to somebody who never sees it. If the leg of its portion is
        over, an empty portion gives the worker its credit back.
        """
        fetch, credit = envelope.message, Credit(peer, envelope)
        if not isinstance(fetch, Fetch):
            super().repeated(peer, envelope)
            return
        if fetch.test:
            self._on_fetch(peer, envelope)
        elif (portion := self._leases.granted(credit.key)) is not None:
            self.counters["resent"] += 1
            self._prepare_again(portion, credit)
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
            self._leases.grant(portion, credit.key)
            self._send(credit, prepared)
            self.counters["portions"] += 1
            if not (self._todo or self._ready or self._preparing):
                self.report_progress()
        self._prepare_ahead()
        if self._backing and not self._left():
            self._back_up()
        self._tell_the_end()

    def _back_up(self) -> None:
        """Give idle workers a second copy of what others hold, the oldest first: the first that is
        done with it wins (Dean et al. 2012, section 4.2)."""
        for credit in list(self._credits):
            worker = credit.envelope.source
            if self._leases.holds(worker):
                continue
            portion = self._leases.oldest_single(worker)
            if portion is None:
                return
            self._credits.remove(credit)
            self._leases.grant(portion, credit.key)
            self._reissue([portion], "have a second worker now, as a backup")
            self.counters["backups"] += 1
            self._prepare_again(portion, credit)

    def _prepare_again(self, portion: int, credit: Credit) -> None:
        """Prepare a portion once more, for somebody who has it."""
        self._again.setdefault(portion, []).append(credit)
        self.do(self._order(portion))

    def _order(self, portion: int) -> Prepare:
        serving, left = self._serving, self._leases.left(portion)
        return Prepare(False, serving.leg, portion, serving.epoch, serving.begin, left)

    def _left(self) -> int:
        """Portions that are not handed out."""
        return len(self._todo) + len(self._preparing) + len(self._ready)

    def _suits(self, portion: int, credit: Credit) -> bool:
        """Whether this worker may have this portion: any may, but where the order is fixed each
        has its own as long as it is there."""
        if not modes.in_order(self._job):
            return True
        rank = portion % replicas(self._job)
        if self.cluster.active not in (-1, rank):  # it does not train yet
            return True
        owners = [m for m in self.cluster.of_role(Role.WORKER) if m.rank == rank]
        return not owners or owners[0].incarnation == credit.envelope.source

    def _tell_the_end(self) -> None:
        """Tell workers that wait in vain that this leg has nothing left for them."""
        leg = self._serving.leg
        if leg < 0 or not modes.told_the_end(self._job):
            return
        for credit in list(self._credits):
            left = chain(self._ready, self._preparing, self._todo)
            fetch = credit.envelope.message
            assert isinstance(fetch, Fetch)
            if fetch.drained < leg and not any(self._suits(p, credit) for p in left):
                self._credits.remove(credit)
                self._empty[credit.key] = _nothing(leg, -1)
                self._send(credit, self._empty[credit.key])

    def _send(self, credit: Credit, prepared: Prepared) -> None:
        """Answer a credit: on the worker's shelf if it has named a slot there."""
        fetch, wanted = credit.envelope.message, prepared.wanted
        inputs, labels = prepared.arrays
        assert isinstance(fetch, Fetch)
        if not fetch.labels:
            labels = NO_LABELS
        try:
            shelved = len(inputs) and self._shelves.write(*credit.key, fetch.slot, inputs)
        except RemoteError:
            return  # it has the answer: it has gone on since
        number = wanted.leg, wanted.portion, prepared.last
        epoch, begin, minibatches = wanted.epoch, prepared.begin, list(prepared.minibatches)
        reply: Message = Portion(*number, inputs, labels, epoch, begin, minibatches)
        if shelved:
            self.counters["shelved"] += 1
            dtype, shape = inputs.dtype.str, list(inputs.shape)
            reply = Shelved(*number, fetch.slot, dtype, shape, labels, epoch, begin, minibatches)
        self.answer(credit.peer, credit.envelope, reply, remember=False)

    def _prepare_ahead(self) -> None:
        while self._facts is not None and (portion := self._next_to_prepare()) is not None:
            self._todo.remove(portion)
            self._preparing.add(portion)
            self.do(self._order(portion))
        if not self._todo:
            self._prepare_next_leg()

    def _prepare_next_leg(self) -> None:
        threads = self._job.dataserver.threads
        room = self._room() + len(self._credits) - len(self._preparing) - len(self._ready)
        while (order := self._next.order(room, threads)) is not None:
            self.do(order)

    def _room(self) -> int:
        """Portions that may be ready before they are asked for."""
        return AHEAD + self._job.dataserver.threads - 1

    def _next_to_prepare(self) -> int | None:
        """The next portion to get ready, None while enough are; where each worker has its own,
        enough for each, whether the others come for theirs or not."""
        ahead = [*self._preparing, *self._ready]
        room = self._room()
        if not modes.in_order(self._job):
            return self._todo[0] if self._todo and len(ahead) < room else None
        workers = replicas(self._job)
        held = Counter(portion % workers for portion in ahead)
        each = max(2, room // workers)
        if all(held[rank] >= each for rank in range(workers)):
            return None  # without a look at all that is left
        return next((p for p in self._todo if held[p % workers] < each), None)

    def _on_done(self, peer: Peer, envelope: Envelope) -> None:
        done = envelope.message
        assert isinstance(done, Done)
        self.answer(peer, envelope, Ack())
        ours = done.orphan or self._leases.had(envelope.source, done.portion)
        if done.leg != self._serving.leg or not ours:
            self.counters["late"] += 1
            return
        if done.orphan:
            self._orphans_done.add(done.portion)
        self._drop(done.portion, envelope.source)
        self.note_measures(done.measures)
        self._finish(done.portion)
        if self._backing:
            self._serve()

    def _drop(self, portion: int, worker: int) -> None:
        """A worker has done a portion: nobody else needs it. It may have been done by another, or
        was to be, because its worker was thought to be gone."""
        if not self._leases.has(worker, portion):
            self.counters["late"] += 1
            if portion in self._todo:
                self._todo.remove(portion)
            self._preparing.discard(portion)
            self._ready.pop(portion, None)
        for key in self._leases.finish(portion):
            if key[0] != worker:
                self._empty[key] = _nothing(self._serving.leg, 0)

    def _finish(self, portion: int) -> None:
        self.note_done(portion)
        self.report_progress()

    def _on_return(self, peer: Peer, envelope: Envelope) -> None:
        """A worker leaves: what it has not trained on is for the others."""
        returned, worker = envelope.message, envelope.source
        assert isinstance(returned, Return)
        self.answer(peer, envelope, Ack())
        self._forget_credits({worker})
        if returned.leg == self._serving.leg:
            rows = zip(returned.portions, returned.left, returned.measures, strict=False)
            for portion, left, measures in rows:
                if left and self._leases.has(worker, portion):
                    self._leases.keep(portion, left)
                    self.note_measures(measures)
        untouched = self._leases.lose({worker})
        self._todo.extendleft(reversed(untouched))
        self._prepare_ahead()
        self._serve()
        self.report_progress()

    def _prepared(self, portion: int, event: Prepared) -> None:
        """A training portion is here: for a worker that asks for it again or has it as a second
        one, or for the next one.

        One whose samples are all damaged is done at once.
        """
        for credit in self._again.pop(portion, ()):
            if self._leases.granted(credit.key) == portion:
                self._send(credit, event)
        if portion in self._preparing:
            self._preparing.discard(portion)
            if len(event.arrays[1]):
                self._ready[portion] = event
            else:
                self._finish(portion)
            self._serve()

    def _forget_credits(self, gone: set[int]) -> None:
        self._gone |= gone
        self._credits = deque(c for c in self._credits if c.envelope.source not in gone)
        self._empty = {key: told for key, told in self._empty.items() if key[0] not in gone}

    def _reissue(self, portions: list[int], why: str) -> None:
        """Note that portions are handed out once more: some of their samples may come twice."""
        self.note_reissued(portions, sum(map(self._samples, portions)))
        epoch = self._serving.epoch
        named = ", ".join(map(str, map(self._begins, portions)))
        self.note("warning", f"the portions at {named} of epoch {epoch} {why}")

    def _begins(self, portion: int) -> int:
        """Where a portion begins in its epoch's order."""
        assert self._facts is not None
        return self._serving.begin + portion * self._facts.portion_size

    def _samples(self, portion: int) -> int:
        """How many samples are left of a portion, at most."""
        assert self._facts is not None
        size = min(self._facts.portion_size, self._facts.samples - self._begins(portion))
        left = len(self._leases.left(portion)) * self._job.data.batch_size
        return min(size, left or size)

    def standing(self) -> tuple[int, int, int, list[int]]:
        return self._serving.leg, self._given, self._left(), self._leases.workers

    def report(self) -> dict[str, float]:
        return {"credits": len(self._credits), "leases": len(self._leases), **self.counters}


def _nothing(leg: int, portion: int) -> Prepared:
    """An answer without samples: it gives the worker its credit back."""
    arrays = (np.empty(0, np.float32), np.empty(0, np.int64))
    return Prepared(Prepare(False, leg, portion), False, arrays)
