"""The `Transport` contract in memory: a network of endpoints under one clock and one seed.

One random generator decides the fate of every message (deliver, drop, duplicate, delay), each
decision is counted and written to a trace, and the same seed replays the same history. Cuts are
made and healed by the test. Nothing here reads the time or starts a thread.
"""

import heapq
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .clock import ManualClock
from .delivery import Peer, routing_id
from .errors import RemoteError
from .transport.contract import NOBODY, Report, Seen, Unheard
from .types import Array, Role
from .wire import Frame, Frames, decode


@dataclass(frozen=True)
class FaultPlan:
    """Probabilities per message, and one-way delays in seconds.

    Every message takes `delay`, and up to `jitter` more, which counts as a delay. One that is
    reordered waits up to `reorder_delay` longer than its turn, so that later ones overtake it;
    without, messages between two endpoints keep their order.
    """

    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_delay: float = 0.05
    delay: float = 0.0001
    jitter: float = 0.0


@dataclass(frozen=True)
class Limit:
    """What a slow link between two endpoints does to each message, either way by itself: it takes
    its bytes divided by `bandwidth` (bytes per second) to leave, once those before it have left,
    and `delay` seconds more to arrive."""

    delay: float
    bandwidth: float


class Network:
    """Endpoints, messages in flight, and the faults between them.

    `counts` and `trace` hold every decision: `drop`, `duplicate`, `delay`, `reorder`, `cut`,
    `limit` (it went over a link with a limit), `deliver`, `nobody` (nobody has that name or
    address) and `lost` (one of the two ends was gone before it arrived). `counts["sent"]` is the
    number of messages handed in.
    """

    def __init__(self, clock: ManualClock, seed: int = 0, plan: FaultPlan | None = None) -> None:
        self.clock = clock
        self.plan = plan or FaultPlan()
        self.counts: Counter[str] = Counter()
        self.trace: list[str] = []
        self._random = np.random.default_rng(seed)
        self._endpoints: dict[bytes, MemoryTransport] = {}
        self._addresses: dict[str, bytes] = {}
        self._flights: list[tuple[float, int, bytes, bytes, Frames]] = []
        self._launched = 0
        self._order: dict[tuple[bytes, bytes], float] = {}
        self._cuts: set[frozenset[bytes]] = set()
        self._limits: dict[frozenset[bytes], Limit] = {}
        self._left: dict[tuple[bytes, bytes], float] = {}

    def transport(self, incarnation: int, address: str = "") -> "MemoryTransport":
        """A new endpoint; `address` is where others reach it."""
        endpoint = MemoryTransport(self, routing_id(incarnation), address)
        self._endpoints[endpoint.name] = endpoint
        if address:
            self._addresses[address] = endpoint.name
        return endpoint

    def cut(self, one: "MemoryTransport", other: "MemoryTransport") -> None:
        """Lose everything between two endpoints until `heal`, also what is in flight now."""
        self._cuts.add(frozenset((one.name, other.name)))

    def heal(self) -> None:
        """Undo all cuts."""
        self._cuts.clear()

    def limit(
        self, one: "MemoryTransport", other: "MemoryTransport", delay: float, bandwidth: float
    ) -> None:
        """Make a slow link of that between two endpoints, from the next message on.

        Arguments:
            delay: seconds, instead of the plan's; jitter and faults come on top.
            bandwidth: bytes per second, above 0; infinity for a link that is only far.
        """
        assert bandwidth > 0
        self._limits[frozenset((one.name, other.name))] = Limit(delay, bandwidth)

    def remove(self, endpoint: "MemoryTransport") -> None:
        """A process is gone: nothing reaches it any more."""
        self._endpoints.pop(endpoint.name, None)
        self._addresses = {a: n for a, n in self._addresses.items() if n != endpoint.name}

    def launch(self, source: "MemoryTransport", peer: Peer, frames: Sequence[Frame]) -> bool:
        """Decide one message's fate. False if nobody bears that name; an address at which nobody
        listens says nothing, as with a socket."""
        target = self._addresses.get(peer) if isinstance(peer, str) else peer
        kept: Frames = [bytes(frame) for frame in frames]
        self.counts["sent"] += 1
        if target is None or target not in self._endpoints:
            self._decide("nobody", source.name, target or b"\x01", kept)
            return isinstance(peer, str)
        if self._is_cut(source.name, target):
            self._decide("cut", source.name, target, kept)
            return True
        if self._random.random() < self.plan.drop:
            self._decide("drop", source.name, target, kept)
            return True
        copies = 1
        if self._random.random() < self.plan.duplicate:
            self._decide("duplicate", source.name, target, kept)
            copies = 2
        for _ in range(copies):
            self._fly(source.name, target, kept)
        return True

    def _fly(self, source: bytes, target: bytes, frames: Frames) -> None:
        """Schedule one copy."""
        late = self.plan.jitter * self._random.random()
        if late > 0:
            self._decide("delay", source, target, frames)
        moment = self._arrival(source, target, frames) + late
        moment = max(moment, self._order.get((source, target), 0.0))
        if self._random.random() < self.plan.reorder:
            moment += self.plan.reorder_delay * self._random.random()
            self._decide("reorder", source, target, frames)
        else:
            self._order[source, target] = moment
        self._launched += 1
        heapq.heappush(self._flights, (moment, self._launched, source, target, frames))

    def _arrival(self, source: bytes, target: bytes, frames: Frames) -> float:
        """When a message that is sent now arrives, without jitter and faults."""
        limit = self._limits.get(frozenset((source, target)))
        if limit is None:
            return self.clock.now() + self.plan.delay
        self._decide("limit", source, target, frames)
        begins = max(self.clock.now(), self._left.get((source, target), 0.0))
        size = sum(len(frame) for frame in frames)
        left = self._left[source, target] = begins + size / limit.bandwidth
        return left + limit.delay

    def _is_cut(self, one: bytes, other: bytes) -> bool:
        return frozenset((one, other)) in self._cuts

    def _decide(self, fate: str, source: bytes, target: bytes, frames: Frames) -> None:
        self.counts[fate] += 1
        self._note(fate, source, target, frames)

    def _note(self, fate: str, source: bytes, target: bytes, frames: Frames) -> None:
        try:
            envelope = decode(frames)
            what = f"{type(envelope.message).__name__} {envelope.form.name} {envelope.sequence}"
        except RemoteError:
            what = "no message"
        self.trace.append(
            f"{self.clock.now():.6f} {fate} {source[1:].hex()} -> {target[1:].hex()} {what}"
        )

    def next_delivery(self) -> float:
        """The moment of the next arrival, infinity if nothing is in flight."""
        return self._flights[0][0] if self._flights else float("inf")

    def deliver(self) -> int:
        """Put all that has arrived by now into the inboxes; returns how many."""
        delivered = 0
        while self._flights and self._flights[0][0] <= self.clock.now():
            _, _, source, target, frames = heapq.heappop(self._flights)
            endpoint = self._endpoints.get(target)
            if endpoint is None or source not in self._endpoints:
                self._decide("lost", source, target, frames)
                continue
            if self._is_cut(source, target):
                self._decide("cut", source, target, frames)
                continue
            self._decide("deliver", source, target, frames)
            endpoint.inbox.append((endpoint.name_of(self._endpoints[source]), frames))
            delivered += 1
        return delivered


class MemoryTransport:
    """One endpoint of a `Network`."""

    def __init__(self, network: Network, name: bytes, address: str) -> None:
        self.name, self.address = name, address
        self.inbox: deque[tuple[Peer, Frames]] = deque()
        self._network = network
        self._connected: set[str] = set()
        self.others: dict[Peer, Seen] = {}
        """What is known of peers: for tests to say."""
        self.trusted: dict[Peer, str] = {}
        """What `trust` was told."""
        self.report: Report = Unheard()

    def name_of(self, source: "MemoryTransport") -> Peer:
        """As ZeroMQ would say: the address if we connected to it, else its routing id."""
        return source.address if source.address in self._connected else source.name

    def send(self, peer: Peer, frames: Sequence[Frame]) -> bool:
        if isinstance(peer, str):
            self._connected.add(peer)
        return self._network.launch(self, peer, frames)

    def receive(self, timeout: float) -> list[tuple[Peer, Frames]]:
        messages = list(self.inbox)
        self.inbox.clear()
        return messages

    def wake(self) -> None:
        pass

    def lend(self, block: Array) -> None:
        pass

    def shortcut(self, address: str) -> bool:
        return False

    def seen(self, peer: Peer) -> Seen:
        return self.others.get(peer, NOBODY)

    def expect(self, address: str, role: Role) -> None:
        pass

    def trust(self, peer: Peer, key: str) -> None:
        self.trusted[peer] = key

    def trouble(self, address: str) -> str:
        return ""

    def forget(self, peer: Peer) -> None:
        if isinstance(peer, str):
            self._connected.discard(peer)

    def close(self, linger: float) -> None:
        self._network.remove(self)
