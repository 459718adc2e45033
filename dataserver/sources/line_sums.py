"""Weighted sums of neighbouring lines of bytes, compiled. Only the kernel may live here."""

import numpy as np
from numpy.typing import NDArray

from ...common.compiled import compiled

Bytes = NDArray[np.uint8]


@compiled
def sum_lines(
    lines: Bytes,
    firsts: NDArray[np.int64],
    weights: NDArray[np.uint16],
    result: Bytes,
    rounding: np.uint16,
) -> None:
    """result[y] = sum over k of weights[y, k] * lines[firsts[y] + k] / 256, rounded; no sum exceeds
    16 bits. Three taps (to half the size or more) are one loop, which takes two thirds of the time.
    """
    rows, width = result.shape
    taps = weights.shape[1]
    sums = np.empty(width, np.uint16)
    shift = np.uint16(8)
    for y in range(rows):
        first, out = firsts[y], result[y]
        if taps == 3:
            above, middle, below = lines[first], lines[first + 1], lines[first + 2]
            a, m, b = weights[y, 0], weights[y, 1], weights[y, 2]
            for x in range(width):
                both = np.uint16(np.uint16(above[x]) * a + np.uint16(below[x]) * b + rounding)
                out[x] = np.uint16(np.uint16(middle[x]) * m + both) >> shift
            continue
        sums[:] = rounding
        for tap in range(taps):
            weight, line = weights[y, tap], lines[first + tap]
            for x in range(width):
                sums[x] += np.uint16(line[x]) * weight
        for x in range(width):
            out[x] = sums[x] >> shift
