"""Looking images up at places between their pixels: the steps that kernels are made of, compiled.

Each step is one loop over all pixels of an image, in rows of a whole number of vectors (`pitch`,
see `padded`), with no branch inside, so that the compiler makes vectors of it: a loop for each row
of 28 would spend as long on the pixels that fill no vector as on the others. Steps write into
arrays that are handed in. Only such steps may live here.
"""

import numpy as np
from numpy.typing import NDArray

from ...common.compiled import compiled_exactly
from ...common.types import Array, Float32

Corners = NDArray[np.uint32]
_LANES = 8
"""Pixels in a vector, at most: 32 bytes of float32."""


def padded(width: int) -> int:
    """The pitch of rows of `width` pixels."""
    return -(-width // _LANES) * _LANES


@compiled_exactly
def grid(height: int, width: int, pitch: int) -> Float32:
    """(2, height * pitch): x and y of all pixels, from the centre."""
    grid = np.empty((2, height * pitch), np.float32)
    for y in range(height):
        for x in range(pitch):
            grid[0, y * pitch + x] = x - (width - 1) / 2
            grid[1, y * pitch + x] = y - (height - 1) / 2
    return grid


@compiled_exactly
def follow(by: Float32, places: Float32, to: Float32) -> None:
    """Where the map `by` leads from `places`, both (2, size)."""
    for j in range(to.shape[1]):
        x, y = places[0, j], places[1, j]
        to[0, j] = by[0, 0] * x + by[0, 1] * y + by[0, 2]
        to[1, j] = by[1, 0] * x + by[1, 1] * y + by[1, 2]


@compiled_exactly
def split(
    places: Float32, x: np.float32, y: np.float32, right: np.float32, bottom: np.float32,
    row: int, step: int, corners: Corners,
) -> None:  # fmt: skip
    """Move `places` by (x, y) into [0, right] and [0, bottom]; the whole parts go to `corners`, as
    places in a plane where a row is `row` numbers and a pixel `step`, the rest stays. NaN, of a map
    that overflows, becomes 0: `max` would let it through, and lead out of the plane."""
    zero, down, across = np.float32(0), np.int32(row), np.int32(step)
    for j in range(len(corners)):
        place_x, place_y = places[0, j] + x, places[1, j] + y
        place_x, place_y = place_x if place_x > zero else zero, place_y if place_y > zero else zero
        place_x, place_y = min(place_x, right), min(place_y, bottom)
        left, top = np.int32(place_x), np.int32(place_y)
        places[0, j], places[1, j] = place_x - np.float32(left), place_y - np.float32(top)
        corners[j] = top * down + left * across


@compiled_exactly
def between(plane: Float32, wide: int, corners: Corners, parts: Float32, values: Float32) -> None:
    """`values` of `plane` at places within it, bilinear, with no branch inside (see warp.py)."""
    one, below = np.uint64(1), np.uint64(wide)
    for j in range(len(corners)):
        corner = np.uint64(corners[j])
        upper, lower = plane[corner], plane[corner + below]
        upper += parts[0, j] * (plane[corner + one] - upper)
        lower += parts[0, j] * (plane[corner + below + one] - lower)
        values[j] = upper + parts[1, j] * (lower - upper)


@compiled_exactly
def show(image: Array, plane: Float32) -> None:
    """Copy one channel of an image between the zeros of `plane`."""
    height, width = image.shape
    for y in range(height):
        row = plane[(y + 1) * (width + 3) :]
        for x in range(width):
            row[x + 1] = image[y, x]


@compiled_exactly
def store(values: Array, pitch: int, image: Array) -> None:
    """Copy rows of `pitch` numbers into the image's own."""
    for y in range(image.shape[0]):
        row = values[y * pitch :]
        for x in range(image.shape[1]):
            image[y, x] = row[x]
