"""Noise on a batch of images, compiled. Only the kernel and its call may live here."""

import numpy as np
from numpy.typing import NDArray

from ...common.compiled import compiled_exactly
from ...common.types import Array, Float32
from ..randomness import Keys
from .draws import bits

_LANES = 4
"""Numbers out of one word of random bits: the low ones of each of its quarters."""
_BLOCK = 512
"""Values at a time: what belongs to them fits a core's fastest cache, beside the table."""


def add_grain(images: Array, keys: Keys, table: NDArray[np.int16], scale: float) -> Array:
    """New images, of the shape and dtype of `images`. Any thread may call it; releases the GIL.

    Arguments:
        images: (n, ...); uint8 (the result is rounded to the nearest) or float32 in [0, 1].
        keys: (n,) uint64; of each the draws 0, 1, ... are for the values in turn, four each.
        table: (2^k,) int16, k at most 16; an entry drawn from it, times `scale`, is what a value
            changes by, in units of the range [0, 1].
    """
    assert images.dtype in (np.uint8, np.float32)
    assert keys.shape == (len(images),)
    assert len(table) & (len(table) - 1) == 0
    images = np.ascontiguousarray(images)
    changed = np.empty_like(images)
    n = len(images)
    top, rounding = (255.0, 0.5) if images.dtype == np.uint8 else (1.0, 0.0)
    _add_grain(
        images.reshape(n, -1), keys, table, np.float32(top * scale), changed.reshape(n, -1),
        np.float32(top), np.float32(rounding),
    )  # fmt: skip
    return changed


@compiled_exactly
def _add_grain(
    images: Array, keys: Keys, table: NDArray[np.int16], scale: np.float32, changed: Array,
    top: np.float32, rounding: np.float32,
) -> None:  # fmt: skip
    """Storing to uint8 truncates, hence `rounding`. Three short loops are faster than one, as the
    compiler makes vectors of the first and the last."""
    words = np.empty(_BLOCK // _LANES, np.uint64)
    numbers = np.empty(_BLOCK, np.float32)
    size = images.shape[1]
    for i in range(len(images)):
        for number in range(-(-size // _BLOCK)):
            for j in range(len(words)):
                words[j] = bits(keys[i], number * len(words) + j)
            _look_up(words, table, numbers)
            image = images[i, number * _BLOCK : (number + 1) * _BLOCK]
            noisy = changed[i, number * _BLOCK : (number + 1) * _BLOCK]
            for j in range(len(image)):
                value = np.float32(image[j]) + numbers[j] * scale
                noisy[j] = min(max(value, np.float32(0)), top) + rounding


@compiled_exactly
def _look_up(words: Keys, table: NDArray[np.int16], numbers: Float32) -> None:
    last = np.uint64(len(table) - 1)
    for j in range(np.uint64(len(words))):
        word, first = words[j], j * np.uint64(_LANES)
        for lane in range(np.uint64(_LANES)):
            numbers[first + lane] = table[word >> np.uint64(16) * lane & last]
