"""The affine warp of a batch of images, compiled. Only the kernels and their call may live here.

Each output pixel looks up one place of its input image and interpolates there (bilinear); outside
of the image there are zeros. Arithmetic is exact as written: how a compiler contracts it depends on
what it finds compiled already, and pixels must be the same in every process.
"""

import numpy as np

from ...common.compiled import compiled_exactly
from ...common.types import Array, Float32
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
        rows = images.reshape(n, height, width * channels)
        band = _from_the_centre(max(1, BAND // max(1, width)), height, width)
        room = make_room(height, width, channels)
        _warp_bytes(rows, channels, maps, *band, *room, warped.reshape(n, rows[0].size))
    else:
        shape = (n, height, width, channels)
        _warp(images.reshape(shape), maps, warped.reshape(shape))
    return warped


@compiled_exactly
def _warp(images: Float32, maps: Float32, warped: Float32) -> None:
    """Write `images`, (n, height, width, channels), looked up through `maps`, to `warped`.

    A plane is copied between zeros, one pixel before and two behind, and places are clamped to
    that border: so the inner loop needs no branch, and the compiler makes vectors of it.
    """
    n, height, width, channels = images.shape
    plane = np.zeros((height + 3, width + 3), np.float32)
    zero, right, bottom = np.float32(0), np.float32(width + 1), np.float32(height + 1)
    centre_x, centre_y = np.float32((width - 1) / 2), np.float32((height - 1) / 2)
    for i in range(n):
        xx, xy, x_shift = maps[i, 0]
        yx, yy, y_shift = maps[i, 1]
        for channel in range(channels):
            for y in range(height):
                for x in range(width):
                    plane[y + 1, x + 1] = images[i, y, x, channel]
            for y in range(height):
                from_centre_y = np.float32(y) - centre_y
                row_x = xy * from_centre_y + (x_shift + centre_x + np.float32(1))
                row_y = yy * from_centre_y + (y_shift + centre_y + np.float32(1))
                for x in range(width):
                    from_centre_x = np.float32(x) - centre_x
                    place_x = min(max(xx * from_centre_x + row_x, zero), right)
                    place_y = min(max(yx * from_centre_x + row_y, zero), bottom)
                    left, top = np.int32(place_x), np.int32(place_y)
                    part_x, part_y = place_x - np.float32(left), place_y - np.float32(top)
                    above, below = plane[top, left], plane[top + 1, left]
                    above += part_x * (plane[top, left + 1] - above)
                    below += part_x * (plane[top + 1, left + 1] - below)
                    warped[i, y, x, channel] = above + part_y * (below - above)


def _from_the_centre(rows: int, height: int, width: int) -> tuple[Float32, Float32]:
    """x and y of each pixel of the first `rows` rows, from the centre of the image."""
    y, x = np.divmod(np.arange(rows * width), width)
    across, down = x - (width - 1) / 2, y - (height - 1) / 2
    return across.astype(np.float32), down.astype(np.float32)


@compiled_exactly
def _warp_bytes(
    images: Array, channels: int, maps: Float32, across: Float32, down: Float32, plane: Array,
    quads: Words, warped: Array,
) -> None:  # fmt: skip
    """The same for uint8, in simple passes over many pixels.

    Arguments:
        images: (n, height, width * channels).
        across, down: the places of as many pixels as are worked on at once, whole rows.
        plane, quads: of `make_room`.
        warped: (n, height * width * channels).
    """
    n, height = images.shape[:2]
    width = images.shape[2] // channels
    most = len(across)
    places, found = np.empty(most, np.uint32), np.empty(most, np.uint32)
    parts, mixed = np.empty((2, most), np.float32), np.empty(most, np.uint8)
    for i in range(n):
        gather_quads(images[i], channels, plane, quads)
        for begin in range(0, height * width, most):
            size = min(most, height * width - begin)
            _find_places(
                maps[i], across[:size], down[:size], begin // width, height, width, channels,
                places, parts,
            )  # fmt: skip
            out = warped[i, begin * channels : (begin + size) * channels]
            look_up(quads, channels, places[:size], parts, found, mixed, out)


@compiled_exactly
def _find_places(
    one: Float32,
    across: Float32,
    down: Float32,
    top: int,
    height: int,
    width: int,
    channels: int,
    places: Words,
    parts: Float32,
) -> None:
    """Where in the quads each pixel of a band looks, and how far it is to the right and below."""
    stride, step = np.int32((width + 3) * channels), np.int32(channels)
    right, bottom = np.float32(width + 1), np.float32(height + 1)
    xx, xy, yx, yy, zero = one[0, 0], one[0, 1], one[1, 0], one[1, 1], np.float32(0)
    x_shift = one[0, 2] + xy * np.float32(top) + np.float32((width + 1) / 2)
    y_shift = one[1, 2] + yy * np.float32(top) + np.float32((height + 1) / 2)
    parts_x, parts_y = parts[0], parts[1]
    for p in range(len(across)):
        x = min(max(xx * across[p] + xy * down[p] + x_shift, zero), right)
        y = min(max(yx * across[p] + yy * down[p] + y_shift, zero), bottom)
        whole_x, whole_y = np.int32(x), np.int32(y)
        parts_x[p], parts_y[p] = x - np.float32(whole_x), y - np.float32(whole_y)
        places[p] = np.uint32(whole_y * stride + whole_x * step)
