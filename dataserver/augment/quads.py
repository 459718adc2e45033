"""Look-ups between the pixels of byte images, compiled: the kernels that warp and displace share.

A quad is the four bytes that are interpolated at a place of an image with its border of zeros, as
one number: so a pixel of the result is one look-up, and all else is arithmetic on rows of numbers.
"""

import numpy as np
from numpy.typing import NDArray

from ...common.compiled import compiled_exactly
from ...common.types import Array, Float32

Words = NDArray[np.uint32]


@compiled_exactly
def make_room(height: int, width: int, channels: int) -> tuple[Array, Words]:
    """Zeros: an image with a border of one pixel before and two behind, (height + 3, (width + 3) *
    channels) uint8, and room for its quads, one for each place but those of the last row."""
    plane = np.zeros((height + 3, (width + 3) * channels), np.uint8)
    return plane, np.zeros((height + 2) * (width + 3) * channels, np.uint32)


@compiled_exactly
def gather_quads(image: Array, channels: int, plane: Array, quads: Words) -> None:
    """Pack the bytes at each place, right of it, below, and right below, from the lowest up.

    Arguments:
        image: (height, width * channels) uint8.
        plane, quads: of `make_room`.
    """
    height, width = image.shape
    inner = plane[1 : height + 1, channels : channels + width]
    for y in range(height):
        for x in range(width):
            inner[y, x] = image[y, x]
    flat, stride = plane.reshape(-1), plane.shape[1]
    count = len(quads) - channels
    here, right = flat[:count], flat[channels : channels + count]
    below, beside = flat[stride : stride + count], flat[stride + channels :][:count]
    for p in range(count):
        upper = np.uint32(here[p]) | np.uint32(right[p]) << np.uint32(8)
        lower = np.uint32(below[p]) | np.uint32(beside[p]) << np.uint32(8)
        quads[p] = upper | lower << np.uint32(16)


@compiled_exactly
def look_up(
    quads: Words,
    channels: int,
    places: Words,
    parts: Float32,
    found: Words,
    mixed: Array,
    out: Array,
) -> None:
    """Write the pixels of `out`, (pixels * channels,) uint8, to the nearest byte.

    Arguments:
        places: (pixels,) uint32, of the first channel in the quads.
        parts: (2, at least as many) float32, how far a pixel is to the right and below of it.
        found, mixed: room for as many numbers.
    """
    size = len(places)
    for channel in range(channels):
        own = quads[channel:]
        for p in range(size):
            found[p] = own[places[p]]
        if channels == 1:
            _interpolate(found, parts, out)
        else:
            _interpolate(found, parts, mixed[:size])
            for p in range(size):
                out[p * channels + channel] = mixed[p]


@compiled_exactly
def _interpolate(found: Words, parts: Float32, out: Array) -> None:
    """Between the four bytes of each quad, to the nearest byte."""
    byte, parts_x, parts_y = np.uint32(255), parts[0], parts[1]
    for p in range(len(out)):
        quad = found[p]
        above = np.float32(np.int32(quad & byte))
        right = np.float32(np.int32(quad >> np.uint32(8) & byte))
        below = np.float32(np.int32(quad >> np.uint32(16) & byte))
        beside = np.float32(np.int32(quad >> np.uint32(24)))
        above += parts_x[p] * (right - above)
        below += parts_x[p] * (beside - below)
        out[p] = np.uint8(np.int32(above + parts_y[p] * (below - above) + np.float32(0.5)))
