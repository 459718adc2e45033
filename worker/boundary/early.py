"""Messages of neighbours that the view does not name yet: it may reach them before us. Pure."""

from collections import deque

from ...common.delivery import Peer
from ...common.messages import Envelope
from .boundary import Host

LIMIT = 256
"""Messages that are kept; a neighbour's credit is far below it."""
VIEWS = 8
"""Views after which a sender that none of them has named is not waited for: it must have read its
place in one that was made before, and may have died before that reached us."""


class Early:
    """Keeps requests, unanswered, until their sender turns out to be a neighbour.

    A worker registers `hold` for the messages of a boundary before it has one, and hands this over
    when it makes it: a request must not be refused because the job has not come yet.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._views = 0
        self._held: deque[tuple[int, Peer, Envelope]] = deque()

    def hold(self, peer: Peer, envelope: Envelope) -> None:
        """Keep one; the oldest is refused if there are too many."""
        self._held.append((self._views, peer, envelope))
        if len(self._held) > LIMIT:
            self._refuse_oldest()

    def take(self, incarnation: int) -> list[tuple[Peer, Envelope]]:
        """Those of one sender, in the order in which they came; they are kept no longer."""
        taken = [(peer, held) for _, peer, held in self._held if held.source == incarnation]
        self._held = deque(held for held in self._held if held[2].source != incarnation)
        return taken

    def viewed(self) -> None:
        """A view has come, and its neighbours' messages have been taken."""
        self._views += 1
        while self._held and self._held[0][0] + VIEWS <= self._views:
            self._refuse_oldest()

    def _refuse_oldest(self) -> None:
        _, peer, envelope = self._held.popleft()
        self._host.refuse(peer, envelope, "stranger", "its sender is no neighbour in the view")

    def __len__(self) -> int:
        return len(self._held)
