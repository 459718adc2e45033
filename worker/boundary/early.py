"""Messages of neighbours that the view does not name yet: it may reach them before us. Pure."""

from collections import deque

from ...common.delivery import Peer
from ...common.messages import Envelope
from .boundary import Host

LIMIT = 256
"""Messages that are kept; a neighbour's credit is far below it."""


class Early:
    """Keeps requests, unanswered, until their sender turns out to be a neighbour.

    A worker registers `hold` for the messages of a boundary before it has one, and hands this over
    when it makes it: a request must not be refused because the job has not come yet.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._held: deque[tuple[Peer, Envelope]] = deque()

    def hold(self, peer: Peer, envelope: Envelope) -> None:
        """Keep one; the oldest is refused if there are too many."""
        self._held.append((peer, envelope))
        if len(self._held) > LIMIT:
            old_peer, old = self._held.popleft()
            self._host.refuse(old_peer, old, "stranger", "its sender is no neighbour in the view")

    def take(self, incarnation: int) -> list[tuple[Peer, Envelope]]:
        """Those of one sender, in the order in which they came; they are kept no longer."""
        taken = [held for held in self._held if held[1].source == incarnation]
        self._held = deque(held for held in self._held if held[1].source != incarnation)
        return taken

    def __len__(self) -> int:
        return len(self._held)
