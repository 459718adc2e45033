"""Finding the server of a shard, and asking again when it was the wrong one. Pure.

The base of a worker's state: whatever is asked about a shard goes to the server that the newest
table names. A server that says `WrongOwner`, or that is gone, is asked for again after a pause.
Servers of the same host are offered the worker's memory (see `common.segment`).
"""

from collections import Counter, deque
from dataclasses import replace
from typing import Any

from ..common import modes
from ..common.delivery import Courier, Open
from ..common.job import Job
from ..common.messages import Attach, Message, Pull, Push, Refused, Start, WrongOwner
from ..common.node import NEVER, NoShortcut, Shortcut
from ..common.session import REACH_FIX, Session
from ..common.types import Member, Role
from .exchange import Replica, is_loopback, owner_address

NO_SHARING = (
    "train.transport = shm: expected memory shared with {}; {}: start them on one host as one "
    "user, or set train.transport=auto"
)
NO_IPC = (
    "train.transport = ipc: expected servers on this machine; there is no way to {} but the "
    "network: start them with --bind 127.0.0.1:0, or set train.transport=auto"
)
REROUTE_PAUSE = 0.05
"""Seconds before a shard is asked for again whose owner was not the one that the table names."""


class ShardClient(Session):
    """Asks servers about shards on behalf of a worker.

    `replica` and `job` are set by the worker once they are known.
    """

    role = Role.WORKER

    def __init__(self, courier: Courier, **session: object) -> None:
        super().__init__(courier, **session)  # type: ignore[arg-type]
        self.counters: Counter[str] = Counter()
        self.replica: Replica | None = None
        self.job: Job | None = None
        self.attaching: set[str] = set()
        self._attached: dict[str, bool] = {}
        self._later: deque[tuple[float, Message, Any]] = deque()
        self.replies[Attach] = self._on_attached

    # What the worker fills in.

    def go_on(self) -> None:
        """Do whatever can be done now."""

    # Shards and their owners.

    def ask_owner(self, message: Start | Pull | Push, tag: Any) -> None:
        """Send a request about a shard to the server that owns it; a push of several, to the
        owner of all of them."""
        assert self.job is not None
        address = self.owner(message.shards[0] if isinstance(message, Push) else message.shard)
        if address:
            # The answer to a push may have to wait for any other worker.
            waits = isinstance(message, Push) and modes.waits(self.job)
            patience = NEVER if waits else self.job.job.start_timeout
            self.ask(address, message, tag, patience=patience)
        else:
            self._later.append((self.now + REROUTE_PAUSE, message, tag))

    def owner(self, shard: int) -> str:
        """The address of the server that owns a shard now, empty if it is gone."""
        assert self.replica is not None
        servers = self.cluster.of_role(Role.PARAMSERVER)
        return owner_address(shard, self.replica.shards, self.cluster.table, servers)

    def wrong_owner(self, request: Open, reply: Message) -> bool:
        """Whether the server was the wrong one; the request is then made again after a pause."""
        if isinstance(reply, WrongOwner):
            self._ask_later(request)
        return isinstance(reply, WrongOwner)

    def _ask_later(self, request: Open) -> None:
        self.counters["rerouted"] += 1
        self._later.append((self.now + REROUTE_PAUSE, request.message, request.tag))

    def ticked(self) -> None:
        super().ticked()
        while self._later and self._later[0][0] <= self.now:
            _, message, tag = self._later.popleft()
            if isinstance(message, Attach):
                self.attaching.discard(tag)
                self.share_memory(message)
            else:
                assert isinstance(message, Start | Pull | Push)
                for part in _parts(replace(message, table_epoch=self.cluster.table.epoch)):
                    self.ask_owner(part, tag)

    def wake_at(self) -> float:
        return min(super().wake_at(), self._later[0][0] if self._later else float("inf"))

    def expired(self, request: Open) -> None:
        message = request.message
        if isinstance(message, Start | Pull | Push | Attach):
            about, address = _about(message), str(request.peer)
            why = self.out_of_reach.get(address, "")
            self.fail(
                1,
                f"worker-{self.rank} on {self.host}: no answer from {self.name_of(address)} at "
                f"{_shown(request)} to {type(message).__name__}{about} for "
                f"{self.now - request.asked_at:.0f} s ({request.tries} tries)"
                + (f": {why}; {REACH_FIX}" if why else ""),
            )
        else:
            super().expired(request)

    def lost(self, member: Member, request: Open) -> None:
        if isinstance(request.message, Start | Pull | Push):
            self._ask_later(request)
        elif isinstance(request.message, Attach):
            self.attaching.discard(member.address)

    def far(self, address: str) -> bool:
        """Whether bytes to the server there are worth its work: it is on another machine."""
        assert self.job is not None
        return self.job.train.factors == "always" or not is_loopback(address)

    # Memory shared with servers of this host.

    def shares_memory(self, address: str) -> bool:
        """Whether the server there reads gradients from this worker's segment."""
        return self._attached.get(address, False)

    def share_memory(self, segment: Attach | None) -> None:
        """Take the shortest way to each server: offer the segment to those of this host, which may
        refuse, and reach those of this machine past the network."""
        assert self.job is not None
        wanted = self.job.train.transport
        for member in self.cluster.of_role(Role.PARAMSERVER):
            if member.address in self._attached or member.address in self.attaching:
                continue
            if wanted != "tcp":
                self.do(Shortcut(member.address))
            if segment is not None and wanted in ("auto", "shm") and member.host == self.host:
                self.attaching.add(member.address)
                patience = self.job.job.start_timeout
                self.ask(member.address, segment, member.address, patience)
            elif wanted == "shm":
                self.fail(2, NO_SHARING.format(member.name, "it runs on another host"))
            else:
                self._attached[member.address] = False

    def no_shortcut(self, event: NoShortcut) -> None:
        """A server is reached through the network after all."""
        assert self.job is not None
        if self.job.train.transport == "ipc":
            self.fail(2, NO_IPC.format(event.address.removeprefix("tcp://")))

    def _on_attached(self, request: Open, reply: Message) -> None:
        if not self.wrong_owner(request, reply):
            self._settle_sharing(request, shared=True)

    def _settle_sharing(self, request: Open, *, shared: bool) -> None:
        assert isinstance(request.peer, str)
        self.attaching.discard(request.peer)
        self._attached[request.peer] = shared
        self.go_on()

    def refused(self, request: Open, reply: Refused) -> None:
        if not isinstance(request.message, Attach):
            super().refused(request, reply)
            return
        assert self.job is not None
        if self.job.train.transport == "shm":
            self.fail(2, NO_SHARING.format(_shown(request), reply.detail))
        self.note("info", f"no shared memory with {_shown(request)}: {reply.detail}")
        self._settle_sharing(request, shared=False)


def _parts(message: Start | Pull | Push) -> list[Start | Pull | Push]:
    """A push of several shards as one of each: their owners may differ by now."""
    if not isinstance(message, Push) or len(message.shards) == 1:
        return [message]
    return [
        replace(message, shards=[shard], versions=[version])
        for shard, version in zip(message.shards, message.versions, strict=True)
    ]


def _about(message: Start | Pull | Push | Attach) -> str:
    if isinstance(message, Attach):
        return ""
    shard = message.shards[0] if isinstance(message, Push) else message.shard
    return f" of shard {shard}"


def _shown(request: Open) -> str:
    return str(request.peer).removeprefix("tcp://")
