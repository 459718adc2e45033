"""Pushing what was computed and taking fresh parameters: the worker's half of every mode. Pure.

Gradient modes (`async`, `ssp`, `bsp`) push a lane's mean gradient. In `local` the worker has
stepped its own parameters, and pushes how far they went, so that the servers can take it for a
gradient: w_then - w_now (the outer gradient of Reddi et al. 2021, "Adaptive federated
optimization", algorithm 1). In `easgd` it pushes its parameters. How much is gathered before, and
who computes it, is the business of `state`.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..common import modes
from ..common.delivery import Courier, Open
from ..common.messages import Message, Pull, Push, Pushed, Refused, Shard
from ..common.types import Float32, stale_class
from .batches import Lease, Minibatch
from .exchange import Exchange, Lane
from .model import Factors
from .parcels import NOTHING, Parcel, Parcels
from .routing import ShardClient

GROUP = 8
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
        self._anchor: Float32 = NOTHING
        self._minibatches = 0
        self.replies[Pull] = self._on_pulled
        self.replies[Push] = self._on_pushed

    # What the worker fills in.

    def applied(self, batch: Minibatch) -> None:
        """A minibatch's gradient is in the servers' parameters, or was dropped."""

    def measured(self, request: Open, reply: Shard) -> None:
        """A shard has come that was pulled for an evaluation."""

    # Beginning.

    def pull_all(self) -> None:
        """Ask for every shard, to begin with."""
        assert self.replica is not None
        for shard in range(self.replica.shards.count):
            self._ask_for(shard, None)

    def anchor(self) -> None:
        """Remember where the worker's own steps begin."""
        assert self.job is not None
        assert self.replica is not None
        if self.job.train.mode == "local":
            if self._anchor.size != self.replica.vector.size:
                self._anchor = np.empty_like(self.replica.vector)
            np.copyto(self._anchor, self.replica.vector)

    def progress(self, exchange: Exchange) -> float:
        """How much of the job is done, as far as this worker can tell: what the servers had at its
        last exchange, and since then as much of everyone as of itself."""
        assert self.job is not None
        assert self.cluster.data is not None
        workers = self.job.worker.count
        done = self._minibatches + exchange.taken * workers
        batches = -(-self.cluster.data.samples // self.job.data.batch_size)
        return done / max(1, batches * self.job.job.epochs)

    # Pushing.

    def push(self, exchange: Exchange, factors: Mapping[str, Factors] = NO_FACTORS) -> None:
        """Push all that the exchange has gathered and has not pushed yet."""
        assert self.replica is not None
        assert self.job is not None
        if not exchange.pushing:
            self._begin(exchange)
        self._push_shards(exchange, exchange.unpushed, factors)
        if not exchange.waiting:  # the last answers came before the lane had told its measures
            self.exchanged(exchange, ())

    def push_from(
        self, exchange: Exchange, begin: int, factors: Mapping[str, Factors] = NO_FACTORS
    ) -> None:
        """Push the shards whose elements all lie at `begin` or beyond: their gradient is final."""
        assert self.replica is not None
        if not exchange.pushing:
            self._begin(exchange)
        spans = self.replica.shards.span
        ready = [shard for shard in exchange.unpushed if spans(shard)[0] >= begin]
        self._push_shards(exchange, ready, factors)

    def _begin(self, exchange: Exchange) -> None:
        """From the sum of gradients, or the worker's own steps, to what is pushed."""
        assert self.job is not None
        assert self.replica is not None
        count, mode = len(exchange.batches), self.job.train.mode
        if mode == "local":
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
        # Backprop ends at the first layer: the last shards are ready first.
        exchange.unpushed = list(range(self.replica.shards.count))[::-1]

    def _push_shards(
        self, exchange: Exchange, shards: Sequence[int], factors: Mapping[str, Factors]
    ) -> None:
        assert self.job is not None
        assert self.parcels is not None
        pace = 0.0
        if modes.paced(self.job) and exchange.batches:
            pace = max(self.now - exchange.began_at, 1e-9) / len(exchange.batches)
        groups: dict[str, list[int]] = {}
        for shard in shards:
            exchange.waiting.add(shard)
            address = self.owner(shard)
            if self.shares_memory(address):
                groups.setdefault(address, []).append(shard)
            else:
                some = factors if self.far(address) else NO_FACTORS
                parcel = self.parcels.pack(exchange, shard, some)
                self._push_group(exchange, [shard], pace, parcel)
        for group in groups.values():
            for first in range(0, len(group), GROUP):
                self._push_group(exchange, group[first : first + GROUP], pace, None)
        pushed = set(shards)
        exchange.unpushed = [shard for shard in exchange.unpushed if shard not in pushed]

    def _push_group(
        self, exchange: Exchange, shards: list[int], pace: float, parcel: Parcel | None
    ) -> None:
        """One shard with what it carries, or some that the server reads from shared memory."""
        assert self.job is not None
        assert self.replica is not None
        lease = exchange.batches[-1].lease
        spans = map(self.replica.shards.span, shards)
        size = parcel.nbytes if parcel else 4 * sum(end - begin for begin, end in spans)
        lease.add("bytes_pushed", size)
        carried = parcel or IN_MEMORY
        fetch = "f32" if parcel is None else self.job.train.pull_encoding
        self.ask_owner(
            Push(
                self.cluster.table.epoch,
                shards,
                [exchange.versions[shard] for shard in shards],
                lease.portion.epoch,
                exchange.number,
                len(exchange.batches),
                pace,
                parcel is None,
                fetch if exchange.fetch else "",
                carried.encoding,
                list(carried.pieces),
                carried.gradient,
                carried.extra,
            ),
            exchange.number,
        )

    def pull(self, exchange: Exchange) -> None:
        """Pull every shard between two pushes."""
        assert self.replica is not None
        exchange.since_fetch = 0
        exchange.waiting = set(range(self.replica.shards.count))
        lane = exchange.number if exchange.stale else -1
        exchange.stale = False
        for shard in range(self.replica.shards.count):
            self._ask_for(shard, exchange.number, lane)

    def _ask_for(self, shard: int, tag: object, lane: int = -1) -> None:
        """Pull a shard; with `lane`, say that this lane takes part again."""
        assert self.job is not None
        table, encoding = self.cluster.table.epoch, self.job.train.pull_encoding
        epoch = self.cluster.epoch if lane >= 0 else -1
        self.ask_owner(Pull(table, shard, encoding, lane, epoch), tag)

    # Answers.

    def _on_pushed(self, request: Open, reply: Message) -> None:
        if self.wrong_owner(request, reply):
            return
        exchange, push = self.exchanges[request.tag], request.message
        assert isinstance(push, Push)
        lease = exchange.batches[-1].lease
        if isinstance(reply, Shard):
            _count(lease, [-1 if reply.late else reply.staleness])
            lease.add("bytes_pulled", reply.values.nbytes)
            self.take_shard(reply)
        else:
            assert isinstance(reply, Pushed)
            _count(lease, reply.staleness)
            if push.fetch:
                lease.add("bytes_pulled", self._arrived(reply))
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
            begin, end = self.replica.shards.span(shard)
            elements += end - begin
        return 4 * elements

    def take_shard(self, reply: Shard) -> None:
        """A fresh shard has come by the wire."""
        assert self.replica is not None
        if 0 <= reply.shard < self.replica.shards.count:
            self.replica.take(reply.shard, reply.version, reply.encoding, reply.values)

    def exchanged(self, exchange: Exchange, shards: Iterable[int]) -> None:
        """Some shards of an exchange are settled; after the last one its lanes go on."""
        exchange.waiting.difference_update(shards)
        if exchange.waiting or exchange.unpushed:
            return
        if exchange.pushing and not exchange.computing:
            exchange.pushing = False
            exchange.taken = 0
            if exchange.fetch:
                exchange.since_fetch = 0
            batches, exchange.batches = exchange.batches, []
            for batch in batches:
                self.applied(batch)
            self.anchor()
        elif not exchange.batches:  # it has pulled after a rest: its steps begin there
            self.anchor()
        self.go_on()

    def _on_pulled(self, request: Open, reply: Message) -> None:
        if self.wrong_owner(request, reply):
            return
        assert isinstance(request.message, Pull)
        assert isinstance(reply, Shard)
        if request.tag is None:
            self.take_shard(reply)
            assert self.replica is not None
            if not self.replica.missing:
                self.anchor()
            self.go_on()
        elif isinstance(request.tag, int):
            self.take_shard(reply)
            self.exchanged(self.exchanges[request.tag], [request.message.shard])
        else:
            self.measured(request, reply)

    def refused(self, request: Open, reply: Refused) -> None:
        """A refused push is dropped; fresh shards are pulled instead."""
        if isinstance(request.message, Push):
            self.counters["refused_pushes"] += 1
            self.note("warning", f"push refused: {reply.detail}")
            for shard in request.message.shards:
                self._ask_for(shard, request.tag)
        else:
            super().refused(request, reply)


def _count(lease: Lease, staleness: Sequence[int]) -> None:
    """Add the pushes of some shards to the measures of their portion."""
    for late in staleness:
        if late < 0:
            lease.add("late", 1)
        else:
            lease.add("pushes", 1)
            lease.add("staleness", late)
            lease.add(f"stale.{stale_class(late)}", 1)
