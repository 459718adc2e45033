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
    """A fixed number of samples, numbered from 0, that are read when they are needed.

    A user's object may have three attributes more, each of which spares it something:

        labels: (n,) integers, the classes of all samples from 0. Without them all samples are read
            once when it is opened, for their labels alone.
        classes: the number of classes, or a sequence with one name for each. With it and without
            `labels` nothing is read at opening but one sample, unless `data.sampling` needs more;
            samples are then held out regardless of their class. With `labels` it says only that
            there are classes without samples.
        thread_safe: True if several threads may call `read` at once. Without it one at a time
            does, whatever `dataserver.threads` is, though not always the same one.
    """

    def __len__(self) -> int:
        """The number of samples n; never changes."""

    def read(self, indices: NDArray[np.int64]) -> Arrays:
        """The samples of these numbers, in this order; the same whenever they are asked for.

        Arguments:
            indices: (m,) int64, each within [0, len(self)); m >= 1, a number may come twice.
        Returns:
            inputs (m, ...), of one shape and dtype for all samples: uint8 (the worker divides them
            by 255) or float32 (finite); and labels (m,) int64.
        """


class Transform(Protocol):
    """A random change of samples on their way to a worker, called by several threads at once where
    `dataserver.threads` is above 1.

    One that changes the shape of samples also has `at_test(arrays) -> arrays`, which brings test
    samples to the same shape, with nothing random.
    """

    def __call__(self, arrays: Arrays, random: Stream) -> Arrays:
        """The changed samples; the arrays handed in may not be written.

        Arguments:
            arrays: what `Dataset.read` or the transform before returned, n samples.
            random: n independent streams, one per sample. Draw from nothing else, so that a
                sample that is handed out twice has identical values, whatever batch it is in.
        """
