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
from .quads import Words, gather_quads, look_up, make_room

BLOCK = 8
"""Images whose fields are made together."""


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
    n, height, width = images.shape[:3]
    later, moved = (before, False) if after is None else (after, True)
    if images.dtype == np.uint8:
        rows = images.reshape(n, height, width * channels)
        _displace_bytes(
            rows, channels, before, later, moved, keys, down, across,
            *make_room(height, width, channels), changed.reshape(n, rows[0].size),
        )  # fmt: skip
    else:
        shape = (n, height, width, channels)
        _displace(
            images.reshape(shape), before, later, moved, keys, down, across, changed.reshape(shape)
        )
    return changed


@compiled_exactly
def _displace(
    images: Float32, before: Float32, after: Float32, moved: bool, keys: Keys, down: Float32,
    across: Float32, changed: Float32,
) -> None:  # fmt: skip
    n, height, width, channels = images.shape
    plane = np.zeros((height + 3, width + 3), np.float32)
    places = np.empty((2, height * width), np.float32)
    half, fields = _make_room(down, across)
    for i in range(n):
        if i % BLOCK == 0:
            _draw_fields(keys[i : i + BLOCK], down, across, half, fields)
        _places(before[i], after[i], moved, fields, i % BLOCK, places)
        for channel in range(channels):
            for y in range(height):
                for x in range(width):
                    plane[y + 1, x + 1] = images[i, y, x, channel]
            for y in range(height):
                begin, end = y * width, (y + 1) * width
                row = changed[i, y, :, channel]
                _look_up(plane, places[0, begin:end], places[1, begin:end], row)


@compiled_exactly
def _displace_bytes(
    images: Array, channels: int, before: Float32, after: Float32, moved: bool, keys: Keys,
    down: Float32, across: Float32, plane: Array, quads: Words, changed: Array,
) -> None:  # fmt: skip
    """The same for uint8, (n, height, width * channels) and (n, height * width * channels), with a
    quad a look-up; `plane` and `quads` are of `make_room`."""
    n, height = images.shape[:2]
    width, size = across.shape[1], height * across.shape[1]
    places, parts = np.empty((2, size), np.float32), np.empty((2, size), np.float32)
    at, found = np.empty(size, np.uint32), np.empty(size, np.uint32)
    mixed = np.empty(size, np.uint8)
    half, fields = _make_room(down, across)
    for i in range(n):
        if i % BLOCK == 0:
            _draw_fields(keys[i : i + BLOCK], down, across, half, fields)
        _places(before[i], after[i], moved, fields, i % BLOCK, places)
        _split(places, (width + 3) * channels, channels, at, parts)
        gather_quads(images[i], channels, plane, quads)
        look_up(quads, channels, at, parts, found, mixed, changed[i])


@compiled_exactly
def _split(places: Float32, stride: int, channels: int, at: Words, parts: Float32) -> None:
    """Places, (2, pixels), as those of quads and how far they are to the right and below."""
    places_x, places_y, parts_x, parts_y = places[0], places[1], parts[0], parts[1]
    row, step = np.int32(stride), np.int32(channels)
    for p in range(len(at)):
        left, top = np.int32(places_x[p]), np.int32(places_y[p])
        parts_x[p], parts_y[p] = places_x[p] - np.float32(left), places_y[p] - np.float32(top)
        at[p] = np.uint32(top * row + left * step)


@compiled_exactly
def _make_room(down: Float32, across: Float32) -> tuple[Float32, Float32]:
    """For Z across, (rank, 2 * BLOCK * width), and for the fields of a block of images, (height, 2
    * BLOCK * width): x and y of each in turn. Rows of many images make long loops."""
    line = 2 * BLOCK * across.shape[1]
    return np.empty((len(down), line), np.float32), np.empty((down.shape[1], line), np.float32)


@compiled_exactly
def _draw_fields(
    keys: Keys, down: Float32, across: Float32, half: Float32, fields: Float32
) -> None:
    """Write the fields of up to BLOCK images; the same bits wherever an image stands among them."""
    rows, columns, width = len(down), len(across), across.shape[1]
    for place in range(2 * len(keys)):
        key, axis = keys[place // 2], place % 2
        for row in range(rows):
            line = half[row, place * width : (place + 1) * width]
            for column in range(columns):
                value = bell(key, (axis * rows + row) * columns + column)
                _add(line, value, across[column], column == 0)
    size = 2 * len(keys) * width
    for y in range(len(fields)):
        for row in range(rows):
            _add(fields[y, :size], down[row, y], half[row, :size], row == 0)


@compiled_exactly
def _add(line: Float32, factor: np.float32, other: Float32, first: bool) -> None:
    if first:
        for x in range(len(line)):
            line[x] = factor * other[x]
    else:
        for x in range(len(line)):
            line[x] += factor * other[x]


@compiled_exactly
def _places(
    before: Float32, after: Float32, moved: bool, fields: Float32, of: int, places: Float32
) -> None:
    """Write the places of all pixels, (2, height * width), in the plane with a border of one, for
    image `of` of the block."""
    height = len(fields)
    width = places.shape[1] // height
    centre_x, centre_y = np.float32((width - 1) / 2), np.float32((height - 1) / 2)
    one, zero = np.float32(1), np.float32(0)
    begin, middle, end = 2 * of * width, (2 * of + 1) * width, (2 * of + 2) * width
    for y in range(height):
        field_x, field_y = fields[y, begin:middle], fields[y, middle:end]
        line_x = places[0, y * width : (y + 1) * width]
        line_y = places[1, y * width : (y + 1) * width]
        for x in range(width):
            q_x, q_y = np.float32(x) - centre_x, np.float32(y) - centre_y
            if moved:
                p_x, p_y = q_x, q_y
                q_x = after[0, 0] * p_x + after[0, 1] * p_y + after[0, 2]
                q_y = after[1, 0] * p_x + after[1, 1] * p_y + after[1, 2]
                at_x = min(max(q_x + centre_x, zero), np.float32(width - 1))
                at_y = min(max(q_y + centre_y, zero), np.float32(height - 1))
                d_x = _between(fields, begin, width, at_x, at_y)
                d_y = _between(fields, middle, width, at_x, at_y)
            else:
                d_x, d_y = field_x[x], field_y[x]
            q_x, q_y = q_x + d_x, q_y + d_y
            p_x = before[0, 0] * q_x + before[0, 1] * q_y + before[0, 2] + centre_x + one
            p_y = before[1, 0] * q_x + before[1, 1] * q_y + before[1, 2] + centre_y + one
            line_x[x] = min(max(p_x, zero), np.float32(width + 1))
            line_y[x] = min(max(p_y, zero), np.float32(height + 1))


@compiled_exactly
def _between(fields: Float32, begin: int, width: int, x: np.float32, y: np.float32) -> np.float32:
    """The field whose columns begin there, at a place within it, bilinear."""
    left, top = int(x), int(y)
    part_x, part_y = x - np.float32(left), y - np.float32(top)
    right, bottom = begin + min(left + 1, width - 1), min(top + 1, len(fields) - 1)
    left += begin
    above = fields[top, left] + part_x * (fields[top, right] - fields[top, left])
    below = fields[bottom, left] + part_x * (fields[bottom, right] - fields[bottom, left])
    value: np.float32 = above + part_y * (below - above)
    return value


@compiled_exactly
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
