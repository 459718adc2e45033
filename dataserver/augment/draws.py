"""The draws of `Stream` for one sample inside a kernel, where nothing holds the GIL. Nothing else.

They have the bits of dataserver/randomness.py, whose numbers of draws and children they share.
"""

from collections.abc import Callable
from typing import cast

import numpy as np

from ...common.compiled import compiled_exactly
from ..randomness import GAMMA, mix

_mixed = cast(Callable[[np.uint64], np.uint64], compiled_exactly(mix))


@compiled_exactly
def child_key(key: np.uint64, ordinal: int) -> np.uint64:
    """The key of `Stream.child(ordinal)`."""
    return _mixed(key + (np.uint64(2 * ordinal + 1) + np.uint64(1)) * GAMMA)


@compiled_exactly
def bits(key: np.uint64, draw: int) -> np.uint64:
    """64 random bits, those that draw `draw` of `Stream` is made of."""
    return _mixed(key + (np.uint64(2 * draw) + np.uint64(1)) * GAMMA)


@compiled_exactly
def uniform(key: np.uint64, draw: int, low: np.float32, high: np.float32) -> np.float32:
    """`Stream.uniform`, but that the last step of the grid may be `high` itself."""
    unit = np.float32(bits(key, draw) >> np.uint64(40)) * np.float32(2.0**-24)
    return low + unit * (high - low)


@compiled_exactly
def below(key: np.uint64, draw: int, bound: int) -> np.int64:
    """An integer from 0 to `bound` - 1, each as likely to 2^-24 * bound; `bound` < 2^31."""
    return np.int64((bits(key, draw) >> np.uint64(40)) * np.uint64(bound) >> np.uint64(24))


@compiled_exactly
def bell(key: np.uint64, draw: int) -> np.float32:
    """A sum of four uniform numbers, of mean 0 and standard deviation 1, within 3.47.

    It stands for a normal number where many are summed. Being integer arithmetic but for the last
    product, it has the same bits on every machine, and costs a tenth of Box and Muller's.
    """
    word, low = bits(key, draw), np.uint64(0xFFFF)
    total = (word & low) + (word >> np.uint64(16) & low)
    total += (word >> np.uint64(32) & low) + (word >> np.uint64(48))
    # Four numbers from 0 to 65535, each with the variance (2^32 - 1) / 12.
    return np.float32(np.int64(total) - 131070) * np.float32(1 / 37837.22723720648)
