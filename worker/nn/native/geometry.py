"""Where the patches of a convolution lie: the tables that the compiled loops walk. Pure arithmetic.

A kernel of kh rows slides over an image of h rows by `stride`, with `padding` rows of zeros around
it. The rows of the kernel that fall on padding have no part in a sum. Neighbouring output rows of
which the same rows of the kernel count make up a band.
"""

from itertools import groupby

import numpy as np

from ....common.types import Array

Rows = tuple[int, int]
"""The first row of the kernel that counts, and how many."""


def patches(rows: int, columns: int, stride: int, above: int, across: int, channels: int) -> Array:
    """Where the patch of each output pixel begins, int64 (rows * columns,), in elements.

    Arguments:
        above: rows of padding; a patch may begin above the image, where nothing is read.
        across: pixels of a row of the image, its sides included.
    """
    tops = (np.arange(rows) * stride - above) * across
    places = tops[:, None] + np.arange(columns) * stride
    return places.reshape(-1).astype(np.int64) * channels


def bands(rows: int, columns: int, stride: int, above: int, kernel: int, height: int) -> Array:
    """(bands, 4) int64: first output pixel, their number, first row of the kernel, rows of it."""
    found, first = [], 0
    counted = (_inside(row * stride - above, kernel, height) for row in range(rows))
    for (begin, count), same in groupby(counted):
        pixels = sum(1 for _ in same) * columns
        found.append((first, pixels, begin, count))
        first += pixels
    return np.array(found, np.int64).reshape(-1, 4)


def kernel_bands(
    rows: int, stride: int, above: int, kernel: int, height: int, across: int
) -> Array:
    """For each row of the kernel, (kernel, 3) int64: the first output row whose patch has this row
    inside of the image, how many such output rows, and where in the image the first one reads.

    Arguments:
        across: elements of a row of the image, its sides included.
    """
    found = []
    for row in range(kernel):
        reads = [r * stride - above + row for r in range(rows)]
        fit = [r for r, read in enumerate(reads) if 0 <= read < height]
        first = fit[0] if fit else 0
        found.append((first, len(fit), reads[first] * across if fit else 0))
    return np.array(found, np.int64)


def _inside(top: int, kernel: int, height: int) -> Rows:
    """Which rows of a kernel at `top` lie on the image; (0, 0) if none does."""
    begin, end = max(0, -top), min(kernel, height - top)
    return (begin, end - begin) if end > begin else (0, 0)
