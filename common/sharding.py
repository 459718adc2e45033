"""From one flat float32 vector to shards, from shards to buckets, from buckets to servers. Pure.

    element  --(slices of `shard_elements`)-->  shard
    shard    --(fixed hash)-->                  bucket
    bucket   --(the controller's table)-->      server

The first two steps never change during a job, so that every role can work them out by itself. Only
the table changes, when servers come and go. Nothing here talks to anybody.

Of a cut net each part's elements are cut into shards by themselves, so that each shard is of one
part; shards are numbered through.

**The hash** is multiplicative (Knuth, The Art of Computer Programming 3, section 6.4, Fibonacci
hashing): bucket = (shard · m) mod B, where m is the least integer from ⌊B / φ⌋ up that shares no
divisor with B, and φ = 1.618... is the golden ratio. Such an m permutes the residues of B: any B
consecutive shards lie in B different buckets. The golden ratio sends neighbouring shards, which
tend to belong to one layer, far apart.

**The table** balances bytes: `assign` says which bound it guarantees.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from math import gcd

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import UserError

SHARD_ELEMENTS = 262_144
"""Elements of a shard: 1 MiB of float32."""
BUCKETS = 1_024
ELEMENT_BYTES = 4

_KNUTH = 2_654_435_769  # 2^32 / φ, rounded


@dataclass(frozen=True)
class Shards:
    """A vector of `size` float32 elements cut into shards, and the bucket of each.

    `starts` are the elements at which the parts of a cut net begin, the first of them 0; empty: one
    part. No shard lies in two parts.

    Raises UserError where `shard_elements` or `buckets` is below 1, ValueError for starts that
    cannot be (see `check_starts`). Any thread may use it.
    """

    size: int
    shard_elements: int = SHARD_ELEMENTS
    buckets: int = BUCKETS
    starts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        assert self.size >= 0
        if self.shard_elements < 1:
            held = ELEMENT_BYTES * self.shard_elements
            fix = f"try shard_bytes = {ELEMENT_BYTES * SHARD_ELEMENTS}"
            raise UserError("paramserver.shard_bytes", held, "at least 4 (one element)", fix)
        if self.buckets < 1:
            fix = f"try buckets = {BUCKETS}"
            raise UserError("paramserver.buckets", self.buckets, "at least 1", fix)
        check_starts(self.starts, self.size)

    @cached_property
    def count(self) -> int:
        """The number of shards; 0 for an empty vector."""
        return self._first[-1]

    @property
    def parts(self) -> int:
        """The number of parts of the net."""
        return len(self._first) - 1

    def of_part(self, part: int) -> range:
        """The shards of a part, ascending. Raises IndexError for a part that does not exist."""
        if not 0 <= part < self.parts:
            raise IndexError(f"part {part} of {self.parts}")
        return range(self._first[part], self._first[part + 1])

    def elements_of_part(self, part: int) -> tuple[int, int]:
        """The elements [begin, end) of a part. Raises IndexError as `of_part` does."""
        if not 0 <= part < self.parts:
            raise IndexError(f"part {part} of {self.parts}")
        return self._borders[part], self._borders[part + 1]

    def span(self, shard: int) -> tuple[int, int]:
        """The elements [begin, end) of a shard; only the last one of a part may be shorter than the
        others.

        Raises IndexError for a shard that does not exist.
        """
        self._check(shard)
        if not self.starts:
            begin = shard * self.shard_elements
            return begin, min(begin + self.shard_elements, self.size)
        part = bisect_right(self._first, shard) - 1
        begin = self._borders[part] + (shard - self._first[part]) * self.shard_elements
        return begin, min(begin + self.shard_elements, self._borders[part + 1])

    def bucket(self, shard: int) -> int:
        """The bucket of a shard, from 0 to `buckets` - 1. Raises IndexError as `span` does."""
        self._check(shard)
        return shard * self._multiplier % self.buckets

    def shards_of(self, bucket: int) -> range:
        """The shards that lie in a bucket, ascending; the inverse of `bucket`.

        Raises IndexError for a bucket that does not exist.
        """
        if not 0 <= bucket < self.buckets:
            raise IndexError(f"bucket {bucket} of {self.buckets}")
        first = bucket * pow(self._multiplier, -1, self.buckets) % self.buckets
        return range(first, self.count, self.buckets)

    def weights(self) -> NDArray[np.int64]:
        """The bytes of parameters in each bucket: int64 (buckets,)."""
        shards = np.arange(self.count, dtype=np.int64)
        held = np.bincount(shards * self._multiplier % self.buckets, minlength=self.buckets)
        weights = held.astype(np.int64) * (self.shard_elements * ELEMENT_BYTES)
        for part in range(self.parts):
            if numbers := self.of_part(part):
                begin, end = self.span(numbers[-1])
                missing = self.shard_elements - (end - begin)
                weights[self.bucket(numbers[-1])] -= missing * ELEMENT_BYTES
        return weights

    @cached_property
    def _borders(self) -> tuple[int, ...]:
        """Where each part begins, and where the last one ends."""
        return (*(self.starts or (0,)), self.size)

    @cached_property
    def _first(self) -> tuple[int, ...]:
        """The first shard of each part, and the number of all."""
        sizes = (end - begin for begin, end in pairwise(self._borders))
        return tuple(accumulate((-(-size // self.shard_elements) for size in sizes), initial=0))

    @cached_property
    def _multiplier(self) -> int:
        multiplier = self.buckets * _KNUTH >> 32
        while gcd(multiplier, self.buckets) != 1:
            multiplier += 1
        return multiplier

    def _check(self, shard: int) -> None:
        if not 0 <= shard < self.count:
            raise IndexError(f"shard {shard} of {self.count}")


def check_starts(starts: Sequence[int], size: int) -> None:
    """That parts of a vector of `size` elements can begin at these, in this order.

    Raises:
        ValueError: which one cannot be; none at all are one part.
    """
    if not starts:
        return
    if starts[0] != 0:
        raise ValueError(f"the first part begins at element {starts[0]}, not at 0")
    for number, (before, start) in enumerate(pairwise(starts), 1):
        if start <= before:
            raise ValueError(
                f"part {number} begins at element {start}, part {number - 1} at {before}"
            )
    if starts[-1] >= size:
        last = len(starts) - 1
        raise ValueError(f"part {last} begins at element {starts[-1]} of {size}")


@dataclass(frozen=True)
class Table:
    """Who owns each bucket: `owners[bucket]` is the rank of a server.

    `epoch` numbers the tables of a job and only grows: a request that carries an older one is
    answered with the present number instead of an effect.
    """

    epoch: int
    owners: tuple[int, ...]


def assign(
    weights: ArrayLike, servers: Sequence[int], previous: Sequence[int] | None = None
) -> tuple[int, ...]:
    """A server for each bucket, in balance, keeping as many owners of `previous` as it can.

    Arguments:
        weights: bytes of each bucket, integers (buckets,), 0 or more.
        servers: the ranks that are alive; at least one, all different, in any order.
        previous: the rank that owned each bucket, alive or not; None before the first table.

    Guaranteed for S servers with `mean` = total / S and `largest` = the heaviest bucket: the
    heaviest server holds at most `largest` bytes more than the lightest one; therefore no server
    holds more than mean + (1 - 1/S) largest, or less than mean - (1 - 1/S) largest, and each holds
    0.8 to 1.2 of the mean wherever the heaviest bucket is no more than a fifth of the mean (with
    1 MiB buckets: from 5 MiB a server). The numbers of empty buckets differ by at most one.

    Moves: a bucket of a server that is gone goes to the lightest server, heaviest bucket first
    (longest processing time first, Graham 1969). If the bound does not hold then, buckets move from
    the heaviest to the lightest server until it does. A server that gives never receives in this
    stage, nor the other way round, so no bucket moves twice; a balanced table stays as it is; a
    server that leaves a balanced table moves its own buckets only; one that joins only receives,
    and the others only give. (Why: the heaviest never grows and the lightest never shrinks while
    one bucket is no more than the tolerance, so neither can change sides.)

    Deterministic: ties go to the lower rank and the lower bucket.
    """
    bytes_of = np.asarray(weights, dtype=np.int64)
    ranks = sorted(servers)
    assert ranks
    assert len(set(ranks)) == len(ranks)
    assert bytes_of.min(initial=0) >= 0
    place = {rank: index for index, rank in enumerate(ranks)}
    before = [-1] * bytes_of.size if previous is None else [place.get(r, -1) for r in previous]
    owners = np.array(before, dtype=np.int64)
    assert owners.shape == bytes_of.shape
    full, empty = np.flatnonzero(bytes_of > 0), np.flatnonzero(bytes_of == 0)
    # Bytes cannot tell empty buckets apart, so those are balanced by number.
    owners[full] = _balance(bytes_of[full], owners[full], len(ranks))
    owners[empty] = _balance(np.ones_like(empty), owners[empty], len(ranks))
    return tuple(ranks[index] for index in owners)


def _balance(
    weights: NDArray[np.int64], owners: NDArray[np.int64], servers: int
) -> NDArray[np.int64]:
    """`assign` for positive `weights` and servers called 0, 1, ...; an owner of -1 means none."""
    owners = owners.copy()
    loads = np.zeros(servers, dtype=np.int64)
    np.add.at(loads, owners[owners >= 0], weights[owners >= 0])
    orphans = np.flatnonzero(owners < 0)
    for bucket in orphans[np.argsort(-weights[orphans], kind="stable")]:
        lightest = np.argmin(loads)
        owners[bucket] = lightest
        loads[lightest] += weights[bucket]
    largest = weights.max(initial=0)
    while (gap := loads.max() - loads.min()) > largest:
        heaviest, lightest = np.argmax(loads), np.argmin(loads)
        held = np.flatnonzero(owners == heaviest)
        # Half the gap would even the two out at once; no bucket is as large as the whole gap.
        bucket = held[np.argmin(np.abs(2 * weights[held] - gap))]
        owners[bucket] = lightest
        loads[heaviest] -= weights[bucket]
        loads[lightest] += weights[bucket]
    return owners
