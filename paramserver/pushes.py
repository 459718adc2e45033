"""Pushes on their way through a server: who waits for which shards, and what is in them. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ..common.codecs import CODECS, PULLED, decode, encode_values
from ..common.delivery import Peer
from ..common.factors import unpack
from ..common.messages import Attach, Envelope, Push
from ..common.rates import Segments, averaged_in
from ..common.types import Array, Float32
from .consistency import Who
from .store import BadPush


class Lanes(Protocol):
    """Memory shared with workers of this host; `sharing` has the real one."""

    def attach(self, source: int, wanted: Attach) -> None:
        """Map a worker's segment. Raises `RemoteError` where that cannot be."""

    def gradient(self, source: int, lane: int, begin: int, end: int) -> Float32 | None:
        """A shard of a lane's gradient; None if there is no such lane."""

    def parameters(self, source: int, begin: int, end: int) -> Float32 | None:
        """Where a worker wants fresh values of a shard; None if it shares no memory."""

    def keep_only(self, present: set[int]) -> None:
        """Forget the segments of workers that are gone."""


@dataclass(slots=True)
class Ticket:
    """A push that was taken and not answered yet: `left` are the shards whose clocks have not let
    its sender go on; `versions` are those of the others when they did. `staleness` is that of each
    shard, -1 for late; `values` are those to be sent where they are not the shard's own, and those
    `delivered` are in shared memory. A `bad` push is
    counted, so that nobody waits for it, and refused when its sender may go on."""

    peer: Peer
    envelope: Envelope
    push: Push
    who: Who
    left: set[int]
    bad: BadPush | None = None
    spoilt: list[int] = field(default_factory=list)
    staleness: dict[int, int] = field(default_factory=dict)
    versions: dict[int, int] = field(default_factory=dict)
    values: dict[int, Float32] = field(default_factory=dict)
    delivered: set[int] = field(default_factory=set)


class Tickets:
    """The open tickets, by participant and shard."""

    def __init__(self) -> None:
        self._open: dict[tuple[Who, int], Ticket] = {}

    def add(self, ticket: Ticket) -> None:
        """A push was taken."""
        for shard in ticket.push.shards:
            self._open[ticket.who, shard] = ticket

    def release(self, who: Who, shard: int) -> Ticket | None:
        """A shard has let a participant go on: its ticket."""
        ticket = self._open.pop((who, shard), None)
        if ticket is not None:
            ticket.left.discard(shard)
        return ticket

    def forget(self, who: Who) -> None:
        """A participant is gone: nobody waits for these answers."""
        self._open = {key: ticket for key, ticket in self._open.items() if key[0] != who}

    def holds(self, envelope: Envelope) -> bool:
        """Whether this very request waits for its answer."""
        return any(
            ticket.envelope.source == envelope.source
            and ticket.envelope.sequence == envelope.sequence
            for ticket in self._open.values()
        )


def decoded(push: Push, size: int, segments: Segments = ()) -> Float32:
    """The float32 (size,) that a push of one shard carries; a view where nothing was encoded.

    Arguments:
        segments: of the shard; the averaged elements travel beside what is compressed.
    Raises:
        BadPush: it is not what its encoding says.
    """
    if push.encoding == "f32":
        if push.gradient.dtype.str != "<f4":
            found = push.gradient.dtype
            raise BadPush("dtype", f"shard {push.shards[0]} takes float32, not {found}")
        return push.gradient
    out = np.empty(size, np.float32)
    try:
        if push.encoding == "factors":
            unpack(push.pieces, push.gradient, out)
        else:
            decode(push.encoding, push.gradient, push.extra, out)
            _put_back(push.averaged, averaged_in(segments), out)
    except ValueError as broken:
        where = f"shard {push.shards[0]} as {push.encoding}"
        raise BadPush("encoding", f"{where}: {broken}") from None
    return out


def _put_back(averaged: Float32, spans: Sequence[slice], out: Float32) -> None:
    """Averaged elements to their places. Raises ValueError where these are not so many."""
    expected = sum(span.stop - span.start for span in spans)
    if averaged.dtype != np.float32 or averaged.shape != (expected,):
        found = f"{averaged.dtype} {averaged.shape}"
        raise ValueError(f"averaged elements are {found}, expected float32 ({expected},)")
    for span in spans:
        length = span.stop - span.start
        out[span], averaged = averaged[:length], averaged[length:]


def check_values(encoding: str) -> None:
    """Raises `BadPush` where values cannot be sent in this encoding."""
    if encoding not in PULLED:
        expected = ", ".join(PULLED)
        raise BadPush("encoding", f"values go as {expected}, not as {encoding[:20]!r}")


def encoded(encoding: str, values: Float32) -> Array:
    """Values as they travel, always a copy: a live view could tear under the next push.

    Raises:
        BadPush: there is no such encoding.
    """
    check_values(encoding)
    if encoding == "f32":
        return values.copy()
    return encode_values(encoding, values, CODECS[encoding].buffers(values.size))


class Suspects:
    """How many pushes of each worker in a row held NaN or infinity, shard by shard: a gradient is
    one push of each, and may be sound in all but one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._in_a_row: Counter[tuple[int, int]] = Counter()

    def cleared(self, source: int, shards: Sequence[int]) -> None:
        """A push of this worker (incarnation) was sound."""
        for shard in shards if self._in_a_row else ():
            self._in_a_row.pop((source, shard), None)

    def accused(self, source: int, shards: Sequence[int]) -> bool:
        """One more was not; whether that makes as many as the job allows."""
        self._in_a_row.update((source, shard) for shard in shards)
        return any(self._in_a_row[source, shard] == self._limit for shard in shards)
