"""What a worker gathers between two exchanges, and its copy of the parameters. Pure.

A lane is one minibatch under way; a compute thread has one lane or several. An exchange is what is
pushed together: each lane has one of its own where gradients are pushed, and all lanes of a worker
share one where it steps by itself (modes `local` and `easgd`). All share one parameter vector.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..common.codecs import decode
from ..common.delivery import Peer
from ..common.sharding import Shards, Table
from ..common.types import Array, Float32, Member
from .batches import Minibatch
from .model import Factors

NO_EXTRA: Float32 = np.empty(0, np.float32)


@dataclass(slots=True)
class Exchange:
    """Progress of one participant between two exchanges.

    `gradient` (n,) holds the sum over `batches` since the last push; it is lent to the transport
    while `waiting` (for the answers about these shards) is not empty. `versions` are the shards'
    versions that the first of these gradients was computed on. `steps` minibatches make a push,
    `taken` of them have been given to lanes, `since_fetch` since fresh shards came, and
    `computing` lanes are at work.

    Of a push that has begun, `unready` shards are still being computed, those of the `queue` wait
    for credit, in this order, and `flying` counts the messages under way to each server; `fetch`
    says whether it takes fresh shards back, `factors` are those of the gradient, and `pace` the
    seconds that each minibatch took. `pulling`: shards are pulled between two pushes.

    `rested` is the last leg in which the servers were told that nothing is left here, `resting`
    of them have not said yet that they know; it is `stale` then, until it has pulled again.

    `away`: what it has gathered lies on a device, and was not brought since the last minibatch.
    """

    number: int
    gradient: Float32
    steps: int
    versions: list[int] = field(default_factory=list)
    batches: list[Minibatch] = field(default_factory=list)
    taken: int = 0
    computing: int = 0
    since_fetch: int = 0
    fetch: bool = True
    pushing: bool = False
    unready: list[int] = field(default_factory=list)
    queue: list[int] = field(default_factory=list)
    waiting: set[int] = field(default_factory=set)
    flying: Counter[Peer] = field(default_factory=Counter)
    factors: Mapping[str, Factors] = field(default_factory=dict)
    pulling: bool = False
    pace: float = 0.0
    began_at: float = 0.0
    rested: int = -1
    resting: int = 0
    stale: bool = False
    away: bool = False

    @property
    def open(self) -> bool:
        """Whether it takes one more minibatch."""
        busy = self.waiting or self.pulling or self.pushing or self.resting
        return not busy and self.taken < self.steps

    def landed(self, peer: Peer) -> None:
        """A message is answered: its credit is free again."""
        self.flying[peer] = max(0, self.flying[peer] - 1)


@dataclass(slots=True)
class Lane:
    """One minibatch under way, or a few where the worker steps by itself: `batches`. It `brings`
    what lies on a device.

    `pace` is the seconds that each of the last ones took, 0 before; `began_at` is when it got them,
    `leg` whose they were.
    """

    number: int
    exchange: Exchange
    batches: list[Minibatch] = field(default_factory=list)
    computing: bool = False
    began_at: float = 0.0
    pace: float = 0.0
    brings: bool = False
    idle_since: float | None = None
    leg: int = -1

    @property
    def free(self) -> bool:
        """Neither computing nor exchanging."""
        return not self.computing and self.exchange.open


class Replica:
    """The worker's copy of the parameters, or of those of its part of a cut net: one flat vector
    and the version of each shard.

    `changed` are the shards that servers have renewed since `take_changed`.

    Arguments:
        shards: how the parameters of the whole net are cut.
        numbers: the shards that are held here; None: all.
        begin: the element of the whole net's parameters at which `vector` begins.
    """

    def __init__(
        self, vector: Float32, shards: Shards, numbers: range | None = None, begin: int = 0
    ) -> None:
        self.vector, self.shards, self.begin = vector, shards, begin
        self.numbers = range(shards.count) if numbers is None else numbers
        self.versions = [0] * shards.count
        self.missing = set(self.numbers)
        self.changed: set[int] = set()

    def span(self, shard: int) -> tuple[int, int]:
        """The elements [begin, end) of a shard in `vector`, and in any other of its kind."""
        begin, end = self.shards.span(shard)
        return begin - self.begin, end - self.begin

    def view(self, vector: Float32, shard: int) -> Float32:
        """The slice of a flat vector that belongs to a shard."""
        begin, end = self.span(shard)
        return vector[begin:end]

    def take(self, shard: int, version: int, encoding: str, values: Array) -> bool:
        """A fresh shard has come: newer ones replace, older ones (overtaken replies) are ignored.

        Returns:
            whether the values were taken.
        """
        target = self.view(self.vector, shard)
        first = shard in self.missing
        if first or version >= self.versions[shard]:
            try:
                decode(encoding, values, NO_EXTRA, target)
            except ValueError:
                return False
            self.versions[shard] = version
            self.missing.discard(shard)
            self.changed.add(shard)
            return True
        return False

    def take_changed(self) -> tuple[tuple[int, int], ...]:
        """The elements of `changed` as half-open ranges, ascending, neighbours joined; it is empty
        then."""
        spans: list[tuple[int, int]] = []
        for begin, end in map(self.span, sorted(self.changed)):
            if spans and spans[-1][1] == begin:
                begin = spans.pop()[0]
            spans.append((begin, end))
        self.changed.clear()
        return tuple(spans)


def owner_address(shard: int, shards: Shards, table: Table, servers: Sequence[Member]) -> str:
    """Where a shard lives now, empty if its owner is not among the members."""
    rank = table.owners[shards.bucket(shard)]
    return next((member.address for member in servers if member.rank == rank), "")


def is_loopback(address: str) -> bool:
    """Whether an address, `tcp://127.0.0.1:7077`, is of this machine for certain."""
    return address.removeprefix("tcp://").startswith(("127.", "localhost:"))
