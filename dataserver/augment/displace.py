"""Elastic and affine changes of a batch of images by one look-up, compiled. Kernel and call only.

An output pixel p is looked up at A (q + d(q)) with q = B p: B is the map of the affine changes
after the elastic one, d the field, A the map of those before. Where there is no B the field is
needed at whole pixels alone; else it is interpolated between them, and held at the edges.
"""

import numpy as np

from ...common.compiled import compiled_exactly
from ...common.types import Array, Float32
from ..randomness import Keys
from .draws import bell
from .lookup import Corners, between, follow, grid, padded, show, split, store
from .quads import gather_quads, look_up, make_room


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
    shape, width = (*images.shape[:3], channels), images.shape[2]
    later, moved = (before, False) if after is None else (after, True)
    wider = np.pad(across, [(0, 0), (0, padded(width) - width)])
    _displace(
        images.reshape(shape), images.dtype == np.uint8, before, later, moved, keys, down, wider,
        changed.reshape(shape),
    )  # fmt: skip
    return changed


@compiled_exactly
def _displace(
    images: Array, packed: bool, before: Float32, after: Float32, moved: bool, keys: Keys,
    down: Float32, across: Float32, changed: Array,
) -> None:  # fmt: skip
    """Bytes are looked up in quads (`packed`), float32 one channel after the other in a plane."""
    n, height, width, channels = images.shape
    pitch, flat = across.shape[1], (height, width * channels)
    size, step = height * pitch, channels if packed else 1
    centred = grid(height, width, pitch)
    # Two rows more: what lies beside the last pixel is read, and weighs nothing.
    fields = np.zeros((2, size + 2 * pitch), np.float32)
    half = np.empty((len(down), pitch), np.float32)
    places, values = np.empty((2, size), np.float32), np.empty(size, np.float32)
    ahead, corners = np.empty((2, size), np.float32), np.empty(size, np.uint32)
    plane = np.zeros((height + 3) * (width + 3), np.float32)
    bordered, quads = make_room(height, width, channels)
    found, mixed = np.empty(size, np.uint32), np.empty(size, np.uint8)
    pixels = np.empty(size * channels, np.uint8)
    x, y = np.float32((width + 1) / 2), np.float32((height + 1) / 2)
    right, bottom = np.float32(width + 1), np.float32(height + 1)
    for i in range(n):
        for axis in range(2):
            _field(keys[i], axis, down, across, half, fields[axis])
        if moved:
            _displaced(after[i], centred, fields, width, ahead, places, corners, values)
        else:
            _sum(centred, fields, ahead)
        follow(before[i], ahead, places)
        split(places, x, y, right, bottom, (width + 3) * step, step, corners)
        if packed:
            gather_quads(images[i].reshape(flat), channels, bordered, quads)
            look_up(quads, channels, corners, places, found, mixed, pixels)
            store(pixels, pitch * channels, changed[i].reshape(flat))
            continue
        for channel in range(channels):
            show(images[i, :, :, channel], plane)
            between(plane, width + 3, corners, places, values)
            store(values, pitch, changed[i, :, :, channel])


@compiled_exactly
def _displaced(
    after: Float32, centred: Float32, fields: Float32, width: int, ahead: Float32, parts: Float32,
    corners: Corners, values: Float32,
) -> None:  # fmt: skip
    """Write q + d(q) to `ahead`, with q where the map `after` leads from each pixel; `parts`,
    `corners` and `values` are room."""
    size = len(values)
    pitch = (fields.shape[1] - size) // 2
    right, bottom = np.float32(width - 1), np.float32(size // pitch - 1)
    half = np.float32(0.5)
    follow(after, centred, ahead)
    parts[:] = ahead
    split(parts, right * half, bottom * half, right, bottom, pitch, 1, corners)
    for axis in range(2):
        between(fields[axis], pitch, corners, parts, values)
        ahead[axis] += values


@compiled_exactly
def _sum(places: Float32, fields: Float32, ahead: Float32) -> None:
    """Write `places` + `fields` to `ahead`, (2, size); the fields are longer."""
    for axis in range(2):
        for j in range(ahead.shape[1]):
            ahead[axis, j] = places[axis, j] + fields[axis, j]


@compiled_exactly
def _field(
    key: np.uint64, axis: int, down: Float32, across: Float32, half: Float32, field: Float32
) -> None:
    """Write one axis of the field; `half` is room for Z across."""
    rows, columns = len(down), len(across)
    pitch = across.shape[1]
    for row in range(rows):
        half[row] = 0
        for column in range(columns):
            value = bell(key, (axis * rows + row) * columns + column)
            for x in range(pitch):
                half[row, x] += value * across[column, x]
    for y in range(down.shape[1]):
        line = field[y * pitch : (y + 1) * pitch]
        line[:] = 0
        for row in range(rows):
            value = down[row, y]
            for x in range(pitch):
                line[x] += value * half[row, x]
