"""Which shards to push and pull, in whose name, and how stale they are. Pure.

A lane is one minibatch under way, with its own gradient; a compute thread has one lane or several
(`in_flight`). All lanes share one parameter vector. Each exchange of a lane pushes every shard
once, and with `fetch` takes the fresh shard from the reply.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..common.job import Job
from ..common.sharding import Shards, Table
from ..common.types import Float32, Member
from .batches import Minibatch

CROWD = 8
"""Threads of a whole job beyond which `in_flight` leaves each a single lane."""


@dataclass(slots=True)
class Lane:
    """Progress between two exchanges.

    `gradient` (n,) holds the sum over `count` minibatches since the last push; it is lent to the
    transport while `waiting` is not empty. `versions` are the shards' versions that the first of
    these gradients was computed on.
    """

    number: int
    gradient: Float32
    versions: list[int] = field(default_factory=list)
    batches: list[Minibatch] = field(default_factory=list)
    since_fetch: int = 0
    computing: bool = False
    pushing: bool = False
    waiting: set[int] = field(default_factory=set)
    idle_since: float | None = None

    @property
    def free(self) -> bool:
        """Neither computing nor exchanging."""
        return not self.computing and not self.waiting


def in_flight(job: Job) -> int:
    """Lanes of a thread: minibatches that are computed or exchanged at the same time.

    With two, a thread computes while the gradient before travels, at the price of one more update
    of staleness. Left to itself (0) a lone thread has one, so that its run is plain sequential
    training; and so have threads that are many, where staleness counts and servers never rest.
    """
    threads = job.worker.count * job.worker.threads
    return job.train.in_flight or (2 if 2 <= threads <= CROWD else 1)


class Replica:
    """The worker's copy of the parameters: one flat vector and the version of each shard."""

    def __init__(self, vector: Float32, shards: Shards) -> None:
        self.vector, self.shards = vector, shards
        self.versions = [0] * shards.count
        self.missing = set(range(shards.count))

    def view(self, vector: Float32, shard: int) -> Float32:
        """The slice of a flat vector that belongs to a shard."""
        begin, end = self.shards.span(shard)
        return vector[begin:end]

    def take(self, shard: int, version: int, values: Float32) -> bool:
        """A fresh shard has come: newer ones replace, older ones (overtaken replies) are ignored.

        Returns:
            whether the values were taken.
        """
        target = self.view(self.vector, shard)
        if values.shape != target.shape:
            return False
        first = shard in self.missing
        if first or version >= self.versions[shard]:
            np.copyto(target, values)
            self.versions[shard] = version
            self.missing.discard(shard)
            return True
        return False


def owner_address(shard: int, shards: Shards, table: Table, servers: Sequence[Member]) -> str:
    """Where a shard lives now, empty if its owner is not among the members."""
    rank = table.owners[shards.bucket(shard)]
    return next((member.address for member in servers if member.rank == rank), "")
