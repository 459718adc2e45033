"""The few nouns that every role shares. Plain data; no behaviour that could be wrong."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Float32 = NDArray[np.float32]
Arrays = tuple[Array, ...]
"""One sample set: arrays that share their first dimension, (inputs, labels) for classification."""

Metrics = dict[str, float]
"""Means over the samples of one batch; `loss` is always there, `accuracy` where it is defined."""


class Role(StrEnum):
    """The four kinds of process."""

    CONTROLLER = "controller"
    PARAMSERVER = "paramserver"
    DATASERVER = "dataserver"
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Member:
    """A role that has joined: `rank` counts from 0 within its role, `incarnation` is one life.
    `key` is its public key (Z85), empty without keys."""

    role: Role
    rank: int
    incarnation: int
    address: str
    host: str
    pid: int
    key: str = ""

    @property
    def name(self) -> str:
        """`worker-0`, as in logs and on the screen."""
        return f"{self.role}-{self.rank}"


STALE_CLASSES = ("0", "1", "2", "3-4", "5-8", "9-16", "17-32", "33+")
"""The classes of the histogram of staleness, in updates."""


def stale_class(staleness: int) -> str:
    """The class that a push belongs to."""
    if staleness < 3:
        return STALE_CLASSES[max(staleness, 0)]
    return STALE_CLASSES[min((staleness - 1).bit_length() + 1, len(STALE_CLASSES) - 1)]
