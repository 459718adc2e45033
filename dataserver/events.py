"""What the data server's state asks of its process, and what it hears back; and the open requests
that it keeps. Plain data. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..common.delivery import Peer
from ..common.messages import DataFacts, Envelope
from ..common.types import Array, Arrays

NO_LABELS: Array = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Prepare:
    """Action: read and augment a portion, then post `Prepared`. `test`: of the test split.

    Portions of a leg of training are counted from position `begin` of the order of `epoch`;
    `minibatches` are the ones that are left of a portion, empty: all.
    """

    test: bool
    leg: int
    portion: int
    epoch: int = 0
    begin: int = 0
    minibatches: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """Local event: a portion's arrays; `last` if it is the final one of the test split.

    `begin` is where it begins in the epoch's order; `minibatches` are those that it holds of the
    ones that were wanted, empty: all.
    """

    wanted: Prepare
    last: bool
    arrays: Arrays
    begin: int = 0
    minibatches: tuple[int, ...] = ()
    skipped: list[str] = field(default_factory=list)
    """Damaged samples that were left out, each named once."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What the cache has counted until now."""


@dataclass(frozen=True, slots=True)
class LookUp:
    """Action: find which samples make the portion from position `begin` of the order of `epoch`,
    and their labels if wanted, then post `LookedUp`."""

    epoch: int
    begin: int
    labels: bool


@dataclass(frozen=True, slots=True)
class LookedUp:
    """Local event: the numbers of a portion's samples (n,) int64, and their labels; `skipped` and
    `counts` as in `Prepared`."""

    wanted: LookUp
    indices: Array
    labels: Array
    skipped: list[str] = field(default_factory=list)
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Opened:
    """Local event: the data is open."""

    facts: DataFacts


@dataclass(slots=True)
class Credit:
    """An open `Fetch` or `AskSamples`."""

    peer: Peer
    envelope: Envelope

    @property
    def key(self) -> tuple[int, int]:
        """Who asked, and its sequence number."""
        return self.envelope.source, self.envelope.sequence
