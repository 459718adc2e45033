"""A worker that holds a part of a cut net: between its data, its neighbours and the servers. Pure.

What passes between the parts, and when, is the business of `boundary`; here stands what it needs of
the worker: who the neighbours are, portions for the bottom part, what data servers know of samples
for the parts above, and the servers' share of what is learnt. One action is computed at a time, and
none while shards are exchanged.

A portion counts as done when all parts have pushed what they learnt of it: before the bottom part
tells the data servers, it asks the one above to settle, and that one the next (`Settle`).
"""

from collections import Counter
from dataclasses import dataclass

from ..common.delivery import Courier, Peer
from ..common.messages import (
    AskSamples,
    Envelope,
    Settle,
)
from .batches import Minibatch
from .boundary.boundary import Boundary
from .retiring import Retiring

NEIGHBOURS_PUSH = 2
"""Parts above the bottom push when they are asked to settle, or when they have made so many times
the steps of a push without being asked."""


@dataclass(frozen=True, slots=True)
class Part:
    """Action: compute one of the actions of `boundary.events`, at the rate of `progress` (how much
    of the job is done, 0 to 1), then post its event."""

    action: object
    progress: float


@dataclass(slots=True)
class _Settling:
    """A neighbour below waits for `Settled`; what is missing until then."""

    peer: Peer
    envelope: Envelope
    learning: bool = True
    pushing: bool = True
    above: bool = True


class Parting(Retiring):
    """A worker's part of a cut net; without a cut nothing of this happens."""

    def __init__(self, courier: Courier, **session: object) -> None:
        super().__init__(courier, **session)
        self.boundary: Boundary | None = None
        self._began_at = -1.0  # when the action under way began; below 0: none is
        self._aside: Counter[str] = Counter()  # measures of a part that has no leases
        self._pushed: list[Minibatch] = []  # on the servers, and parts above are asked to settle
        self._asked_above = False
        self._settling: list[_Settling] = []
        self.requests[Settle] = self._on_settle
        self.replies |= {AskSamples: self._on_samples, Settle: self._on_settled}
