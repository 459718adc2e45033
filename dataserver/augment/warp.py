"""The affine warp of a batch of images, compiled. Only the kernels and their call may live here.

Each output pixel looks up one place of its input image and interpolates there (bilinear); outside
of the image there are zeros.
"""

import numpy as np
from numpy.typing import NDArray

from ...common.compiled import compiled_exactly
from ...common.types import Array, Float32
from .lookup import between, follow, grid, padded, show, split, store
from .quads import Words, gather_quads, look_up, make_room

BAND = 2048
"""Pixels whose places are worked out at once: they stay in the fastest cache until looked up."""


def warp(images: Array, maps: Float32) -> Array:
    """New images, of the shape and dtype of `images`. Any thread may call it; releases the GIL.

    Arguments:
        images: (n, height, width) or (n, height, width, channels); uint8 (the result is rounded to
            the nearest) or float32.
        maps: (n, 2, 3) float32; from a place (x, y, 1) of the output image to the place (x, y) of
            the input image, both in pixels from the centre, x to the right and y downwards.
    """
    assert images.dtype in (np.uint8, np.float32)
    assert maps.dtype == np.float32
    assert maps.shape == (len(images), 2, 3)
    images, maps = np.ascontiguousarray(images), np.ascontiguousarray(maps)
    warped = np.empty_like(images)
    channels = images.shape[3] if images.ndim == 4 else 1
    n, height, width = images.shape[:3]
    if images.dtype == np.uint8:
        rows = (n, height, width * channels)
        _warp_bytes(images.reshape(rows), channels, maps, warped.reshape(rows))
    else:
        shape = (n, height, width, channels)
        _warp(images.reshape(shape), maps, padded(width), warped.reshape(shape))
    return warped


@compiled_exactly
def _warp(images: Float32, maps: Float32, pitch: int, warped: Float32) -> None:
    """Write `images`, (n, height, width, channels), looked up through `maps`, to `warped`.

    A plane is copied between zeros, one pixel before and two behind, and places are clamped to
    that border: so nothing needs to ask what lies outside.
    """
    n, height, width, channels = images.shape
    size, wide = height * pitch, width + 3
    plane = np.zeros((height + 3) * wide, np.float32)
    centred = grid(height, width, pitch)
    places, values = np.empty((2, size), np.float32), np.empty(size, np.float32)
    corners = np.empty(size, np.uint32)
    x, y = np.float32((width + 1) / 2), np.float32((height + 1) / 2)
    right, bottom = np.float32(width + 1), np.float32(height + 1)
    for i in range(n):
        follow(maps[i], centred, places)
        split(places, x, y, right, bottom, wide, 1, corners)
        for channel in range(channels):
            show(images[i, :, :, channel], plane)
            between(plane, wide, corners, places, values)
            store(values, pitch, warped[i, :, :, channel])


@compiled_exactly
def _warp_bytes(images: Array, channels: int, maps: Float32, warped: Array) -> None:
    """The same for uint8, (n, height, width * channels), in simple passes over many pixels."""
    n, height = images.shape[:2]
    width = images.shape[2] // channels
    plane, quads = make_room(height, width, channels)
    rows = max(1, BAND // width)
    across, down = _from_the_centre(rows, height, width)
    places, found = np.empty(rows * width, np.uint32), np.empty(rows * width, np.uint32)
    parts, mixed = np.empty((2, rows * width), np.float32), np.empty(rows * width, np.uint8)
    shape = np.array([height, width, channels], np.int32)
    for i in range(n):
        gather_quads(images[i], channels, plane, quads)
        out = warped[i].reshape(-1)
        for top in range(0, height, rows):
            begin, size = top * width, min(rows, height - top) * width
            _find_places(maps[i], across[:size], down[:size], top, shape, places, parts)
            band = out[begin * channels : (begin + size) * channels]
            look_up(quads, channels, places[:size], parts, found, mixed, band)


@compiled_exactly
def _from_the_centre(rows: int, height: int, width: int) -> tuple[Float32, Float32]:
    """x and y of each pixel of the first `rows` rows."""
    across, down = np.empty(rows * width, np.float32), np.empty(rows * width, np.float32)
    for y in range(rows):
        for x in range(width):
            across[y * width + x] = np.float32(x) - np.float32((width - 1) / 2)
            down[y * width + x] = np.float32(y) - np.float32((height - 1) / 2)
    return across, down


@compiled_exactly
def _find_places(
    one: Float32,
    across: Float32,
    down: Float32,
    top: int,
    shape: NDArray[np.int32],
    places: Words,
    parts: Float32,
) -> None:
    """Where in the quads each pixel of a band looks, and how far it is to the right and below."""
    height, width, channels = shape
    stride = (width + 3) * channels
    right, bottom = np.float32(width + 1), np.float32(height + 1)
    xx, xy, yx, yy, zero = one[0, 0], one[0, 1], one[1, 0], one[1, 1], np.float32(0)
    x_shift = one[0, 2] + xy * np.float32(top) + np.float32((width + 1) / 2)
    y_shift = one[1, 2] + yy * np.float32(top) + np.float32((height + 1) / 2)
    parts_x, parts_y = parts[0], parts[1]
    for p in range(len(across)):
        x = xx * across[p] + xy * down[p] + x_shift
        y = yx * across[p] + yy * down[p] + y_shift
        # `max` would let NaN through, of a map that overflows, and lead out of the plane.
        x, y = x if x > zero else zero, y if y > zero else zero
        x, y = min(x, right), min(y, bottom)
        whole_x, whole_y = np.int32(x), np.int32(y)
        parts_x[p], parts_y[p] = x - np.float32(whole_x), y - np.float32(whole_y)
        places[p] = np.uint32(whole_y * stride + whole_x * channels)
