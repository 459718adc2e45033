"""Compiled passes over one image after a convolution, and back: normalise, add, activate, pool.

They run while the image is in the cache, between the products. Sums over channels are vectors; the
innermost loop of each pass is over channels. Every array is flat; nothing is checked here.

Pooling comes before the activation, as each activation rises with its input: the largest input
gives the largest output, and three quarters of the activations are never computed.
"""

import math

import numpy as np

from ...common.compiled import compiled
from ...common.types import Array, Float32
from .interpreter import LINEAR, RELU, SIGMOID, TANH, expm1
from .tiles import COLUMNS

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

    `pooled` is scratch of the size of y. What the pool leaves over at the right and below is not
    written, and so stays zero.
    """
    if size == 1:
        deactivate(kind, y, delta, plane)
        return
    deactivate(kind, y, delta, pooled)
    rows, columns = height // size, width // size
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
def widen(
    image: Float32, height: int, width: int, channels: int, side: int, step: int, wide: Float32
) -> None:
    """An image with `side` pixels of zeros at its left; each pixel `step` pixels from the next, to
    the right and below. Between them and at the sides, `wide` keeps the zeros that it holds.

    `wide` has rows of len(wide) / ((height - 1) * step + 1) numbers.
    """
    across = wide.size // ((height - 1) * step + 1)
    for row in range(height):
        for column in range(width):
            source = (row * width + column) * channels
            target = row * step * across + (side + column * step) * channels
            if step == 1:  # the whole row is in one piece
                wide[target : target + width * channels] = image[source : source + width * channels]
                break
            for c in range(channels):
                wide[target + c] = image[source + c]


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


@compiled
def add_moments(z: Float32, channels: int, pivot: Float32, part: Float32, moments: Array) -> None:
    """moments (2, channels) float64 += sums of (z - pivot) and of its square over the pixels.

    A pivot near the mean keeps the variance exact where the mean is large (T. Chan, G. Golub and
    R. LeVeque, "Algorithms for Computing the Sample Variance", 1983, eq. 1.7). `part` (2 *
    channels,) is scratch: an image is summed in float32, images in float64.
    """
    first, second = part[:channels], part[channels:]
    first[:] = _ZERO
    second[:] = _ZERO
    for begin in range(0, z.size, channels):
        source = z[begin : begin + channels]
        for c in range(channels):
            value = source[c] - pivot[c]
            first[c] += value
            second[c] += value * value
    for c in range(channels):
        moments[0, c] += first[c]
        moments[1, c] += second[c]


@compiled
def add_products(
    delta: Float32, z: Float32, channels: int, pivot: Float32, part: Float32, sums: Array
) -> None:
    """sums (2, channels) float64 += sums of delta and of delta * (z - pivot) over the pixels."""
    first, second = part[:channels], part[channels:]
    first[:] = _ZERO
    second[:] = _ZERO
    for begin in range(0, z.size, channels):
        error, source = delta[begin : begin + channels], z[begin : begin + channels]
        for c in range(channels):
            first[c] += error[c]
            second[c] += error[c] * (source[c] - pivot[c])
    for c in range(channels):
        sums[0, c] += first[c]
        sums[1, c] += second[c]


@compiled
def blend(
    delta: Float32, z: Float32, channels: int, of_delta: Float32, of_z: Float32, constant: Float32
) -> None:
    """delta = delta * of_delta + z * of_z + constant, by channel, in place."""
    for begin in range(0, z.size, channels):
        error, source = delta[begin : begin + channels], z[begin : begin + channels]
        for c in range(channels):
            error[c] = error[c] * of_delta[c] + source[c] * of_z[c] + constant[c]


@compiled
def normaliser(
    moments: Array,
    count: float,
    pivot: Float32,
    weight: Float32,
    bias: Float32,
    eps: float,
    momentum: float,
    running: Float32,
    drift: Float32,
    mean: Float32,
    inverse: Float32,
    scale: Float32,
    shift: Float32,
) -> None:
    """From the moments of a batch to z * scale + shift = weight * (z - mean) / sd + bias.

    S. Ioffe and C. Szegedy, "Batch Normalization", ICML 2015, algorithm 1. `running` (2, channels)
    is (mean, variance) as they are kept; `drift` (2, channels) becomes momentum * (running -
    batch), the variance of the batch being the unbiased one.
    """
    channels = mean.size
    unbiased = count / max(count - 1.0, 1.0)
    for c in range(channels):
        first = moments[0, c] / count
        variance = max(moments[1, c] / count - first * first, 0.0)
        if moments[1, c] != moments[1, c]:
            variance = moments[1, c]
        mean[c] = pivot[c] + first
        inverse[c] = 1.0 / math.sqrt(variance + eps)
        scale[c] = weight[c] * inverse[c]
        shift[c] = bias[c] - mean[c] * scale[c]
        drift[c] = momentum * (running[c] - mean[c])
        drift[channels + c] = momentum * (running[channels + c] - variance * unbiased)


@compiled
def denormaliser(
    sums: Array,
    count: float,
    mean: Float32,
    inverse: Float32,
    scale: Float32,
    of_z: Float32,
    constant: Float32,
    weight: Float32,
    bias: Float32,
) -> None:
    """The gradients of weight and bias, and the numbers that `blend` needs with `scale`.

    With E the mean over the batch and x = (z - mean) / sd: d(loss)/dz = scale * (delta - E[delta] -
    x E[delta x]) (Ioffe and Szegedy 2015, section 3, put together).
    """
    for c in range(mean.size):
        bias[c] = sums[0, c]
        weight[c] = sums[1, c] * inverse[c]
        of_z[c] = -scale[c] * inverse[c] * (weight[c] / count)
        constant[c] = -scale[c] * (bias[c] / count) - of_z[c] * mean[c]
