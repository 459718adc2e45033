"""Compiled batch normalisation: its sums over channels, and what follows from them. No layers.

The numbers of a channel lie `channels` apart, one row after the other. Rows are summed in float32
by the image or by the chunk, and those sums in float64. Every array is flat; nothing is checked.
"""

import math

import numpy as np

from ....common.compiled import compiled
from ....common.types import Array, Float32
from .plane_kernels import panel_begin
from .tiles import alone
from .vectors import LANES, load, spread, store

_ZERO = np.float32(0)
_ROWS = 512
"""Rows that are summed in float32 at a time."""


@compiled
def add_moments(z: Float32, channels: int, pivot: Float32, part: Float32, moments: Array) -> None:
    """moments (2, channels) float64 += sums of (z - pivot) and of its square over the rows.

    A pivot near the mean keeps the variance exact where the mean is large (T. Chan, G. Golub and
    R. LeVeque, "Algorithms for Computing the Sample Variance", 1983, eq. 1.7). `part` (2 *
    channels,) is scratch: these rows are summed in float32, their sums in float64.
    """
    rest = channels % LANES
    for c in range(0, channels - LANES + 1, LANES):
        _moments(z, channels, pivot, part, c, LANES)
    if rest:
        _moments(z, channels, pivot, part, channels - rest, rest)
    for c in range(channels):
        moments[0, c] += part[c]
        moments[1, c] += part[channels + c]


@compiled
def _moments(z: Float32, channels: int, pivot: Float32, part: Float32, c: int, n: int) -> None:
    centre, first, second = load(pivot, c, n), spread(_ZERO), spread(_ZERO)
    for i in range(c, z.size, channels):
        value = load(z, i, n) - centre
        first = first + value
        second = second + value * value
    store(part, c, first, n)
    store(part, channels + c, second, n)


@compiled
def add_products(
    delta: Float32,
    panel: int,
    z: Float32,
    channels: int,
    pivot: Float32,
    part: Float32,
    sums: Array,
) -> None:
    """sums (2, channels) float64 += sums of delta and of delta * (z - pivot) over the rows.

    `delta` is in panels of `panel` channels: see `panel_begin`.
    """
    rest = channels % LANES
    for c in range(0, channels - LANES + 1, LANES):
        _products(delta, panel, z, channels, pivot, part, c, LANES)
    if rest:
        _products(delta, panel, z, channels, pivot, part, channels - rest, rest)
    for c in range(channels):
        sums[0, c] += part[c]
        sums[1, c] += part[channels + c]


@compiled
def _products(
    delta: Float32,
    panel: int,
    z: Float32,
    channels: int,
    pivot: Float32,
    part: Float32,
    c: int,
    n: int,
) -> None:
    centre, first, second = load(pivot, c, n), spread(_ZERO), spread(_ZERO)
    place = panel_begin(c, z.size // channels, panel)
    for i in range(c, z.size, channels):
        error = load(delta, place, n)
        first = first + error
        second = second + error * (load(z, i, n) - centre)
        place += panel
    store(part, c, first, n)
    store(part, channels + c, second, n)


@compiled
def lead(
    delta: Float32,
    panel: int,
    z: Float32,
    channels: int,
    of_delta: Float32,
    centre: Float32,
    of_z: Float32,
    constant: Float32,
    source: Float32,
    add: bool,
) -> None:
    """source = delta * of_delta + (z - centre) * of_z + constant by channel, or added to it.

    `delta` and `source` are in panels of `panel` channels, and may be the same.
    """
    alone()
    numbers, rest = (of_delta, centre, of_z, constant), channels % LANES
    for c in range(0, channels - LANES + 1, LANES):
        _lead(delta, panel, z, channels, numbers, source, add, c, LANES)
    if rest:
        _lead(delta, panel, z, channels, numbers, source, add, channels - rest, rest)


@compiled
def _lead(
    delta: Float32,
    panel: int,
    z: Float32,
    channels: int,
    numbers: tuple[Float32, Float32, Float32, Float32],
    source: Float32,
    add: bool,
    c: int,
    n: int,
) -> None:
    of_delta, centre = load(numbers[0], c, n), load(numbers[1], c, n)
    of_z, constant = load(numbers[2], c, n), load(numbers[3], c, n)
    place = panel_begin(c, z.size // channels, panel)
    for i in range(c, z.size, channels):
        led = load(delta, place, n) * of_delta + (load(z, i, n) - centre) * of_z + constant
        store(source, place, led + load(source, place, n) if add else led, n)
        place += panel


@compiled
def normaliser(
    moments: Array,
    count: float,
    pivot: Float32,
    weight: Float32,
    eps: float,
    momentum: float,
    running: Float32,
    offset: Float32,
    drift: Float32,
    mean: Float32,
    inverse: Float32,
    scale: Float32,
) -> None:
    """From the moments of a batch to (z - mean) * scale + bias, with scale = weight / sd.

    That difference is taken first: z * scale less mean * scale loses the digits of small batches. A
    single number is its own mean: its scale is 0, and the result the bias.

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
        inverse[c] = 1.0 / math.sqrt(variance + eps) if count > 1.0 else 0.0
        scale[c] = weight[c] * inverse[c]
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
        constant[c] = -scale[c] * (bias[c] / count)


@compiled
def row_moments(z: Float32, channels: int, pivot: Float32, part: Float32, moments: Array) -> None:
    """The moments of all rows of z, from nothing; see `add_moments`."""
    moments[:] = 0.0
    for begin in range(0, z.size, _ROWS * channels):
        chunk = z[begin : min(z.size, begin + _ROWS * channels)]
        add_moments(chunk, channels, pivot, part, moments)


@compiled
def row_products(
    delta: Float32, z: Float32, channels: int, mean: Float32, part: Float32, sums: Array
) -> None:
    """The sums over all rows, from nothing; see `add_products`."""
    sums[:] = 0.0
    for begin in range(0, z.size, _ROWS * channels):
        end = min(z.size, begin + _ROWS * channels)
        add_products(delta[begin:end], channels, z[begin:end], channels, mean, part, sums)
