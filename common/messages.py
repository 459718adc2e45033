"""Every message that crosses a socket. Plain frozen data: no behaviour, no socket, no clock.

A message travels in an `Envelope`. Requests are answered by exactly one reply with the same
sequence number; notices are not answered. Which message answers which stands in each docstring.
Field types are limited to what `wire` can check: int, float, bool, str, bytes, dict, list, and
NumPy arrays, which travel as raw frames.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from .types import Array, Float32

PROTOCOL = 3
"""Raised whenever a header or a message changes its meaning. `Join` and `Refused` never change."""


class Form(IntEnum):
    """What an envelope is: a notice wants no answer."""

    NOTICE = 0
    REQUEST = 1
    REPLY = 2


@dataclass(frozen=True, slots=True)
class Message:
    """The root of all messages."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message and what delivery needs to know.

    `source` is the sender's incarnation (a random 63-bit number, new for each life of a role);
    `sequence` counts requests per sender and receiver from 1; every request below `floor` has
    been answered, so that the receiver may forget it.
    """

    source: int
    form: Form
    sequence: int
    floor: int
    message: Message
    protocol: int = PROTOCOL


# Joining and membership: any role and the controller.


@dataclass(frozen=True, slots=True)
class Join(Message):
    """Request to the controller; answered by `Welcome` or `Refused`. `rank` -1: any free one."""

    role: str
    rank: int
    address: str
    host: str
    pid: int
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Welcome(Message):
    """The role's rank, the whole job (sections of plain values), and the lease in seconds."""

    rank: int
    job: dict[str, Any]
    lease: float


@dataclass(frozen=True, slots=True)
class Refused(Message):
    """A request that can never succeed. `code` is one word for programs, `detail` for people."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Ack(Message):
    """Done, nothing to tell."""


@dataclass(frozen=True, slots=True)
class Heartbeat(Message):
    """Request to the controller: renews the lease. Answered by `Ack`, `View` if `view` is old."""

    view: int
    state: str
    counters: dict[str, float]


@dataclass(frozen=True, slots=True)
class View(Message):
    """All that the controller decides, numbered: notice at every change, and reply to a heartbeat.

    `members` rows are (role, rank, incarnation, address, host, pid); `owners` is the bucket table,
    one little-endian uint16 server rank a bucket; `data` and `layout` are empty until known.
    """

    number: int
    phase: str
    epoch: int
    active: int
    members: list[list[Any]]
    table_epoch: int
    owners: bytes
    data: dict[str, Any]
    layout: list[list[Any]]
    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Leave(Message):
    """Request to the controller: the sender ends with exit `status`; answered by `Ack`."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Obituary(Message):
    """Notice of a launcher: process `pid` on `host` is dead; its lease need not run out."""

    host: str
    pid: int
    status: int


@dataclass(frozen=True, slots=True)
class DataFacts(Message):
    """Request, data server to controller, once its data is open; answered by `Ack`.

    Workers subtract `mean` from the inputs, scaled to [0, 1], and divide by `std`, by channel;
    empty: neither. With `soft` the labels of training portions are rows of probabilities.
    """

    samples: int
    test_samples: int
    classes: int
    sample_shape: list[int]
    portions: int
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    soft: bool = False


@dataclass(frozen=True, slots=True)
class Describe(Message):
    """Request, worker to controller, once its model is built; answered by `Ack` or `Refused`.

    `layout` rows are (name, decays, averaged, dimension, dimension, ...).
    `line` says what the worker computes on, in words, where there is something to say.
    """

    layout: list[list[Any]]
    line: str = ""


@dataclass(frozen=True, slots=True)
class Ready(Message):
    """Request, parameter server to controller: all shards of the table are initialised; `Ack`."""

    table_epoch: int


# Shards: worker (or controller, for the final model) and parameter server.


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
    `size` float32 elements: the parameter vector, then one gradient a lane.
    """

    place: str
    pid: int
    descriptor: int
    rows: int
    size: int


@dataclass(frozen=True, slots=True)
class Pull(Message):
    """Request for a shard's values in an encoding (`f32`); answered by `Shard`, `WrongOwner` or
    `Refused`.

    With `lane` >= 0 it says that this lane of the sender has rested and now takes part in `epoch`
    again: others wait for its push.
    """

    table_epoch: int
    shard: int
    encoding: str = "f32"
    lane: int = -1
    epoch: int = -1


@dataclass(frozen=True, slots=True)
class Push(Message):
    """Request: what one lane of a worker has to say about some shards, the mean of `count`
    minibatches: gradients, or in mode `local` the way the parameters went, or in `easgd` the
    worker's parameters themselves.

    `versions` are the shards' versions at the sender's last pull, one for each of `shards`;
    `epoch` is the pass over the data that the minibatches belong to, and `pace` the sender's
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
    epoch: int
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
    """Request, worker to server: this lane has nothing left to do in `epoch`; nobody is to wait
    for it until it pushes again or the next epoch begins. Answered by `Ack`."""

    epoch: int
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


# Checkpoints: controller and parameter server.


@dataclass(frozen=True, slots=True)
class Snapshot(Message):
    """Request, controller to parameter server: save all shards as they are now, in a file in
    `directory`, for checkpoint `number`. Answered by `Ack` at once; `Written` follows."""

    number: int
    directory: str


@dataclass(frozen=True, slots=True)
class Written(Message):
    """Request, parameter server to controller: its file of checkpoint `number` is on disk; `Ack`.

    `size` in bytes, `checksum` the SHA-256 in hexadecimal, `shards` rows of (shard, version,
    minibatches, steps of the rule). With a `problem` there is no file, and this says why.
    """

    number: int
    file: str
    size: int
    checksum: str
    shards: list[list[int]]
    problem: str


# Data: worker and data server; controller and data server.


@dataclass(frozen=True, slots=True)
class Serve(Message):
    """Request, controller to data server: these portions of `epoch` are yours; `Ack`."""

    epoch: int
    portions: list[int]


@dataclass(frozen=True, slots=True)
class Progress(Message):
    """Request, data server to controller: how its share of `epoch` stands; answered by `Ack`.

    `done` are the portions finished since the last acknowledged report, with the sums of their
    `measures` (see `Done`); `busy` are the incarnations of the workers that hold a portion,
    `left` the number of portions not handed out, of the `given` ones that it has been told to
    serve; `reissued` are those handed out once more.
    """

    epoch: int
    given: int
    left: int
    busy: list[int]
    done: list[int]
    reissued: int
    measures: dict[str, float]


@dataclass(frozen=True, slots=True)
class Shelf(Message):
    """Request, worker to data server: memory to write portions to; `Ack`, or `Refused` on another
    host. The segment is open as `descriptor` in process `pid` of `place`, and holds `slots` slots
    of `size` bytes each, a multiple of 4.
    """

    place: str
    pid: int
    descriptor: int
    slots: int
    size: int


@dataclass(frozen=True, slots=True)
class Fetch(Message):
    """Request, worker to data server: one credit, for one portion of the training split.

    Answered by `Portion`, perhaps much later; or by `Shelved`, where `slot` >= 0 names a slot of
    the sender's shelf, which nobody else may write to from now until it is named again. `drained`
    is the newest epoch of which the sender knows that nothing is left there (-1: of none). With
    `test` it asks for portion `portion` of the test split instead, answered at once; `last` marks
    the final one.
    """

    test: bool
    portion: int
    drained: int = -1
    slot: int = -1


@dataclass(frozen=True, slots=True)
class Portion(Message):
    """Consecutive minibatches: inputs (n, ...) uint8 or float32, and labels, (n,) int64 or soft
    ones (n, classes) float32, in the epoch's order. Portion -1 holds none: this server has nothing
    left for the worker in this epoch."""

    epoch: int
    portion: int
    last: bool
    inputs: Array
    labels: Array


@dataclass(frozen=True, slots=True)
class Shelved(Message):
    """A `Portion` whose inputs, of `dtype` (as NumPy writes it) and `shape`, lie in the slot that
    was named."""

    epoch: int
    portion: int
    last: bool
    slot: int
    dtype: str
    shape: list[int]
    labels: Array


@dataclass(frozen=True, slots=True)
class Done(Message):
    """Request, worker to data server: each gradient of the portion has been applied; `Ack`.

    `measures` are sums over the portion: `samples`, `steps`, `loss` and `accuracy` (of samples),
    `pushes`, `staleness` (of pushes), `stale.N` (pushes by staleness, see `types.stale_class`),
    `late` (pushes that came too late), `bytes_pushed`, `bytes_pulled`, `wait` (seconds without
    data) and `wait_between` (those of them between two epochs), and `model.NAME` for whatever else
    the model measures (of samples).
    """

    epoch: int
    portion: int
    measures: dict[str, float]


# Evaluation and control: controller, workers, operators.


@dataclass(frozen=True, slots=True)
class Evaluate(Message):
    """Request, controller to worker: measure the servers' parameters on the test split.

    Answered by `Evaluated`, when it is done.
    """

    number: int


@dataclass(frozen=True, slots=True)
class Evaluated(Message):
    """Reply: means over `samples` test samples."""

    number: int
    samples: int
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class AskStatus(Message):
    """Request of an operator; answered by `Status`."""


@dataclass(frozen=True, slots=True)
class Status(Message):
    """What `dualshard status` shows: plain values only."""

    report: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stop(Message):
    """Request of an operator: end the job; answered by `Ack`."""

    status: int
    reason: str


NOTICES = (View, Obituary)
ANSWERS: dict[type[Message], tuple[type[Message], ...]] = {
    Join: (Welcome,),
    Heartbeat: (Ack, View),
    Leave: (Ack,),
    DataFacts: (Ack,),
    Describe: (Ack,),
    Ready: (Ack,),
    Start: (Ack, WrongOwner),
    Attach: (Ack, WrongOwner),
    Pull: (Shard, WrongOwner),
    Push: (Shard, Pushed, WrongOwner),
    Snapshot: (Ack,),
    Written: (Ack,),
    Rest: (Ack,),
    Accuse: (Ack,),
    Serve: (Ack,),
    Progress: (Ack,),
    Shelf: (Ack,),
    Fetch: (Portion, Shelved),
    Done: (Ack,),
    Evaluate: (Evaluated,),
    AskStatus: (Status,),
    Stop: (Ack,),
}
"""Every request, and what may answer it; `Refused` may answer any."""
