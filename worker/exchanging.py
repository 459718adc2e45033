"""Pushing what was computed and taking fresh parameters: the worker's half of every mode. Pure.

Gradient modes (`async`, `ssp`, `bsp`) push a lane's mean gradient. In `local` and `admm` it has
stepped its own parameters, and pushes how far they went, so that the servers can take it for a
gradient: w_then - w_now (the outer gradient of Reddi et al. 2021, "Adaptive federated
optimization", algorithm 1). In `easgd` it pushes its parameters. Replicas that agree by ADMM push
how far z is from their w + u (`admm.replicas`). How much is gathered before, and who computes it,
is the business of `state`.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from math import prod

import numpy as np

from ..common import modes, partition
from ..common.cluster import Parameter
from ..common.delivery import Courier, Open
from ..common.messages import Message, Pull, Push, Pushed, Refused, Shard
from ..common.types import Float32, stale_class
from .admm.replicas import Consensus
from .batches import Lease, Minibatch
from .exchange import Exchange, Lane, Replica
from .layout import nonfinite
from .model import Factors
from .parcels import NOTHING, Parcel, Parcels
from .routing import ShardClient

CREDIT = 16
"""Messages with shards that an exchange may have under way to one server."""
GROUP = 16
"""Shards of one push through shared memory: few messages, yet the server begins early."""
NO_FACTORS: Mapping[str, Factors] = {}
IN_MEMORY = Parcel("f32", NOTHING, NOTHING)


class Exchanger(ShardClient):
    """Exchanges over one replica. `lanes` are set by the worker once its model is built."""

    def __init__(self, courier: Courier, **session: object) -> None:
        super().__init__(courier, **session)
        self.lanes: list[Lane] = []
        self.exchanges: list[Exchange] = []
        self.parcels: Parcels | None = None
        self.consensus: Consensus | None = None
        self._anchor: Float32 = NOTHING
        self._unasked: list[int] | None = None
        self._minibatches = 0
        self.replies[Pull] = self._on_pulled
        self.replies[Push] = self._on_pushed

    # What the worker fills in.

    def applied(self, batch: Minibatch) -> None:
        """A minibatch's gradient is in the servers' parameters, or was dropped."""

    def measured(self, request: Open, reply: Shard) -> None:
        """A shard has come that was pulled for an evaluation."""

    # Beginning.

    def pull_first(self, more: int = CREDIT) -> None:
        """Ask for `more` shards that are not here yet, to begin with."""
        assert self.replica is not None
        if self._unasked is None:
            self._unasked = list(self.replica.numbers)[::-1]
        for _ in range(min(more, len(self._unasked))):
            self._ask_for(self._unasked.pop(), None)

    def anchor(self) -> None:
        """Remember where the worker's own steps begin."""
        assert self.job is not None
        assert self.replica is not None
        if self.consensus is not None:
            self.consensus.take(self.replica.vector, min(self.replica.versions))
        elif self.job.train.mode in ("local", "admm"):
            if self._anchor.size != self.replica.vector.size:
                self._anchor = np.empty_like(self.replica.vector)
            np.copyto(self._anchor, self.replica.vector)

    def progress(self, exchange: Exchange) -> float:
        """How much of the job is done, as far as this worker can tell: what the servers had at its
        last exchange, and since then as much of everyone as of itself."""
        assert self.job is not None
        assert self.cluster.data is not None
        done = self._minibatches + exchange.taken * partition.replicas(self.job)
        batches = -(-self.cluster.data.samples // self.job.data.batch_size)
        return done / max(1, batches * self.job.job.epochs)

    # Pushing.

    def push(self, exchange: Exchange, factors: Mapping[str, Factors] = NO_FACTORS) -> None:
        """Push all that the exchange has gathered and has not pushed yet."""
        self.push_from(exchange, 0, factors)
        self.exchanged(exchange, ())  # all answers may have come before the lane was done

    def push_from(
        self, exchange: Exchange, begin: int, factors: Mapping[str, Factors] = NO_FACTORS
    ) -> None:
        """Push the shards whose elements all lie at `begin` or beyond: their gradient is final."""
        assert self.replica is not None
        if not exchange.pushing:
            self._begin(exchange)
        exchange.factors = factors
        span = self.replica.span
        while exchange.unready and span(exchange.unready[0])[0] >= begin:
            exchange.queue.append(exchange.unready.pop(0))
        self._pump(exchange)

    def _begin(self, exchange: Exchange) -> None:
        """From the sum of gradients, or the worker's own steps, to what is pushed."""
        assert self.job is not None
        assert self.replica is not None
        count, mode = len(exchange.batches), self.job.train.mode
        if self.consensus is not None:
            self.consensus.outgoing(exchange.gradient)
        elif mode in ("local", "admm"):
            np.subtract(self._anchor, self.replica.vector, out=exchange.gradient)
        elif mode == "easgd":
            np.copyto(exchange.gradient, self.replica.vector)
        elif count > 1:
            np.multiply(exchange.gradient, np.float32(1.0 / count), out=exchange.gradient)
        exchange.pushing = True
        # A push that comes early, at the end of the data, fetches too: both counts start anew
        # together, else one exchange would become two for the rest of the run.
        early = count < modes.n_push(self.job)
        exchange.fetch = early or mode != "async" or exchange.since_fetch >= modes.n_fetch(self.job)
        if modes.paced(self.job):
            exchange.pace = max(self.now - exchange.began_at, 1e-9) / count
        # Backprop ends at the first layer: the last shards are ready first.
        exchange.unready = list(self.replica.numbers)[::-1]

    def _pump(self, exchange: Exchange) -> None:
        """Send what is queued, as far as there is credit: what is under way bounds the memory that
        a server needs for it. All workers push in one order, so that none waits for another's
        credit in a step that closes."""
        held_back: list[int] = []
        groups: dict[str, list[int]] = {}
        for shard in exchange.queue:
            address = self.owner(shard)
            if exchange.flying[address] >= CREDIT:
                held_back.append(shard)
                continue
            exchange.waiting.add(shard)
            if exchange.pulling:
                exchange.flying[address] += 1
                self._ask_for(shard, exchange.number, exchange.number if exchange.stale else -1)
            elif self.shares_memory(address):
                group = groups.setdefault(address, [])
                group.append(shard)
                if len(group) == GROUP:
                    self._push_group(exchange, address, groups.pop(address))
            else:
                self._push_group(exchange, address, [shard])
        for address, group in groups.items():
            self._push_group(exchange, address, group)
        exchange.queue = held_back

    def _push_group(self, exchange: Exchange, address: str, shards: list[int]) -> None:
        """Push one shard with what it carries, or some that the server reads from shared memory."""
        assert self.job is not None
        assert self.replica is not None
        assert self.parcels is not None
        exchange.flying[address] += 1
        parcel, shared = IN_MEMORY, self.shares_memory(address)
        size = 4 * sum(end - begin for begin, end in map(self.replica.span, shards))
        if not shared:
            factors = exchange.factors if self.far(address) else NO_FACTORS
            parcel = self.parcels.pack(exchange, shards[0], factors)
            size = parcel.nbytes
        lease = exchange.batches[-1].lease
        lease.add("bytes_pushed", size)
        fetch = "f32" if shared else self.job.train.pull_encoding
        self.ask_owner(
            Push(
                self.cluster.table.epoch,
                shards,
                [exchange.versions[shard] for shard in shards],
                lease.portion.leg,
                exchange.number,
                len(exchange.batches),
                exchange.pace,
                shared,
                fetch if exchange.fetch else "",
                parcel.encoding,
                list(parcel.pieces),
                parcel.gradient,
                parcel.extra,
                parcel.averaged,
            ),
            exchange.number,
        )

    def pull(self, exchange: Exchange) -> None:
        """Pull every shard between two pushes."""
        assert self.replica is not None
        exchange.since_fetch = 0
        exchange.pulling = True
        if exchange.stale:  # servers will wait for it again, until it has pushed or said otherwise
            exchange.rested = min(exchange.rested, self.cluster.leg - 1)
        exchange.queue = list(self.replica.numbers)
        self._pump(exchange)

    def _ask_for(self, shard: int, tag: object, lane: int = -1) -> None:
        """Pull a shard; with `lane`, say that this lane takes part again."""
        assert self.job is not None
        table, encoding = self.cluster.table.epoch, self.job.train.pull_encoding
        leg = self.cluster.leg if lane >= 0 else -1
        self.ask_owner(Pull(table, shard, encoding, lane, leg), tag)

    # Answers.

    def _on_pushed(self, request: Open, reply: Message) -> None:
        exchange, push = self.exchanges[request.tag], request.message
        exchange.landed(request.peer)
        if self.wrong_owner(request, reply):
            return
        assert isinstance(push, Push)
        lease = exchange.batches[-1].lease
        if isinstance(reply, Shard):
            staleness = [-1 if reply.late else reply.staleness]
            lease.add("bytes_pulled", reply.values.nbytes)
            self.take_shard(reply)
        else:
            assert isinstance(reply, Pushed)
            staleness = list(reply.staleness)
            if push.fetch:
                lease.add("bytes_pulled", self._arrived(reply))
        _count(lease, staleness)
        self._left_out(push.shards, staleness)
        self._minibatches = max(self._minibatches, reply.minibatches)
        if reply.steps:
            exchange.steps = reply.steps
        self.exchanged(exchange, push.shards)

    def _arrived(self, reply: Pushed) -> int:
        """The server has written fresh shards into the shared vector; returns their bytes."""
        assert self.replica is not None
        elements = 0
        for shard, version in zip(reply.shards, reply.versions, strict=True):
            self.replica.versions[shard] = max(self.replica.versions[shard], version)
            self.replica.changed.add(shard)
            begin, end = self.replica.span(shard)
            elements += end - begin
        return 4 * elements

    def take_shard(self, reply: Shard) -> None:
        """A fresh shard has come by the wire."""
        assert self.replica is not None
        # Of a job that goes on from a checkpoint much may be done before the first push.
        self._minibatches = max(self._minibatches, reply.minibatches)
        if reply.shard in self.replica.numbers:
            self.replica.take(reply.shard, reply.version, reply.encoding, reply.values)

    def exchanged(self, exchange: Exchange, shards: Iterable[int]) -> None:
        """Some shards of an exchange are settled; after the last one its lanes go on."""
        exchange.waiting.difference_update(shards)
        if exchange.queue:
            self._pump(exchange)
        if exchange.waiting or exchange.queue or exchange.unready:
            return
        if exchange.pulling:
            exchange.pulling = exchange.stale = False
        elif exchange.pushing and not exchange.computing:
            exchange.pushing = False
            exchange.taken = 0
            if exchange.fetch:
                exchange.since_fetch = 0
            batches, exchange.batches = exchange.batches, []
            self._agree(batches[-1].lease)
            for batch in batches:
                self.applied(batch)
        if not exchange.batches:  # also after a pull, where others had gone on without it
            self.anchor()
        self.go_on()

    def _left_out(self, shards: Sequence[int], staleness: Sequence[int]) -> None:
        """Consensus has to know of what came late."""
        assert self.replica is not None
        for shard, late in zip(shards, staleness, strict=True):
            if late < 0 and self.consensus is not None:
                self.consensus.leave_out(*self.replica.shards.span(shard))

    def _agree(self, lease: Lease) -> None:
        """A round of consensus is over: the multiplier takes its step."""
        if self.consensus is None or not self.consensus.takes_part:
            return
        assert self.replica is not None
        found = self.consensus.answered(self.replica.vector, min(self.replica.versions))
        lease.add("rounds", 1)
        for name, value in found._asdict().items():
            lease.add(name, value)

    def _on_pulled(self, request: Open, reply: Message) -> None:
        if self.wrong_owner(request, reply):
            return
        assert isinstance(request.message, Pull)
        assert isinstance(reply, Shard)
        if request.tag is None:
            self.take_shard(reply)
            self.pull_first(1)
            assert self.replica is not None
            if not self.replica.missing:
                self.anchor()
            self.go_on()
        elif isinstance(request.tag, int):
            self.take_shard(reply)
            self.exchanges[request.tag].landed(request.peer)
            self.exchanged(self.exchanges[request.tag], [request.message.shard])
        else:
            self.measured(request, reply)

    def refused(self, request: Open, reply: Refused) -> None:
        """A refused push is dropped; fresh shards are pulled instead."""
        if isinstance(request.message, Push):
            self.counters["refused_pushes"] += 1
            exchange = self.exchanges[request.tag]
            why = self._not_finite(exchange) if reply.code == "nonfinite" else ""
            self.note("warning", f"push refused: {reply.detail}{why}")
            if self.consensus is not None:
                self.consensus.begin_anew()
            exchange.landed(request.peer)
            for shard in request.message.shards:
                self._ask_for(shard, request.tag)
        else:
            super().refused(request, reply)

    def _not_finite(self, exchange: Exchange) -> str:
        """Which model it was, and which parameter's gradient."""
        assert self.job is not None
        assert self.replica is not None
        names = nonfinite(shapes_within(self.cluster.layout, self.replica), exchange.gradient)
        if not names:  # but what it was encoded to for the wire
            return ""
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return f", in the gradient of {names[0]}{more} (model.ref = {self.job.model.ref})"


def shapes_within(layout: Sequence[Parameter], replica: Replica) -> dict[str, tuple[int, ...]]:
    """The parameters that a replica holds, of those of the whole net."""
    ends = accumulate(prod(parameter.shape) for parameter in layout)
    first, last = replica.begin, replica.begin + replica.vector.size
    return {p.name: p.shape for p, end in zip(layout, ends, strict=True) if first < end <= last}


def _count(lease: Lease, staleness: Sequence[int]) -> None:
    """Add the pushes of some shards to the measures of their portion."""
    for late in staleness:
        if late < 0:
            lease.add("late", 1)
        else:
            lease.add("pushes", 1)
            lease.add("staleness", late)
            lease.add(f"stale.{stale_class(late)}", 1)
