"""Compiled batch normalisation: its sums over channels, and what follows from them. No layers.

The numbers of a channel lie `channels` apart, one row after the other. Rows are summed in float32
by the image or by the chunk, and those sums in float64. Every array is flat; nothing is checked.
"""

import math

import numpy as np

from ...common.compiled import compiled
from ...common.types import Array, Float32
from .plane_kernels import activate, deactivate

_ZERO = np.float32(0)
_ROWS = 512
"""Rows that are summed in float32 at a time."""


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
    offset: Float32,
    drift: Float32,
    mean: Float32,
    inverse: Float32,
    scale: Float32,
    shift: Float32,
) -> None:
    """From the moments of a batch to z * scale + shift = weight * (z - mean) / sd + bias.

    S. Ioffe and C. Szegedy, "Batch Normalization", ICML 2015, algorithm 1. `running` (2, channels)
    is (mean, variance) as they are kept; `drift` (2, channels) becomes momentum * (running -
    batch), the variance of the batch being the unbiased one; of a single number there is none.
    """
    channels = mean.size
    for c in range(channels):
        first = moments[0, c] / count
        variance = max(moments[1, c] / count - first * first, 0.0)
        if moments[1, c] != moments[1, c]:
            variance = moments[1, c]
        mean[c] = pivot[c] + first
        inverse[c] = 1.0 / math.sqrt(variance + eps)
        scale[c] = weight[c] * inverse[c]
        shift[c] = bias[c] - mean[c] * scale[c]
        drift[c] = momentum * (running[c] - (mean[c] + offset[c]))
        variance = variance * count / (count - 1.0) if count > 1.0 else running[channels + c]
        drift[channels + c] = momentum * (running[channels + c] - variance)


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


@compiled
def row_moments(z: Float32, channels: int, pivot: Float32, part: Float32, moments: Array) -> None:
    """The moments of all rows of z, from nothing; see `add_moments`."""
    moments[:] = 0.0
    for begin in range(0, z.size, _ROWS * channels):
        chunk = z[begin : min(z.size, begin + _ROWS * channels)]
        add_moments(chunk, channels, pivot, part, moments)


@compiled
def finish_rows(
    z: Float32,
    channels: int,
    scale: Float32,
    shift: Float32,
    addend: Float32,
    kind: int,
    y: Float32,
) -> None:
    """y = f(z * scale + shift + addend), row by row."""
    for begin in range(0, z.size, channels):
        source, target = z[begin : begin + channels], y[begin : begin + channels]
        for c in range(channels):
            target[c] = source[c] * scale[c] + shift[c]
    for i in range(addend.size):
        y[i] += addend[i]
    activate(kind, y)


@compiled
def backward_rows(
    delta: Float32,
    y: Float32,
    z: Float32,
    channels: int,
    kind: int,
    mean: Float32,
    part: Float32,
    sums: Array,
    error: Float32,
) -> None:
    """`error` = delta * f'; and its sums, from nothing; see `add_products`."""
    deactivate(kind, y, delta, error)
    sums[:] = 0.0
    for begin in range(0, z.size, _ROWS * channels):
        end = min(z.size, begin + _ROWS * channels)
        add_products(error[begin:end], z[begin:end], channels, mean, part, sums)


@compiled
def lead_rows(
    error: Float32,
    z: Float32,
    channels: int,
    of_error: Float32,
    of_z: Float32,
    constant: Float32,
    source: Float32,
    add: bool,
) -> None:
    """source = error * of_error + z * of_z + constant, by channel, or that added to it."""
    for begin in range(0, z.size, channels):
        end = begin + channels
        delta, value, target = error[begin:end], z[begin:end], source[begin:end]
        for c in range(channels):
            old = target[c] if add else _ZERO
            target[c] = old + (delta[c] * of_error[c] + value[c] * of_z[c] + constant[c])
