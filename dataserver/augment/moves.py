"""Crop, reflect and cutout of whole pixels in one pass, compiled. Only the kernel and its call.

A chain of them is, for each image, one window of the input, forwards or mirrored, that lands in a
box of the output, and squares of zeros over it. The parts move boxes; pixels are copied once.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...common.compiled import compiled_exactly
from ...common.types import Array
from ..randomness import Keys
from .draws import below, bits, child_key
from .pixels import Move, Moved

Ints = NDArray[np.int64]
_CROP, _REFLECT, _CUTOUT = (int(move) for move in Move)


def move(images: Array, keys: Keys, parts: Sequence[Moved]) -> Array:
    """New images, of the shape and dtype of `images`. Any thread may call it; releases the GIL.

    Arguments:
        images: (n, height, width) or (n, height, width, channels), uint8 or float32.
        keys: (n,) uint64; part i draws from child i of them.
    """
    assert images.dtype in (np.uint8, np.float32)
    assert keys.shape == (len(images),)
    images = np.ascontiguousarray(images)
    moved = np.empty_like(images)
    channels = images.shape[3] if images.ndim == 4 else 1
    n, height, width = images.shape[:3]
    shape = (n, height, width * channels)
    table = np.array([[part.move, part.amount] for part in parts], np.int64)
    _move(images.reshape(shape), channels, keys, table, moved.reshape(shape))
    return moved


@compiled_exactly
def _move(images: Array, channels: int, keys: Keys, parts: Ints, moved: Array) -> None:
    n, height = images.shape[:2]
    width = images.shape[2] // channels
    # A row for each axis, and one each for the blank squares: boxes are [begin, end).
    across, down = np.empty((len(parts) + 1, 4), np.int64), np.empty((len(parts) + 1, 4), np.int64)
    for i in range(n):
        _place(keys[i], parts, across, down, height, width)
        _copy(images[i], moved[i], across[0], down[0], np.uint64(channels))
        for blank in range(1, len(parts) + 1):
            for y in range(down[blank, 2], down[blank, 3]):
                for x in range(across[blank, 2] * channels, across[blank, 3] * channels):
                    moved[i, y, x] = 0


@compiled_exactly
def _place(key: np.uint64, parts: Ints, across: Ints, down: Ints, height: int, width: int) -> None:
    """Fill both tables: (sign, offset, begin, end), so that output x is input sign * x + offset.

    Row 0 is the image's box, row i + 1 the square of part i, empty for other parts.
    """
    across[:], down[:] = 0, 0
    across[0, 0], across[0, 1], across[0, 2], across[0, 3] = 1, 0, 0, width
    down[0, 0], down[0, 1], down[0, 2], down[0, 3] = 1, 0, 0, height
    for part in range(len(parts)):
        own, kind, amount = child_key(key, part), parts[part, 0], parts[part, 1]
        if kind == _CROP:
            _slide(across, below(own, 0, 2 * amount + 1) - amount, width)
            _slide(down, below(own, 1, 2 * amount + 1) - amount, height)
        elif kind == _REFLECT:
            if amount & 1 and bits(own, 0) >> np.uint64(63):
                _mirror(across, width)
            if amount & 2 and bits(own, 1) >> np.uint64(63):
                _mirror(down, height)
        else:
            begin, top = below(own, 0, width) - amount // 2, below(own, 1, height) - amount // 2
            across[part + 1, 2], across[part + 1, 3] = max(begin, 0), min(begin + amount, width)
            down[part + 1, 2], down[part + 1, 3] = max(top, 0), min(top + amount, height)


@compiled_exactly
def _slide(axis: Ints, by: int, size: int) -> None:
    """Output x becomes what was at x + `by`; what leaves the frame is gone for good."""
    axis[0, 1] += axis[0, 0] * by
    for row in range(len(axis)):
        axis[row, 2] = min(max(axis[row, 2] - by, 0), size)
        axis[row, 3] = min(max(axis[row, 3] - by, 0), size)


@compiled_exactly
def _mirror(axis: Ints, size: int) -> None:
    """Output x becomes what was at size - 1 - x."""
    axis[0, 1] += axis[0, 0] * (size - 1)
    axis[0, 0] = -axis[0, 0]
    for row in range(len(axis)):
        axis[row, 2], axis[row, 3] = size - axis[row, 3], size - axis[row, 2]


@compiled_exactly
def _copy(image: Array, moved: Array, across: Ints, down: Ints, channels: np.uint64) -> None:
    """The image's window into its box of `moved`, both (height, width * channels); zeros around.

    Places are unsigned, so that the compiler sees that none counts from the end, and no loop has
    a branch inside.
    """
    begin, end = np.uint64(across[2]) * channels, np.uint64(across[3]) * channels
    # Modulo 2^64, of which a negative shift is a part too.
    shift = np.uint64(across[1]) * channels
    zero, one, two = np.uint64(0), np.uint64(1), np.uint64(2)
    for y in range(np.uint64(len(moved))):
        inside = down[2] <= np.int64(y) < down[3]
        first, last = (begin, end) if inside and begin < end else (zero, zero)
        source = np.uint64(down[0] * np.int64(y) + down[1]) if inside else zero
        for x in range(zero, first):
            moved[y, x] = 0
        for x in range(last, np.uint64(moved.shape[1])):
            moved[y, x] = 0
        if across[0] > 0:
            for x in range(first, last):
                moved[y, x] = image[source, x + shift]
        elif channels == np.uint64(3):
            for x in range(first, last, np.uint64(3)):
                back = shift - x
                moved[y, x] = image[source, back]
                moved[y, x + one] = image[source, back + one]
                moved[y, x + two] = image[source, back + two]
        else:
            for x in range(first, last, channels):
                for channel in range(channels):
                    moved[y, x + channel] = image[source, shift - x + channel]
