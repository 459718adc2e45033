"""Compiled passes over one image after a convolution, and back: scale, add, pool, activate.

They run while the image is in the cache, between the products. Each goes through the image with 8
channels at a time, so that what belongs to a channel stays in registers. Every array is flat; those
of one call do not overlap; nothing is checked here.

Pooling comes before the activation, as each activation rises with its input: the largest input
gives the largest output, and three quarters of the activations are never computed.
"""

from typing import Any

import numpy as np

from ....common.compiled import compiled
from ....common.types import Float32
from .interpreter import RELU, SIGMOID, TANH, expm1
from .tiles import COLUMNS, alone
from .vectors import LANES, Vector, load, spread, store, where_equal, where_greater

_ZERO, _ONE, _TWO = np.float32(0), np.float32(1), np.float32(2)


@compiled
def finish(
    z: Float32,
    height: int,
    width: int,
    channels: int,
    centre: Float32,
    scale: Float32,
    shift: Float32,
    addend: Float32,
    kind: int,
    size: int,
    y: Float32,
    choice: Float32,
) -> None:
    """y = f(pool((z - centre) * scale + shift + addend)) of one image.

    Arguments:
        z: (height * width * channels,). centre, scale, shift: (channels,). addend: as z, or empty;
            not together with a pool.
        kind: the activation. size: of the pool and its stride, 1 for none.
        y, choice: (height // size * width // size * channels,); `choice` is which of the size *
            size inputs was the largest, the first of equals. It is not touched without a pool.
    """
    alone()
    numbers, rest = (centre, scale, shift), channels % LANES
    for c in range(0, channels - LANES + 1, LANES):
        _finish(z, height, width, channels, numbers, addend, kind, size, y, choice, c, LANES)
    if rest:
        last = channels - rest
        _finish(z, height, width, channels, numbers, addend, kind, size, y, choice, last, rest)
    _activate(kind, y)


@compiled
def _finish(
    z: Float32,
    height: int,
    width: int,
    channels: int,
    numbers: tuple[Float32, Float32, Float32],
    addend: Float32,
    kind: int,
    size: int,
    y: Float32,
    choice: Float32,
    c: int,
    n: int,
) -> None:
    """`finish` of the channels [c, c + n), rectified, but for the other activations."""
    centre, scale, shift = load(numbers[0], c, n), load(numbers[1], c, n), load(numbers[2], c, n)
    floor = spread(_ZERO if kind == RELU else np.float32(-np.inf))
    if size == 1:
        for i in range(c, z.size, channels):
            value = (load(z, i, n) - centre) * scale + shift
            if addend.size:
                value = value + load(addend, i, n)
            store(y, i, where_greater(value, floor, value, floor), n)
        return
    goal = c
    for row in range(height // size):
        for column in range(width // size):
            top = (row * width + column) * size * channels + c
            best = (load(z, top, n) - centre) * scale + shift
            which = spread(_ZERO)
            for k in range(1, size * size):
                place = top + (k // size * width + k % size) * channels
                value = (load(z, place, n) - centre) * scale + shift
                which = where_greater(value, best, spread(np.float32(k)), which)
                best = where_greater(value, best, value, best)
            store(y, goal, where_greater(best, floor, best, floor), n)
            store(choice, goal, which, n)
            goal += channels


@compiled
def _activate(kind: int, y: Float32) -> None:
    """y = f(y), in place, for all but the rectifier."""
    if kind == SIGMOID:
        for j in range(y.size):
            y[j] = _ONE / (_TWO + expm1(-y[j]))
    elif kind == TANH:
        for j in range(y.size):
            power = expm1(_TWO * y[j])
            y[j] = power / (power + _TWO)


@compiled
def _slope(kind: int, y: Vector, delta: Vector) -> Vector:
    """delta * f'(z) in terms of y = f(z). NaN in y passes delta on, so that it is noticed."""
    if kind == RELU:
        zero = spread(_ZERO)
        return where_greater(y, zero, delta, zero)
    if kind == SIGMOID:
        return delta * (y * (spread(_ONE) - y))
    if kind == TANH:
        return delta * (spread(_ONE) - y * y)
    return delta


@compiled
def unfinish(
    delta: Float32,
    y: Float32,
    choice: Float32,
    height: int,
    width: int,
    channels: int,
    kind: int,
    size: int,
    plane: Float32,
    panel: int,
) -> None:
    """d(loss)/d(input of pool and activation) of one image into `plane`, given `delta` of its y.

    What the pool leaves over at the right and below is zero. `plane` is made of panels of `panel`
    channels each, (panels, height * width, panel): see `panel_begin`.
    """
    alone()
    if height % size or width % size:
        plane[:] = _ZERO
    rest = channels % LANES
    for c in range(0, channels - LANES + 1, LANES):
        _unfinish(delta, y, choice, height, width, channels, kind, size, plane, panel, c, LANES)
    if rest:
        last = channels - rest
        _unfinish(delta, y, choice, height, width, channels, kind, size, plane, panel, last, rest)


@compiled
def _unfinish(
    delta: Float32,
    y: Float32,
    choice: Float32,
    height: int,
    width: int,
    channels: int,
    kind: int,
    size: int,
    plane: Float32,
    panel: int,
    c: int,
    n: int,
) -> None:
    begin = panel_begin(c, height * width, panel)
    if size == 1:
        for i in range(c, y.size, channels):
            store(plane, begin, _slope(kind, load(y, i, n), load(delta, i, n)), n)
            begin += panel
        return
    place, zero = c, spread(_ZERO)
    for row in range(height // size):
        for column in range(width // size):
            error = _slope(kind, load(y, place, n), load(delta, place, n))
            which = load(choice, place, n)
            top = begin + (row * width + column) * size * panel
            for k in range(size * size):
                goal = top + (k // size * width + k % size) * panel
                store(plane, goal, where_equal(which, spread(np.float32(k)), error, zero), n)
            place += channels


@compiled
def pad(image: Float32, height: int, row: int, side: int, wide: Float32) -> None:
    """An image with rows of `row` numbers, between sides of `side` numbers that `wide` keeps.

    `wide` holds `height` rows of the same length, at least `row` + `side`.
    """
    across = wide.size // height
    for i in range(height):
        begin = i * across + side
        for j in range(row):
            wide[begin + j] = image[i * row + j]


@compiled
def widen(
    panels: Float32, height: int, width: int, channels: int, side: int, step: int, wide: Float32
) -> None:
    """An image from panels of 16 channels, with `side` pixels at its left, each pixel `step` pixels
    from the next, to the right and below.

    What `wide` holds between them and at the sides, zeros, stays. It has (height - 1) * step + 1
    rows of the same length.
    """
    rest = channels % LANES
    for c in range(0, channels - LANES + 1, LANES):
        _widen(panels, height, width, channels, side, step, wide, c, LANES)
    if rest:
        _widen(panels, height, width, channels, side, step, wide, channels - rest, rest)


@compiled
def _widen(
    panels: Float32,
    height: int,
    width: int,
    channels: int,
    side: int,
    step: int,
    wide: Float32,
    c: int,
    n: int,
) -> None:
    across = wide.size // ((height - 1) * step + 1)
    source = panel_begin(c, height * width, COLUMNS)
    for row in range(height):
        target = row * step * across + side * channels + c
        for _ in range(width):
            store(wide, target, load(panels, source, n), n)
            source += COLUMNS
            target += step * channels


@compiled
def panel_begin(c: int, rows: int, panel: int) -> int:
    """Where channel c begins in panels of `panel` channels, one behind the other, (rows, panel)
    each. A panel of all channels is the plain order."""
    return c // panel * rows * panel + c % panel


@compiled
def to_panels(image: Any, rows: int, channels: int, panels: Float32) -> None:
    """A matrix (rows, channels) as panels of 16 columns, (panels, rows, 16).

    The columns that the last panel has too many keep their zeros.
    """
    rest = channels % LANES
    for c in range(0, channels - LANES + 1, LANES):
        _to_panel(image, rows, channels, panels, c, LANES)
    if rest:
        _to_panel(image, rows, channels, panels, channels - rest, rest)


@compiled
def _to_panel(image: Any, rows: int, channels: int, panels: Float32, c: int, n: int) -> None:
    goal = panel_begin(c, rows, COLUMNS)
    for i in range(rows):
        store(panels, goal + i * COLUMNS, load(image, i * channels + c, n), n)


@compiled
def add_sums(plane: Float32, rows: int, channels: int, panel: int, sums: Float32) -> None:
    """sums (channels,) += the sum over the rows of a plane in panels of `panel` channels."""
    rest = channels % LANES
    for c in range(0, channels - LANES + 1, LANES):
        _add_sums(plane, rows, panel, sums, c, LANES)
    if rest:
        _add_sums(plane, rows, panel, sums, channels - rest, rest)


@compiled
def _add_sums(plane: Float32, rows: int, panel: int, sums: Float32, c: int, n: int) -> None:
    total, i = load(sums, c, n), panel_begin(c, rows, panel)
    for _ in range(rows):
        total = total + load(plane, i, n)
        i += panel
    store(sums, c, total, n)
