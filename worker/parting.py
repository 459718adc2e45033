"""A worker that holds a part of a cut net: between its data, its neighbours and the servers. Pure.

What passes between the parts, and when, is the business of `boundary`; here stands what it needs of
the worker: who the neighbours are, portions for the bottom part, what data servers know of samples
for the parts above, and the servers' share of what is learnt. One action is computed at a time, and
none while shards are exchanged.

The bottom part holds back the word that its last portions are done until all parts have pushed what
they learnt of them: when a leg ends, the servers have all of it.
"""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from ..common import modes, partition
from ..common.delivery import Courier, Open, Peer
from ..common.job import Job
from ..common.messages import (
    Activations,
    AskSamples,
    Copies,
    Envelope,
    Gradients,
    Message,
    Portion,
    Refused,
    Samples,
    Settle,
    Targets,
)
from ..common.types import Member, Role
from .batches import Lease, Minibatch
from .boundary.boundary import Boundary, Event, Learnt
from .boundary.early import Early
from .boundary.events import Backed, Forwarded, Trained
from .boundary.making import make_boundary
from .events import ComputePart
from .exchange import Exchange
from .retiring import Retiring

BETWEEN_PARTS = (Activations, Targets, Gradients, Copies, Settle)
"""The requests that neighbours make of each other."""


class Parting(Retiring):
    """A worker's part of a cut net; without a cut nothing of this happens."""

    def __init__(self, courier: Courier, **session: object) -> None:
        super().__init__(courier, **session)
        self.boundary: Boundary | None = None
        self._part = 0
        self._busy_since: float | None = None
        self._pushes = 0
        self._pushed: list[tuple[int, Minibatch]] = []  # by push: data servers are not told yet
        self._aside = defaultdict[str, float](float)  # measures that belong to no portion yet
        # A neighbour's view may be ahead of our welcome.
        self._early = Early(self)
        self.requests |= dict.fromkeys(BETWEEN_PARTS, self._early.hold)
        self.replies[AskSamples] = self._on_samples

    def configure(self, job: Job) -> None:
        super().configure(job)
        for kind in BETWEEN_PARTS:
            del self.requests[kind]
        if partition.is_cut(job):
            _, self._part = partition.place(job, self.rank)
            self.boundary = make_boundary(self, job, self.rank, self._early)
            self.requests |= dict.fromkeys(self.boundary.requests, self._from_neighbour)
            self.replies |= dict.fromkeys(self.boundary.replies, self._neighbour_answered)

    def _from_neighbour(self, peer: Peer, envelope: Envelope) -> None:
        assert self.boundary is not None
        self.boundary.requests[type(envelope.message)](peer, envelope)
        self.go_on()

    def _neighbour_answered(self, request: Open, reply: Message) -> None:
        assert self.boundary is not None
        self.boundary.replies[type(request.message)](request, reply)
        self.go_on()

    def meet_neighbours(self) -> None:
        """The view has changed: who holds the next parts now."""
        if self.boundary is None:
            return
        assert self.job is not None
        workers = {member.rank: member for member in self.cluster.of_role(Role.WORKER)}
        top = self._part == partition.parts(self.job) - 1
        below = workers.get(self.rank - 1) if self._part else None
        self.boundary.meet(below, None if top else workers.get(self.rank + 1))

    # Computing.

    @property
    def busy(self) -> bool:
        """Whether something of the part is being computed."""
        return self._busy_since is not None

    def compute_part(self) -> None:
        """Go on with the part, if it is at rest."""
        exchange, boundary = self.exchanges[0], self.boundary
        assert boundary is not None
        if not self._part and not self.retiring:
            self._feed(boundary)
        self._ask_samples(boundary)
        if self._busy_since is not None or not exchange.open:
            return
        # Who is to go lets the parts below go on with another; the bottom part has none below.
        action = None if self.retiring and self._part else boundary.next()
        if action is None:
            self._settle(boundary)
            return
        if not exchange.batches:
            assert self.replica is not None
            exchange.versions = list(self.replica.versions)
            exchange.began_at = self.now
        self._busy_since = self.now
        self.do(ComputePart(action, self.progress(exchange)))

    def _feed(self, boundary: Boundary) -> None:
        assert self.job is not None
        expected = self.undrained() if modes.in_order(self.job) else ()
        while boundary.wants() and (batches := self._ring.take_portion(expected)):
            self._wants_data = True
            boundary.feed(batches)

    def _ask_samples(self, boundary: Boundary) -> None:
        """Ask a data server, one of this host if there is one, what is known of some samples."""
        servers = self.cluster.of_role(Role.DATASERVER)
        near = [member for member in servers if member.host == self.host] or servers
        if near:
            for wanted in boundary.unknown():
                self.ask(near[self.rank % len(near)].address, wanted)

    def _on_samples(self, request: Open, reply: Message) -> None:
        asked = request.message
        assert isinstance(asked, AskSamples)
        assert isinstance(reply, Samples)
        assert self.boundary is not None
        self.boundary.know((asked.epoch, asked.begin), reply)
        self.go_on()

    def happened(self, event: object) -> None:
        if isinstance(event, Forwarded | Trained | Backed):
            self._computed_part(event)
        else:
            super().happened(event)

    def _computed_part(self, event: Event) -> None:
        assert self.boundary is not None
        assert self._busy_since is not None
        self._aside[f"busy.{self._part}"] += self.now - self._busy_since
        self._busy_since = None
        learnt = self.boundary.happened(event)
        if learnt is not None:
            self._gather(learnt)
        self.go_on()

    def _gather(self, learnt: Learnt) -> None:
        """Some steps are made: they belong to the next push."""
        exchange = self.exchanges[0]
        batches = learnt.batches or self._unnamed_batches(learnt)
        samples = sum(len(batch.inputs) for batch in learnt.batches)
        lease = batches[-1].lease
        for name, value in learnt.measures.items():
            lease.add(name, value)
        if not self._part:
            lease.add("samples", samples)
            lease.add("steps", learnt.steps)
        self.counters["steps"] += learnt.steps
        self.counters["samples"] += samples
        exchange.batches += batches
        exchange.taken += learnt.steps
        if exchange.taken >= exchange.steps:
            self._push_part()

    def _unnamed_batches(self, learnt: Learnt) -> list[Minibatch]:
        """What stands for the minibatches of a part that has no leases."""
        nothing = np.empty(0, np.float32)
        lease = Lease("", Portion(learnt.leg, -1, False, nothing, nothing), learnt.count)
        return [Minibatch(lease, number, nothing, nothing) for number in range(learnt.count)]

    # Pushing, and settling all the way up.

    def _push_part(self) -> None:
        self._pushes += 1
        self.push(self.exchanges[0])

    def applied(self, batch: Minibatch) -> None:
        """The servers have it. The bottom part keeps its word of the last ones back."""
        if self.boundary is None:
            super().applied(batch)
        elif self._part:
            self._set_aside(batch.lease.measures)
            batch.lease.measures.clear()
        else:
            self._tell_done(self._pushes)
            self._pushed.append((self._pushes, batch))

    def _set_aside(self, measures: Mapping[str, float]) -> None:
        for name, value in measures.items():
            self._aside[name] += value

    def _tell_done(self, before: int) -> None:
        """Tell data servers of what was in the pushes before this one."""
        done = [batch for push, batch in self._pushed if push < before]
        self._pushed = [kept for kept in self._pushed if kept[0] >= before]
        for batch in done:
            for name, value in self._aside.items():
                batch.lease.add(name, value)
            self._aside.clear()
            super().applied(batch)

    def _settle(self, boundary: Boundary) -> None:
        """There is nothing to compute. Whoever is asked to settle pushes what it has learnt; so
        does the bottom part when nothing is left for it in the leg, and asks the others to."""
        exchange = self.exchanges[0]
        if self._part:
            over = boundary.settling or self.retiring
        else:
            out_of_data = not len(self._ring) and not self.undrained()
            over = boundary.idle and (out_of_data or self.retiring)
        if not over:
            return
        if exchange.batches:
            self._push_part()
            return
        if self._part:
            boundary.add(dict(self._aside))
            self._aside.clear()
        if not self._part and not self._pushed:
            return  # nothing was learnt since
        if boundary.settle(pushed=True) and not self._part:
            self._set_aside(boundary.take_measures())
            self._tell_done(self._pushes + 1)

    def progress(self, exchange: Exchange) -> float:
        if self.boundary is None:
            return super().progress(exchange)
        assert self.job is not None
        assert self.cluster.data is not None
        done = self._minibatches + len(exchange.batches) * partition.replicas(self.job)
        batches = -(-self.cluster.data.samples // self.job.data.batch_size)
        return done / max(1, batches * self.job.job.epochs)

    # The end, and what goes wrong.

    def part_settled(self) -> bool:
        """`settled`, of a part: the bottom one waits for the rounds that are under way."""
        assert self.boundary is not None
        if self.replica is None or self.replica.missing or not self.exchanges:
            return True
        exchange = self.exchanges[0]
        under_way = not self._part and not self.boundary.idle
        if self._busy_since is not None or under_way or exchange.pushing or exchange.pulling:
            return False
        self._settle(self.boundary)
        return not (exchange.batches or self._pushed)

    def refused(self, request: Open, reply: Refused) -> None:
        if isinstance(request.message, AskSamples):
            self.fail(1, f"worker-{self.rank}: a data server tells no samples: {reply.detail}")
        elif self.boundary is None or not self.boundary.refused(request, reply):
            super().refused(request, reply)

    def lost(self, member: Member, request: Open) -> None:
        super().lost(member, request)
        asked = request.message
        if isinstance(asked, AskSamples) and self.boundary is not None:
            self.boundary.forget_asked((asked.epoch, asked.begin))
