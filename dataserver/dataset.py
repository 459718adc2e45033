"""The data server's contracts: where samples come from, and what may change them. Nothing else.

A user's own Dataset or Transform is any object that fills one of these two shapes; it need not
inherit from them. Whoever calls owns the arrays that come back.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..common.types import Arrays
from .randomness import Stream


class Dataset(Protocol):
    """A fixed number of samples, numbered from 0."""

    def __len__(self) -> int:
        """The number of samples; never changes."""

    def read(self, indices: NDArray[np.int64]) -> Arrays:
        """The samples of these numbers, in this order, from whichever thread asks.

        Arguments:
            indices: (n,) int64, each within [0, len(self)); n >= 1.
        Returns:
            inputs (n, ...) uint8 (the worker divides them by 255) or float32, and labels (n,)
            int64; every further array has n first too.
        """


class Transform(Protocol):
    """A random change of samples on their way to a worker."""

    def __call__(self, arrays: Arrays, random: Stream) -> Arrays:
        """The changed samples; the arrays handed in may not be written.

        Arguments:
            arrays: what `Dataset.read` or the transform before returned, n samples.
            random: n independent streams, one per sample. Draw from nothing else, so that a
                sample that is handed out twice has identical values, whatever batch it is in.
        """
