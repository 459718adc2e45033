"""Shards: worker (or controller, for the final model) and parameter server. Pure."""

from dataclasses import dataclass

from ..types import Array, Float32
from .envelope import Message


@dataclass(frozen=True, slots=True)
class Start(Message):
    """Request: the first values of a shard, float32 (n,); the first one counts.

    Answered by `Ack`, `WrongOwner` or `Refused`.
    """

    table_epoch: int
    shard: int
    values: Float32


@dataclass(frozen=True, slots=True)
class Attach(Message):
    """Request, worker to server: share memory. Answered by `Ack`, `Refused` on another host, or
    `WrongOwner` by a server that does not know the layout yet.

    The segment is open as `descriptor` in process `pid` of `place`, and holds `rows` rows of
    `size` float32 elements: the parameter vector, then one gradient a lane. Of a cut net they are
    those of the sender's part, from element `begin` on of the whole net's.
    """

    place: str
    pid: int
    descriptor: int
    rows: int
    size: int
    begin: int = 0


@dataclass(frozen=True, slots=True)
class Pull(Message):
    """Request for a shard's values in an encoding (`f32`); answered by `Shard`, `WrongOwner` or
    `Refused`.

    With `lane` >= 0 it says that this lane of the sender has rested and now takes part in `leg`
    again: others wait for its push.
    """

    table_epoch: int
    shard: int
    encoding: str = "f32"
    lane: int = -1
    leg: int = -1


@dataclass(frozen=True, slots=True)
class Push(Message):
    """Request: what one lane of a worker has to say about some shards, the mean of `count`
    minibatches: gradients, or in mode `local` the way the parameters went, or in `easgd` the
    worker's parameters themselves.

    `versions` are the shards' versions at the sender's last pull, one for each of `shards`;
    `leg` is the stretch of training that the minibatches belong to, and `pace` the sender's
    seconds per minibatch (0: unknown). With `fetch` (the encoding wanted, `f32`; empty: nothing)
    fresh values come back. Repeats are never applied again.

    With `shared` nothing but this header travels, for any number of shards: the gradient lies in
    the row of `lane` of the segment that was attached (see `Attach`), fresh shards are written
    into its parameter row, and the reply is `Pushed`. Else there is one shard, `gradient` and
    `extra` hold it as `encoding` says (see `codecs`), and a `Shard` comes back where values were
    asked for. Where it is compressed, `averaged` holds the elements of averaged state in the shard,
    in their order, float32 as they are. The reply waits until the mode lets the sender go on.
    `WrongOwner` answers both.
    """

    table_epoch: int
    shards: list[int]
    versions: list[int]
    leg: int
    lane: int
    count: int
    pace: float
    shared: bool
    fetch: str
    encoding: str
    pieces: list[list[int]]
    gradient: Array
    extra: Array
    averaged: Float32


@dataclass(frozen=True, slots=True)
class Rest(Message):
    """Request, worker to server: this lane has nothing left to do in `leg`; nobody is to wait
    for it until it pushes again or the next leg begins. Answered by `Ack`."""

    leg: int
    lane: int


@dataclass(frozen=True, slots=True)
class Shard(Message):
    """A shard's values (n,) as `encoding` says, after `version` updates made of `minibatches`.

    In answer to a push: its `staleness`, whether it came too `late` and was dropped, and how many
    `steps` the sender is advised to make before the next one (0: as it likes).
    """

    shard: int
    version: int
    minibatches: int
    staleness: int
    late: bool
    steps: int
    encoding: str
    values: Array


@dataclass(frozen=True, slots=True)
class Pushed(Message):
    """A push without values in the reply: for each shard its version and the staleness of the
    push (-1: it came too late and was dropped); otherwise as `Shard`."""

    shards: list[int]
    versions: list[int]
    staleness: list[int]
    minibatches: int
    steps: int


@dataclass(frozen=True, slots=True)
class Accuse(Message):
    """Request, server to controller: `count` pushes in a row of this worker held NaN or infinity,
    and the job says that something must follow. Answered by `Ack`."""

    incarnation: int
    count: int


@dataclass(frozen=True, slots=True)
class WrongOwner(Message):
    """The bucket lies elsewhere: the sender's table is older than `table_epoch` (or newer)."""

    table_epoch: int
