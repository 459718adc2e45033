"""A worker's state: events in, actions out. No socket, thread or clock.

It follows the view, asks for data by credit, hands minibatches to its lanes (compute threads), and
lets them exchange with the servers as the mode says (`exchanging`): Downpour SGD (Dean et al., NIPS
2012, algorithm 7.1 of its appendix) where nobody waits.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import islice

from ..common import modes, partition
from ..common.cluster import Cluster
from ..common.delivery import Courier, Open
from ..common.job import Job
from ..common.messages import (
    Describe,
    Message,
    Refused,
    Rest,
    Start,
)
from ..common.node import Lend, NoShortcut
from ..common.types import Role
from .batches import Minibatch
from .events import Build, Built, Compute, Computed, Partly
from .exchange import Exchange, Lane, Replica
from .exchanging import NO_FACTORS
from .model import Factors
from .parcels import Parcels
from .parting import Parting

BURST = 8
"""Minibatches given to a lane at once where the worker steps by itself (handing over costs time),
if it is alone, or as long as it is not known how fast it is."""
BURST_SECONDS = 0.02
"""What a burst lasts at most, once that is known."""


class Worker(Parting):
    """One worker process: its lanes over one shared vector."""

    role = Role.WORKER

    def __init__(self, courier: Courier, **session: object) -> None:
        super().__init__(courier, **session)
        self._built: Built | None = None
        self._building = False
        self._described = False
        self._started: set[int] = set()
        self._pulled = False
        self._turn = 0
        self._turns_of = -1  # the leg in which the lanes take turns
        self.replies |= {
            Describe: self._on_described,
            Start: self._on_started,
            Rest: self._on_rested,
        }

    def state_word(self) -> str:
        if self._building:
            return "building the model"
        if self.cluster.phase != "training" or self.replica is None:
            return self.cluster.phase
        if not self._active():
            return "waiting for the warm start"
        busy = self.busy or any(not lane.free for lane in self.lanes)
        return "training" if busy else "idle"

    def report(self) -> dict[str, float]:
        return dict(self.counters)

    # Following the view.

    def viewed(self, old: Cluster, new: Cluster) -> None:
        if new.data is not None and self._built is None and not self._building:
            self._building = True
            self.do(Build(new))
        self._wants_data = True
        self._set_up()
        self.meet_neighbours()
        if new.leg != old.leg:
            self.counters["dropped_portions"] += self._ring.drop_before(new.leg)
        self.go_on()

    def happened(self, event: object) -> None:
        if isinstance(event, Built):
            self._building = False
            self._built = event
            self.do(Lend(event.vector))
            self.tell(Describe(event.layout, event.line, list(event.starts)))
        elif isinstance(event, Computed):
            self._computed(event)
        elif isinstance(event, Partly):
            self.push_from(self.lanes[event.lane].exchange, event.begin, event.factors)
        elif isinstance(event, NoShortcut):
            self.no_shortcut(event)
        else:
            super().happened(event)

    def _on_described(self, request: Open, reply: Message) -> None:
        self._described = True
        self._set_up()
        self.go_on()  # the view of the first leg may have overtaken this answer

    def _set_up(self) -> None:
        """Once model and table are known: make the replica; the first worker starts the shards."""
        if (
            self._built is None
            or self.job is None
            or not self.cluster.table.owners
            or not self._described
        ):
            return
        if self.replica is None:
            paramserver = self.job.paramserver
            shards = self.cluster.shards(paramserver.shard_bytes, paramserver.buckets)
            built, part = self._built, partition.place(self.job, self.rank)[1]
            numbers, (begin, end) = shards.of_part(part), shards.elements_of_part(part)
            assert built.vector.size == end - begin
            self.replica = Replica(built.vector, shards, numbers, begin)
            self._make_lanes(self.job, built)
            self.consensus = built.consensus
            self.parcels = Parcels(self.job, shards, built.layout, built.factored, numbers)
        self.share_memory(self._built.segment)
        self.offer_shelf(self._built.slots)
        parts = partition.parts(self.job)
        alike = (
            m.rank for m in self.cluster.of_role(Role.WORKER) if m.rank % parts == self.rank % parts
        )
        first = next(alike, -1) == self.rank
        # A job that goes on from a checkpoint has its values there.
        if self.cluster.phase == "preparing" and first and not self.job.job.resume:
            for shard in self.replica.numbers:
                if shard not in self._started:
                    self._started.add(shard)
                    values = self.replica.view(self._built.vector, shard)
                    self.ask_owner(Start(self.cluster.table.epoch, shard, values), None)

    def _make_lanes(self, job: Job, built: Built) -> None:
        together, steps = modes.rounds(job), modes.n_push(job)
        count = modes.participants(job)
        # Where steps close, one that comes late says so with its data in hand, and pulls after:
        # else the others would close the step that its first push is for.
        stale = modes.closes_steps(job)
        self.exchanges = [
            Exchange(number, gradient, steps, stale=stale)
            for number, gradient in enumerate(built.gradients[:count])
        ]
        self.lanes = [
            Lane(number, self.exchanges[0 if together else number])
            for number in range(len(built.gradients))
        ]

    def _on_started(self, request: Open, reply: Message) -> None:
        self.wrong_owner(request, reply)

    def _active(self) -> bool:
        return self.cluster.phase == "training" and self.cluster.active in (-1, self.rank)

    def go_on(self) -> None:
        """Do whatever can be done now: take part, ask for data, compute."""
        if not self._active() or self.replica is None or self.leaving is not None:
            return
        if not self._pulled:
            self._pulled = True
            self.pull_first()
        if self.replica.missing or self.attaching:
            return
        self._compute()

    def settled(self) -> bool:
        """Whether nothing is being computed or exchanged; what has been gathered is pushed."""
        if self.boundary is not None:
            return self.part_settled()
        if self.replica is None or self.replica.missing or self.attaching:
            return True  # it has not begun
        for lane in self.lanes:
            if lane.free and lane.exchange.batches and not lane.exchange.computing:
                self._push(lane)
        return not any(
            exchange.batches or exchange.computing or exchange.pushing or exchange.pulling
            for exchange in self.exchanges
        )

    def _rest(self, exchange: Exchange) -> None:
        """Tell the servers that nobody is to wait for this exchange in this leg."""
        leg = self.cluster.leg
        if exchange.rested >= leg:
            return
        exchange.rested, exchange.stale = leg, True
        for member in self.cluster.of_role(Role.PARAMSERVER):
            exchange.resting += 1
            self.ask(member.address, Rest(leg, exchange.number), exchange)

    def _on_rested(self, request: Open, reply: Message) -> None:
        request.tag.resting -= 1
        self.go_on()

    # Steps.

    def _compute(self) -> None:
        """Give free lanes their next minibatches, or a part of a cut net its next action."""
        assert self.job is not None
        if self.boundary is not None:
            self.compute_part()
        if self.retiring:
            self.retire()
            return
        if modes.in_order(self.job) and not modes.rounds(self.job):
            self._compute_in_turn()
        elif self.boundary is None:
            for lane in self.lanes:
                if lane.free:
                    self._next_step(lane)
        if self._wants_data:
            self.ask_for_data()

    def _compute_in_turn(self) -> None:
        """Where the order counts, minibatch j of the leg goes to lane j modulo their number."""
        if (leg := self._ring.leg) > self._turns_of:
            self._turn, self._turns_of = 0, leg
        self._skip_pushing()
        while self.lanes[self._turn].free and self._next_step(self.lanes[self._turn]):
            self._turn = (self._turn + 1) % len(self.lanes)
            self._skip_pushing()
        if not len(self._ring) and not self.undrained():
            for lane in self.lanes:
                if lane.free:
                    self._nothing_to_do(lane)

    def _skip_pushing(self) -> None:
        """A lane whose push waits for another lane's must not keep minibatches from that one. So it
        may be where portions come after the end, of a worker that has died, and where a leg may
        end before all its pushes are made."""
        assert self.job is not None
        early = self.job.job.epoch_quorum < 1.0
        while self.lanes[self._turn].exchange.pushing and any(
            lane.free and (lane.exchange.taken or early) for lane in self.lanes
        ):
            self._turn = (self._turn + 1) % len(self.lanes)

    def _next_step(self, lane: Lane) -> bool:
        """Give a free lane its next minibatches; with none left, push what has accrued.

        Returns:
            whether it has got any.
        """
        assert self.job is not None
        exchange = lane.exchange
        expected = self.undrained() if modes.in_order(self.job) else ()
        if exchange.stale and self._ring.has_next(expected):
            self.pull(exchange)  # others have gone on while it rested
            return False
        batches = self._next_batches(lane, expected)
        if not batches:
            self._nothing_to_do(lane)
            return False
        if lane.idle_since is not None:
            self._waited(lane, batches[0], self.now - lane.idle_since)
        lane.leg = batches[0].lease.portion.leg
        assert self.replica is not None
        if not exchange.taken:
            exchange.versions = list(self.replica.versions)
            exchange.began_at = self.now
        accumulate = bool(exchange.batches)
        self._wants_data = True
        exchange.rested = min(exchange.rested, batches[0].lease.portion.leg - 1)
        exchange.batches += batches
        exchange.taken += len(batches)
        exchange.since_fetch += len(batches)
        self._begin_step(lane, self._action(lane, batches, accumulate))
        return True

    def _waited(self, lane: Lane, first: Minibatch, seconds: float) -> None:
        """A lane has gone without data until now; apart, where that was between two epochs."""
        lease, leg = first.lease, first.lease.portion.leg
        lease.add("wait", seconds)
        if leg > lane.leg:
            lease.add("wait_between", seconds)
        lane.idle_since = None

    def _begin_step(self, lane: Lane, action: Compute) -> None:
        """Put a lane to work. A device is told what has changed, and asked for what is complete."""
        exchange = lane.exchange
        exchange.computing += 1
        lane.computing, lane.batches, lane.began_at = True, action.batches, self.now
        assert self._built is not None
        if self._built.remote:
            assert self.replica is not None
            exchange.away = True
            lane.brings = action.bring or exchange.taken >= exchange.steps
            fresh = self.replica.take_changed()
            action = replace(action, fresh=fresh, bring=lane.brings, announce=False)
        self.do(action)

    def _next_batches(self, lane: Lane, expected: Collection[str]) -> list[Minibatch]:
        """What a lane takes at once: one minibatch, or its share of a burst."""
        assert self.job is not None
        exchange = lane.exchange
        most = 1
        if modes.rounds(self.job):
            lanes = len(self.lanes)
            share = -(-(exchange.steps - exchange.taken) // lanes)
            fair = -(-len(self._ring) // lanes)  # the other lanes want some of what is here, too
            most = max(1, min(share, fair, self._burst(lane.pace)))
        taken = iter(lambda: self._ring.take(expected), None)
        return list(islice(taken, most))

    def _burst(self, pace: float) -> int:
        """The most minibatches of a burst. A copy is begun and merged with each, so that shorter
        ones than `merge_every` would merge more often. All of a burst are taken at one rate, so
        that the bursts of a lone lane, whose job may be reproducible, do not depend on time."""
        assert self.job is not None
        if not pace or len(self.lanes) == 1:
            return BURST
        return max(int(BURST_SECONDS / pace), modes.merge_every(self.job))

    def _action(self, lane: Lane, batches: list[Minibatch], accumulate: bool) -> Compute:
        assert self.job is not None
        if modes.steps_locally(self.job):
            # In rounds it is the steps that count, and not the gradients.
            adds = accumulate and not modes.rounds(self.job)
            progress = self.progress(lane.exchange)
            return Compute(lane.number, batches, adds, step=True, progress=progress)
        announce = modes.n_push(self.job) == 1
        assert self.parcels is not None
        factors, skip = self.parcels.factors, frozenset[str]()
        if factors:
            servers = self.cluster.of_role(Role.PARAMSERVER)
            apart = [self.far(m.address) and not self.shares_memory(m.address) for m in servers]
            factors = any(apart)
            if all(apart):
                skip = self.parcels.skipped(len(batches[0].inputs))
        return Compute(
            lane.number, batches, accumulate, announce=announce, factors=factors, skip=skip
        )

    def _nothing_to_do(self, lane: Lane) -> None:
        assert self.job is not None
        exchange = lane.exchange
        over = not modes.told_the_end(self.job) or not (len(self._ring) or self.undrained())
        if over and exchange.batches and not exchange.computing:
            self._push(lane)
            return
        if lane.idle_since is None:
            lane.idle_since = self.now
        if over and modes.waits(self.job) and not exchange.batches:
            self._rest(exchange)

    def _computed(self, event: Computed) -> None:
        lane = self.lanes[event.lane]
        exchange = lane.exchange
        lane.computing = False
        if lane.batches:
            lane.pace = (self.now - lane.began_at) / len(lane.batches)
        exchange.computing -= 1
        if lane.brings and not exchange.computing:
            exchange.away = False
        self._count(lane, event)
        assert self.job is not None
        if exchange.taken >= exchange.steps:
            if not exchange.computing:
                self._push(lane, event.factors)
        elif not modes.rounds(self.job) and exchange.since_fetch >= modes.n_fetch(self.job):
            self.pull(exchange)
        else:
            self._compute()

    def _push(self, lane: Lane, factors: Mapping[str, Factors] = NO_FACTORS) -> None:
        """Push what the lane's exchange has gathered, once it has been brought from a device."""
        if lane.exchange.away:
            self._begin_step(lane, Compute(lane.number, [], bring=True))
        else:
            self.push(lane.exchange, factors)

    def _count(self, lane: Lane, event: Computed) -> None:
        """Add what a lane measured to the portions of its minibatches."""
        assert self.job is not None
        before = self.counters["steps"]
        for batch, metrics in zip(lane.batches, event.metrics, strict=True):
            samples = len(batch.inputs)
            batch.lease.add("samples", samples)
            batch.lease.add("steps", 1)
            for name, value in metrics.items():
                known = name in ("loss", "accuracy")
                batch.lease.add(name if known else f"model.{name}", value * samples)
            self.counters["steps"] += 1
            self.counters["samples"] += samples
        if before < self.job.job.warm_start <= self.counters["steps"]:
            self.beat_soon()

    def refused(self, request: Open, reply: Refused) -> None:
        if isinstance(request.message, Describe | Start):
            self.fail(2, reply.detail)
        else:
            super().refused(request, reply)
