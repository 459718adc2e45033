"""Compiled passes over one image after a convolution, and back: scale, add, activate, pool.

They run while the image is in the cache, between the products. Sums over channels are vectors; the
innermost loop of each pass is over channels. Every array is flat; nothing is checked here.

Pooling comes before the activation, as each activation rises with its input: the largest input
gives the largest output, and three quarters of the activations are never computed.
"""

import numpy as np

from ...common.compiled import compiled
from ...common.types import Array, Float32
from .interpreter import LINEAR, RELU, SIGMOID, TANH, expm1
from .tiles import COLUMNS, alone

_ZERO, _ONE, _TWO = np.float32(0), np.float32(1), np.float32(2)


@compiled
def finish(
    z: Float32,
    height: int,
    width: int,
    channels: int,
    scale: Float32,
    shift: Float32,
    addend: Float32,
    kind: int,
    size: int,
    y: Float32,
    choice: Array,
) -> None:
    """y = f(pool(z * scale + shift + addend)) of one image.

    Arguments:
        z: (height * width * channels,). scale, shift: (channels,). addend: as z, or empty.
        kind: the activation. size: of the pool and its stride, 1 for none.
        y, choice: (height // size * width // size * channels,); `choice` uint8 is which of the
            size * size inputs was the largest, the first of equals.
    """
    alone()
    if size > 1:
        _pool(z, width, height // size, width // size, channels, scale, shift, size, y, choice)
    else:
        for pixel in range(height * width):
            begin = pixel * channels
            source, target = z[begin : begin + channels], y[begin : begin + channels]
            for c in range(channels):
                target[c] = source[c] * scale[c] + shift[c]
        for i in range(addend.size):
            y[i] += addend[i]
    activate(kind, y)


@compiled
def _pool(
    z: Float32,
    width: int,
    rows: int,
    columns: int,
    channels: int,
    scale: Float32,
    shift: Float32,
    size: int,
    y: Float32,
    choice: Array,
) -> None:
    """The largest of each (size, size) of z * scale + shift, and which it was. NaN wins."""
    for row in range(rows):
        for column in range(columns):
            goal = (row * columns + column) * channels
            best, which = y[goal : goal + channels], choice[goal : goal + channels]
            for k in range(size * size):
                place = (row * size + k // size) * width + column * size + k % size
                source = z[place * channels : (place + 1) * channels]
                if k == 0:
                    for c in range(channels):
                        best[c] = source[c] * scale[c] + shift[c]
                        which[c] = 0
                else:
                    number = np.uint8(k)
                    for c in range(channels):
                        value = source[c] * scale[c] + shift[c]
                        larger = value > best[c] or value != value
                        best[c] = value if larger else best[c]
                        which[c] = number if larger else which[c]


@compiled
def activate(kind: int, y: Float32) -> None:
    """y = f(y), in place. The comparison lets NaN through."""
    if kind == RELU:
        for j in range(y.size):
            y[j] = _ZERO if y[j] < _ZERO else y[j]
    elif kind == SIGMOID:
        for j in range(y.size):
            y[j] = _ONE / (_TWO + expm1(-y[j]))
    elif kind == TANH:
        for j in range(y.size):
            power = expm1(_TWO * y[j])
            y[j] = power / (power + _TWO)


@compiled
def deactivate(kind: int, y: Float32, delta: Float32, target: Float32) -> None:
    """target = delta * f'(z) in terms of y = f(z); `target` may be `delta`."""
    if kind == RELU:
        for j in range(y.size):
            target[j] = _ZERO if y[j] <= _ZERO else delta[j]
    elif kind == SIGMOID:
        for j in range(y.size):
            target[j] = delta[j] * (y[j] * (_ONE - y[j]))
    elif kind == TANH:
        for j in range(y.size):
            target[j] = delta[j] * (_ONE - y[j] * y[j])
    elif kind == LINEAR:
        for j in range(y.size):
            target[j] = delta[j]


@compiled
def unfinish(
    delta: Float32,
    y: Float32,
    choice: Array,
    height: int,
    width: int,
    channels: int,
    kind: int,
    size: int,
    pooled: Float32,
    plane: Float32,
) -> None:
    """d(loss)/d(input of pool and activation) of one image into `plane`, given `delta` of its y.

    `pooled` is scratch of the size of y. What the pool leaves over at the right and below is zero.
    """
    alone()
    if size == 1:
        deactivate(kind, y, delta, plane)
        return
    deactivate(kind, y, delta, pooled)
    rows, columns = height // size, width // size
    if height % size or width % size:
        plane[:] = _ZERO
    for row in range(rows):
        for column in range(columns):
            begin = (row * columns + column) * channels
            value, which = pooled[begin : begin + channels], choice[begin : begin + channels]
            for k in range(size * size):
                place = (row * size + k // size) * width + column * size + k % size
                target, number = plane[place * channels : (place + 1) * channels], np.uint8(k)
                for c in range(channels):
                    target[c] = value[c] if which[c] == number else _ZERO


@compiled
def pad(image: Float32, height: int, row: int, side: int, wide: Float32) -> None:
    """An image with rows of `row` numbers, between sides of `side` numbers that `wide` keeps.

    `wide` holds `height` rows of the same length, at least `row` + `side`.
    """
    across = wide.size // height
    for i in range(height):
        begin = i * across + side
        wide[begin : begin + row] = image[i * row : (i + 1) * row]


@compiled
def spread(
    image: Float32, height: int, width: int, channels: int, side: int, step: int, wide: Float32
) -> None:
    """`pad` with each pixel `step` pixels from the next, to the right and below; what `wide` holds
    between them, zeros, stays. It has (height - 1) * step + 1 rows; `side` counts pixels."""
    across = wide.size // ((height - 1) * step + 1)
    for row in range(height):
        for column in range(width):
            source = (row * width + column) * channels
            target = row * step * across + (side + column * step) * channels
            wide[target : target + channels] = image[source : source + channels]


@compiled
def to_panels(image: Float32, pixels: int, channels: int, panels: Float32) -> None:
    """An image as panels of 16 channels, (panels, pixels, 16); the last is filled with zeros."""
    for j in range(0, channels, COLUMNS):
        count = min(COLUMNS, channels - j)
        for pixel in range(pixels):
            source = image[pixel * channels + j : pixel * channels + j + count]
            target = panels[j * pixels + pixel * COLUMNS : j * pixels + (pixel + 1) * COLUMNS]
            for k in range(count):
                target[k] = source[k]
            for k in range(count, COLUMNS):
                target[k] = _ZERO


@compiled
def add_sums(image: Float32, channels: int, sums: Float32) -> None:
    """sums (channels,) += the sum over the pixels."""
    for begin in range(0, image.size, channels):
        source = image[begin : begin + channels]
        for c in range(channels):
            sums[c] += source[c]
