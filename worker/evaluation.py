"""One evaluation: a snapshot of the servers' shards and the test split, gathered a few at a time.

Pure. Training goes on beside it; the snapshot is the worker's own second vector.
"""

from dataclasses import dataclass, field

from ..common.delivery import Peer
from ..common.gathering import Gathering
from ..common.messages import Envelope, Portion
from ..common.sharding import Shards
from ..common.types import Arrays


@dataclass(slots=True)
class HeldOut:
    """The test split as it comes in, portion by portion; kept for the whole run."""

    portions: list[Arrays] = field(default_factory=list)
    complete: bool = False

    def add(self, portion: Portion) -> None:
        """The next portion, in order."""
        if portion.portion == len(self.portions) and not self.complete:
            self.portions.append((portion.inputs, portion.labels))
            self.complete = portion.last


class Evaluation(Gathering):
    """The snapshot for one `Evaluate` request; `running` once it is being measured."""

    def __init__(self, peer: Peer, request: Envelope, shards: Shards) -> None:
        super().__init__(shards)
        self.peer, self.request = peer, request
        self.running = False
