"""The smoothing of an axis and its principal directions, with the same bits on every machine.

A library's eigenvectors differ with the processor it runs on, and so would the fields that are made
of them. Here is nothing but IEEE arithmetic in a fixed order: one-sided Jacobi (Hestenes 1958),
which turns pairs of rows of S until all are orthogonal. What they are then is U' S, where
S = U diag U' has the singular values as its rows' lengths.

S is unchanged when both axes are reversed, so that its directions are even or odd about the centre:
two problems of half the size, an eighth of the work each.
"""

from decimal import Context, Decimal
from math import ceil, fsum, sqrt

import numpy as np
from numpy.typing import NDArray

from ...common.compiled import compiled_exactly

Float64 = NDArray[np.float64]

_CLOSE = 1e-12
"""Cosine times length below which two rows are orthogonal, against the square of the longer, or of
the longest at the start."""


def smoothing(size: int, sigma: float) -> Float64:
    """(size, size) float64: smooths an axis of `size` pixels by a Gaussian of `sigma` pixels.

    It is cut at 4 deviations, as scipy.ndimage.gaussian_filter has it, and there are zeros outside
    of the axis.
    """
    reach = ceil(4 * sigma)
    # Decimals round correctly everywhere; a library's exp need not.
    context, double = Context(prec=30), Decimal(2 * sigma * sigma)
    powers = [context.divide(Decimal(-k * k), double) for k in range(reach + 1)]
    weights = [float(context.exp(power)) for power in powers]
    total = fsum([*weights, *weights[1:]])
    by_distance = np.zeros(max(size, reach + 1))
    by_distance[: reach + 1] = np.array(weights) / total
    places = np.arange(size)
    smooth: Float64 = by_distance[abs(places[:, None] - places)]
    return smooth


def principal(smooth: Float64) -> Float64:
    """(size, size) float64: a row for each direction of a symmetric matrix that is unchanged when
    both axes are reversed, as long as its singular value; the longest first, each starting with a
    positive number.
    """
    size = len(smooth)
    half, most = size // 2, size - size // 2
    centre = np.ones(most)
    centre[half:] = sqrt(0.5)  # the pixel in the middle is its own mirror image
    even = (smooth[:most] + smooth[:most, ::-1])[:, :most] * centre * centre[:, None]
    odd = (smooth[:half] - smooth[:half, ::-1])[:, :half]
    rows = np.zeros((size, size))
    _orthogonalise(even)
    _orthogonalise(odd)
    rows[:most, :most] = even * (sqrt(0.5) / centre)
    rows[most:, :half] = odd * sqrt(0.5)
    rows[:most, size - half :] = rows[:most, :half][:, ::-1]
    rows[most:, size - half :] = -rows[most:, :half][:, ::-1]
    lengths = np.array([fsum(row) for row in (rows * rows).tolist()])
    rows = rows[np.argsort(-lengths, kind="stable")]
    # A direction's sign is anyone's choice.
    signed: Float64 = rows * np.where(rows[:, :1] < 0, -1.0, 1.0)
    return signed


@compiled_exactly
def _orthogonalise(rows: Float64) -> None:
    """Turn pairs of rows in their plane until all are orthogonal."""
    floor = 0.0
    for p in range(len(rows)):
        floor = max(floor, _CLOSE * _product(rows[p], rows[p]))
    turned = True
    while turned:
        turned = False
        for p in range(len(rows)):
            for q in range(p + 1, len(rows)):
                one, other = _product(rows[p], rows[p]), _product(rows[q], rows[q])
                both = _product(rows[p], rows[q])
                if abs(both) > max(_CLOSE * max(one, other), floor):
                    _turn(rows[p], rows[q], (other - one) / (2.0 * both))
                    turned = True


@compiled_exactly
def _product(one: Float64, other: Float64) -> float:
    total = 0.0
    for k in range(len(one)):
        total += one[k] * other[k]
    return total


@compiled_exactly
def _turn(one: Float64, other: Float64, cotangent: float) -> None:
    """Turn both by the smaller angle of which this is the cotangent of the double."""
    tangent = 1.0 / (abs(cotangent) + sqrt(1.0 + cotangent * cotangent))
    tangent = -tangent if cotangent < 0.0 else tangent
    cosine = 1.0 / sqrt(1.0 + tangent * tangent)
    sine = tangent * cosine
    for k in range(len(one)):
        x, y = one[k], other[k]
        one[k] = cosine * x - sine * y
        other[k] = sine * x + cosine * y
