"""Joining, membership and the view: any role and the controller. Pure."""

from dataclasses import dataclass, field
from typing import Any

from .envelope import Message


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

    `members` rows are (role, rank, incarnation, address, host, pid, public key); `owners` is the
    bucket table, one little-endian uint16 server rank a bucket; `data` and `layout` are empty until
    known;
    `starts` as in `Describe`.
    """

    number: int
    phase: str
    leg: int
    active: int
    members: list[list[Any]]
    table_epoch: int
    owners: bytes
    data: dict[str, Any]
    layout: list[list[Any]]
    status: int
    reason: str
    starts: list[int] = field(default_factory=list)


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
class Describe(Message):
    """Request, worker to controller, once its model is built; answered by `Ack` or `Refused`.

    `layout` rows are (name, decays, averaged, dimension, dimension, ...).
    `line` says what the worker computes on, in words, where there is something to say. `starts` are
    the elements at which the parts of a cut net begin, the first of them 0; empty if it is whole.
    """

    layout: list[list[Any]]
    line: str = ""
    starts: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ready(Message):
    """Request, parameter server to controller: all shards of the table are initialised; `Ack`."""

    table_epoch: int
