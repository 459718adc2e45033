"""Shrinking an image by the mean of the area that each new pixel covers. Nothing else.

The mean over a rectangle is one over columns after one over rows. Both are done as the one over
rows, which are sums of whole lines of memory, with the image turned in between: three times as fast
as a mean that jumps from pixel to pixel, a tenth of the time of OpenCV's INTER_AREA.
"""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ...common.types import Array

HALF = 128
"""Of 256: what is added before the 8 bits behind the point are cut off."""


def shrink(image: Array, height: int, width: int, rounding: int = HALF) -> Array:
    """A new image (height, width) or (height, width, c); any thread may call it.

    The same bytes on every machine: integers, weights in 1/256, rounded to the nearest after the
    rows and again after the columns, at most 1.5 from the exact mean and mostly less than 0.5.

    Arguments:
        image: (h, w) or (h, w, c) uint8, h >= height >= 1 and w >= width >= 1; c is 1 to 4.
        rounding: 1 to 255; more than `HALF` for images whose own numbers were rounded down.
    """
    assert image.dtype == np.uint8
    assert image.shape[0] >= height >= 1
    assert image.shape[1] >= width >= 1
    assert 0 < rounding < 256
    turned = _columns_last(_fewer_rows(image, height, rounding))
    # Halves are rounded up once and down once: an image of exactly half the size is full of them.
    made = _columns_last(_fewer_rows(turned, width, rounding - 1))
    return made.reshape(height, width, *image.shape[2:])


def _columns_last(image: Array) -> Array:
    turned: Array = cv2.transpose(image)
    return turned


def _fewer_rows(image: Array, rows: int, rounding: int) -> Array:
    from .line_sums import sum_lines  # imports numba, which whoever only opens a source need not

    firsts, weights = area_weights(len(image), rows)
    result = np.empty((rows, *image.shape[1:]), np.uint8)
    lines = image.reshape(len(image), -1)
    sum_lines(lines, firsts, weights, result.reshape(rows, -1), np.uint16(rounding))
    return result


@lru_cache(1024)
def area_weights(before: int, after: int) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
    """Which of `before` elements in a row make each of `after`, at most as many, and how much.

    Element i covers [i, i + 1) * before / after of the old ones.

    Returns:
        The first that counts, (after,) int64, and the weights of it and those that follow it,
        (after, taps) uint16 that add up to 256.
    """
    taps = min(-(-before // after) + 1, before)
    begins = np.arange(after) * before / after
    ends = np.arange(1, after + 1) * before / after
    firsts = np.minimum(np.floor(begins).astype(np.int64), before - taps)
    edges = firsts[:, None] + np.arange(taps + 1)
    covered = np.clip(edges, begins[:, None], ends[:, None]) - begins[:, None]
    # Rounding the running sum and not each weight keeps their sum exact.
    sums = np.rint(covered * (256 * after / before)).astype(np.int64)
    return firsts, np.diff(sums, axis=1).astype(np.uint16)
