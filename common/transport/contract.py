"""What every transport does, whether it is made of sockets or of memory. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..delivery import Peer
from ..types import Array, Role
from ..wire import Frame, Frames


@dataclass(frozen=True, slots=True)
class Seen:
    """What the transport itself knows of a peer, whatever its messages claim.

    `role` is that of its key, a `Role` or `permissions.OPERATOR`, and `key` its public key (Z85 of
    40 characters); both are empty on a transport without keys. `address` is the IP address that its
    connection comes from; empty where there is none (memory, sockets of the host).
    """

    role: str = ""
    key: str = ""
    address: str = ""


NOBODY = Seen()
"""Of whom nothing is known."""


class Report(Protocol):
    """Where a transport counts what it refuses, and says what people should know."""

    def count(self, counter: str, by: int = 1) -> None:
        """Add to a counter."""
        ...

    def log_rarely(self, level: str, text: str) -> None:
        """A line for the log, of which a flood shows few."""
        ...


class Unheard:
    """A report that nobody reads."""

    def count(self, counter: str, by: int = 1) -> None:
        """As `Report`."""

    def log_rarely(self, level: str, text: str) -> None:
        """As `Report`."""


class Transport(Protocol):
    """Whole messages, each delivered at most once, in order per peer while it stays connected."""

    address: str
    """Where others reach this role; empty if it only connects."""
    report: Report
    """The loop puts its role's here."""

    def send(self, peer: Peer, frames: Sequence[Frame]) -> bool:
        """Hand over a message; False if the peer is not connected or its queue is full."""
        ...

    def receive(self, timeout: float) -> list[tuple[Peer, Frames]]:
        """Messages that are there, waiting up to `timeout` seconds for the first or for `wake`."""
        ...

    def wake(self) -> None:
        """End a waiting `receive`. The one method that any thread may call."""
        ...

    def lend(self, block: Array) -> None:
        """Make known an array whose slices are sent again and again, so that sending them costs
        less. It stays in memory as long as the transport. Its slices should be few: each of them
        is remembered."""
        ...

    def shortcut(self, address: str) -> bool:
        """Reach this address past the network from now on, where both ends are on one machine.

        To be called before the first message to it: what is under way may be lost, as with any
        broken connection. The peer keeps its name. Returns whether there is such a way; asking
        again is free.
        """
        ...

    def forget(self, peer: Peer) -> None:
        """Drop the connection to an address."""
        ...

    def close(self, linger: float) -> None:
        """Close, giving queued messages up to `linger` seconds to leave."""
        ...

    def seen(self, peer: Peer) -> Seen:
        """What is known of who sent the last message under this name. Cheap: asked for each."""
        ...

    def expect(self, address: str, role: Role) -> None:
        """Whoever listens at this address must have a key of this role. As `trust`."""
        ...

    def trust(self, peer: Peer, key: str) -> None:
        """Whoever listens at this address, or speaks under this name, must be the holder of this
        public key. For an address to be called before the first message to it: with keys nothing is
        sent to others. Without keys it does nothing."""
        ...

    def trouble(self, address: str) -> str:
        """Why no connection to this address comes to stand, as far as keys are concerned, and what
        to do; empty if nothing is known."""
        ...
