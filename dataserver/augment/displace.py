"""Elastic and affine changes of a batch of images by one look-up, compiled. Kernel and call only.

An output pixel p is looked up at A (q + d(q)) with q = B p: B is the map of the affine changes
after the elastic one, d the field, A the map of those before. Where there is no B the field is
needed at whole pixels alone; else it is interpolated between them, and held at the edges.
"""

import numpy as np

from ...common.compiled import compiled
from ...common.types import Array, Float32
from ..randomness import Keys
from .draws import bell


def displace(
    images: Array,
    before: Float32,
    after: Float32 | None,
    keys: Keys,
    down: Float32,
    across: Float32,
) -> Array:
    """New images, of the shape and dtype of `images`. Any thread may call it; releases the GIL.

    Arguments:
        images: (n, height, width) or (n, height, width, channels); uint8 (the result is rounded to
            the nearest) or float32.
        before, after: (n, 2, 3) float32, the maps A and B as `warp` takes them.
        keys: (n,) uint64; the field is drawn from them.
        down: (rank, height) float32, across: (other rank, width) float32; a field in pixels is
            down' Z across, with the matrix Z of mean 0 and variance 1 drawn for x and for y.
    """
    assert images.dtype in (np.uint8, np.float32)
    assert before.shape == (len(images), 2, 3)
    images = np.ascontiguousarray(images)
    changed = np.empty_like(images)
    channels = images.shape[3] if images.ndim == 4 else 1
    shape = (*images.shape[:3], channels)
    rounding = np.float32(0.5 if images.dtype == np.uint8 else 0.0)
    later = before if after is None else after
    _displace(
        images.reshape(shape), before, later, after is not None, keys, down, across,
        changed.reshape(shape), rounding,
    )  # fmt: skip
    return changed


@compiled
def _displace(
    images: Array, before: Float32, after: Float32, moved: bool, keys: Keys, down: Float32,
    across: Float32, changed: Array, rounding: np.float32,
) -> None:  # fmt: skip
    n, height, width, channels = images.shape
    plane = np.zeros((height + 3, width + 3), np.float32)
    row = np.empty(width, np.float32)
    fields = np.empty((2, height, width), np.float32)
    places = np.empty((2, height, width), np.float32)
    half = np.empty((len(down), width), np.float32)
    for i in range(n):
        for axis in range(2):
            _field(keys[i], axis, down, across, half, fields[axis])
        _places(before[i], after[i], moved, fields, places)
        for channel in range(channels):
            for y in range(height):
                for x in range(width):
                    plane[y + 1, x + 1] = images[i, y, x, channel]
            for y in range(height):
                _look_up(plane, places[0, y], places[1, y], row)
                for x in range(width):
                    changed[i, y, x, channel] = row[x] + rounding


@compiled
def _field(
    key: np.uint64, axis: int, down: Float32, across: Float32, half: Float32, field: Float32
) -> None:
    """Write one axis of the field, (height, width); `half` is room for Z across."""
    rows, columns = len(down), len(across)
    height, width = field.shape
    for row in range(rows):
        half[row] = 0
        for column in range(columns):
            value = bell(key, (axis * rows + row) * columns + column)
            for x in range(width):
                half[row, x] += value * across[column, x]
    for y in range(height):
        field[y] = 0
        for row in range(rows):
            value = down[row, y]
            for x in range(width):
                field[y, x] += value * half[row, x]


@compiled
def _places(before: Float32, after: Float32, moved: bool, fields: Float32, places: Float32) -> None:
    """Write the places of all pixels in the plane with a border of one."""
    height, width = fields.shape[1:]
    centre_x, centre_y = np.float32((width - 1) / 2), np.float32((height - 1) / 2)
    one, zero = np.float32(1), np.float32(0)
    for y in range(height):
        for x in range(width):
            q_x, q_y = np.float32(x) - centre_x, np.float32(y) - centre_y
            if moved:
                p_x, p_y = q_x, q_y
                q_x = after[0, 0] * p_x + after[0, 1] * p_y + after[0, 2]
                q_y = after[1, 0] * p_x + after[1, 1] * p_y + after[1, 2]
                at_x = min(max(q_x + centre_x, zero), np.float32(width - 1))
                at_y = min(max(q_y + centre_y, zero), np.float32(height - 1))
                d_x = _between(fields[0], at_x, at_y)
                d_y = _between(fields[1], at_x, at_y)
            else:
                d_x, d_y = fields[0, y, x], fields[1, y, x]
            q_x, q_y = q_x + d_x, q_y + d_y
            p_x = before[0, 0] * q_x + before[0, 1] * q_y + before[0, 2] + centre_x + one
            p_y = before[1, 0] * q_x + before[1, 1] * q_y + before[1, 2] + centre_y + one
            places[0, y, x] = min(max(p_x, zero), np.float32(width + 1))
            places[1, y, x] = min(max(p_y, zero), np.float32(height + 1))


@compiled
def _between(field: Float32, x: np.float32, y: np.float32) -> np.float32:
    """The field at a place within it, bilinear."""
    left, top = int(x), int(y)
    right, bottom = min(left + 1, field.shape[1] - 1), min(top + 1, field.shape[0] - 1)
    part_x, part_y = x - np.float32(left), y - np.float32(top)
    above = field[top, left] + part_x * (field[top, right] - field[top, left])
    below = field[bottom, left] + part_x * (field[bottom, right] - field[bottom, left])
    value: np.float32 = above + part_y * (below - above)
    return value


@compiled
def _look_up(plane: Float32, places_x: Float32, places_y: Float32, row: Float32) -> None:
    """One row of the result: places in `plane`, with no branch inside (see warp.py)."""
    for x in range(len(row)):
        place_x, place_y = places_x[x], places_y[x]
        left, top = np.int32(place_x), np.int32(place_y)
        part_x, part_y = place_x - np.float32(left), place_y - np.float32(top)
        above, below = plane[top, left], plane[top + 1, left]
        above += part_x * (plane[top, left + 1] - above)
        below += part_x * (plane[top + 1, left + 1] - below)
        row[x] = above + part_y * (below - above)
