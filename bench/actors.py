"""A simulated cluster's roles as its clock sees them: who runs, who is slow, who holds what."""

from dataclasses import dataclass, field
from typing import Any

from ..common.clock import ManualClock
from ..common.delivery import Peer
from ..common.loop import Loop
from ..common.memory import MemoryTransport
from ..common.node import Exit, Node
from ..common.wire import Frames


class SlowTransport:
    """An endpoint that hands its role one message every `pace` seconds."""

    def __init__(self, inner: MemoryTransport, clock: ManualClock, pace: float) -> None:
        self.inner, self.address = inner, inner.address
        self._clock, self._pace = clock, pace
        self._free_at = 0.0

    def receive(self, timeout: float) -> list[tuple[Peer, Frames]]:
        if not self.inner.inbox or self._clock.now() < self._free_at:
            return []
        self._free_at = self._clock.now() + self._pace
        return [self.inner.inbox.popleft()]

    def wake_at(self) -> float:
        """When the next waiting message is taken."""
        return self._free_at if self.inner.inbox else float("inf")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@dataclass
class Actor:
    """One role's process: alive until its loop ends or it is killed."""

    name: str
    node: Node
    loop: Loop
    endpoint: MemoryTransport
    killed: bool = False
    closed: bool = False

    @property
    def running(self) -> bool:
        return not self.killed and self.loop.ended is None

    @property
    def ended(self) -> Exit:
        """How it ended; fails if it did not."""
        assert self.loop.ended is not None, f"{self.name} has not ended"
        return self.loop.ended

    def wake_at(self) -> float:
        slow = self.loop.transport
        waits = slow.wake_at() if isinstance(slow, SlowTransport) else float("inf")
        return min(self.node.wake_at(), waits)


@dataclass
class Peaks:
    """The largest numbers seen at any one moment of a run."""

    open_requests: dict[str, int] = field(default_factory=dict)
    remembered: dict[str, int] = field(default_factory=dict)
    inbox: dict[str, int] = field(default_factory=dict)
    inbox_bytes: dict[str, int] = field(default_factory=dict)

    def look(self, actor: Actor) -> None:
        """Note how much this role holds right now."""
        courier = actor.node.courier
        size = sum(len(bytes(frame)) for _, frames in actor.endpoint.inbox for frame in frames)
        for table, value in (
            (self.open_requests, len(courier.open_requests())),
            (self.remembered, courier.remembered()),
            (self.inbox, len(actor.endpoint.inbox)),
            (self.inbox_bytes, size),
        ):
            table[actor.name] = max(table.get(actor.name, 0), value)
