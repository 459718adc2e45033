"""The compiled inner loops of the codecs: float32 to fewer bytes, and back.

A few passes over memory each, without the GIL. Only loops over arrays belong here: names, lengths
and what is refused are in `codecs`. Importing this module imports numba (about a second), so that
a process that only checks a job file does not.

An `encode_*` loop writes the code c of `values`. Its twin `feed_*` writes the code c of x = g + e
and leaves e = x - decode(c), as one loop. A `decode_*` loop writes all of `out`. Nothing here
checks an index or a length.

All arrays are one-dimensional and C-contiguous; those that are only read are `read_only` views.
The numbers are taken apart as int32: what the compiler's fast-math may assume of floats then has
no say, and the loops vectorise as long as nothing in them is wider than 32 bits.
"""

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled
from .types import Float32

Int8 = NDArray[np.int8]
Int64 = NDArray[np.int64]
UInt16 = NDArray[np.uint16]
UInt32 = NDArray[np.uint32]

_SIGN = np.int32(-0x80000000)
_MAGNITUDE = np.int32(0x7FFFFFFF)  # all but the sign; magnitudes compare as these integers do
_INFINITY = np.int32(0x7F800000)
_QUIET = np.int32(0x400000)  # keeps a NaN a NaN when its low bits are cut off
_BF16 = np.int32(-0x10000)  # the bits of a float32 that bfloat16 keeps
_BF16_MOST = np.int32(0x7F7F0000)
_HALF_MOST = np.int32(0x7BFF)  # 65,504
_HALF_NORMAL = np.int32(0x38800000)  # 2^-14, the least normal half, as a float32
_HALF_NORMAL_VALUE = np.float32(2.0**-14)
_REBIAS = np.int32((127 - 15) << 23)
_NORMAL = np.finfo(np.float32).smallest_normal
_ROUNDER = np.float32(3 << 22)  # a float32 of this size has no bits left for a fraction
_ROUNDER_BITS = np.int32(0x4B400000)
_BLOCK = 4096  # elements between two looks at the result: 16 KiB, well inside the first cache


@compiled
def finite_sum(gradient: Float32, residual: Float32) -> bool:
    """Whether g + e holds no NaN and no infinity. Nothing is written."""
    for begin in range(0, gradient.size, _BLOCK):
        g, e = gradient[begin : begin + _BLOCK], residual[begin : begin + _BLOCK]
        largest = np.int32(0)
        for i in range(g.size):
            largest = max(largest, np.int32(np.float32(g[i] + e[i]).view(np.int32) & _INFINITY))
        if largest == _INFINITY:
            return False
    return True


@compiled
def _magnitude(x: np.float32) -> np.int32:
    return np.int32(np.float32(x).view(np.int32) & _MAGNITUDE)


@compiled
def _to_bf16(bits: np.int32) -> np.int32:
    """A float32 rounded to bfloat16, half to even, as the bits of a float32."""
    size, odd = np.int32(bits & _MAGNITUDE), np.int32(np.int32(bits >> 16) & np.int32(1))
    rounded = min(np.int32(size + np.int32(0x7FFF) + odd), _BF16_MOST)
    special = np.int32(size | _QUIET) if size > _INFINITY else size
    kept = rounded if size < _INFINITY else special
    return np.int32(np.int32(kept & _BF16) | np.int32(bits & _SIGN))


@compiled
def encode_bf16(values: Float32, code: UInt16) -> None:
    """The upper halves of the float32s after rounding; a finite value stays finite."""
    for i in range(values.size):
        code[i] = np.int32(_to_bf16(np.float32(values[i]).view(np.int32)) >> 16)


@compiled
def feed_bf16(gradient: Float32, residual: Float32, code: UInt16) -> None:
    """As `encode_bf16` of g + e, which must be finite."""
    for i in range(gradient.size):
        x = np.float32(gradient[i] + residual[i])
        kept = np.int32(_to_bf16(x.view(np.int32)))
        code[i] = np.int32(kept >> 16)
        residual[i] = x - kept.view(np.float32)


@compiled
def decode_bf16(code: UInt16, out: Float32) -> None:
    """Exact."""
    for i in range(out.size):
        out[i] = np.int32(np.int32(code[i]) << 16).view(np.float32)


# IEEE 754 half precision after F. Giesen, "float->half variants" and "half->float variants" (2012,
# public domain): a denormal half comes out of the rounding of one float addition. A processor's own
# instruction would be as exact, but not every compiler target has one.


@compiled
def _to_half(bits: np.int32) -> np.int32:
    """A float32 rounded to half precision, half to even, as the 16 bits of the half."""
    size, odd = np.int32(bits & _MAGNITUDE), np.int32(np.int32(bits >> 13) & np.int32(1))
    normal = np.int32(np.int32(size - _REBIAS + np.int32(0xFFF) + odd) >> 13)
    aligned = np.float32(size.view(np.float32) + np.float32(0.5))
    denormal = np.int32(aligned.view(np.int32) & np.int32(0xFFF))
    code = denormal if size < _HALF_NORMAL else min(normal, _HALF_MOST)
    special = np.int32(0x7E00) if size > _INFINITY else np.int32(0x7C00)
    code = code if size < _INFINITY else special
    return np.int32(code | np.int32(np.int32(bits >> 16) & np.int32(0x8000)))


@compiled
def _from_half(half: np.int32) -> np.int32:
    """The float32 that equals a half, as bits."""
    shifted = np.int32(np.int32(half & np.int32(0x7FFF)) << 13)
    exponent = np.int32(shifted & np.int32(0x0F800000))
    normal = np.int32(shifted + _REBIAS)
    special = np.int32(normal + _REBIAS)
    aligned = np.int32(normal + np.int32(1 << 23))
    denormal = np.float32(aligned.view(np.float32) - _HALF_NORMAL_VALUE)
    size = normal if exponent else np.int32(denormal.view(np.int32))
    size = special if exponent == np.int32(0x0F800000) else size
    return np.int32(size | np.int32(np.int32(half << 16) & _SIGN))


@compiled
def encode_f16(values: Float32, code: UInt16) -> None:
    """The bits of the halves; a finite value beyond ±65,504 becomes that."""
    for i in range(values.size):
        code[i] = _to_half(np.float32(values[i]).view(np.int32))


@compiled
def feed_f16(gradient: Float32, residual: Float32, code: UInt16) -> None:
    """As `encode_f16` of g + e, which must be finite."""
    for i in range(gradient.size):
        x = np.float32(gradient[i] + residual[i])
        half = _to_half(x.view(np.int32))
        code[i] = half
        residual[i] = x - np.int32(_from_half(half)).view(np.float32)


@compiled
def decode_f16(code: UInt16, out: Float32) -> None:
    """Exact."""
    for i in range(out.size):
        out[i] = np.int32(_from_half(np.int32(code[i]))).view(np.float32)


@compiled
def _steps(largest: np.int32) -> tuple[np.float32, np.float32]:
    """The scale of a block, max|x| / 127, and its inverse; 0 and 0 for a block that counts as zero.

    It does where the scale would be denormal, and its inverse could be infinite: max|x| < 1.5e-36.
    The product (unlike the quotient) keeps 127 scale finite for the largest float32.
    """
    most = np.int32(largest).view(np.float32)
    scale = np.float32(most * np.float32(1 / 127))
    if scale < _NORMAL:
        return np.float32(0), np.float32(0)
    return scale, np.float32(127) / most


@compiled
def encode_int8(values: Float32, code: Int8, scales: Float32, block: int) -> None:
    """x / scale, rounded to the nearest, for each block of `block` elements; x must be finite."""
    for b in range(scales.size):
        x, c = values[b * block : (b + 1) * block], code[b * block : (b + 1) * block]
        largest = np.int32(0)
        for i in range(x.size):
            largest = max(largest, _magnitude(x[i]))
        scale, inverse = _steps(largest)
        scales[b] = scale
        for i in range(x.size):
            c[i] = np.float32(x[i] * inverse + _ROUNDER).view(np.int32)


@compiled
def feed_int8(
    gradient: Float32, residual: Float32, code: Int8, scales: Float32, block: int
) -> None:
    """As `encode_int8` of g + e. A block that counts as zero leaves no residual: it would stay
    denormal, and slow, for good."""
    for b in range(scales.size):
        g, e = gradient[b * block : (b + 1) * block], residual[b * block : (b + 1) * block]
        c = code[b * block : (b + 1) * block]
        largest = np.int32(0)
        for i in range(g.size):
            e[i] += g[i]
            largest = max(largest, _magnitude(e[i]))
        scale, inverse = _steps(largest)
        scales[b] = scale
        if scale == 0:
            e[:] = 0
        for i in range(g.size):
            bits = np.int32(np.float32(e[i] * inverse + _ROUNDER).view(np.int32))
            c[i] = bits
            e[i] -= scale * np.float32(np.int32(bits - _ROUNDER_BITS))


@compiled
def decode_int8(code: Int8, scales: Float32, out: Float32, block: int) -> None:
    """scale · c."""
    for b in range(scales.size):
        o, c = out[b * block : (b + 1) * block], code[b * block : (b + 1) * block]
        for i in range(o.size):
            o[i] = scales[b] * np.float32(c[i])


@compiled
def _edge(counts: Int64, wanted: int) -> tuple[int, int]:
    """The bucket that holds the `wanted`-th item from the top, and how many lie above it."""
    above, bucket = 0, counts.size - 1
    while above + counts[bucket] < wanted:
        above += counts[bucket]
        bucket -= 1
    return bucket, above


@compiled
def _at_least(values: Float32, least: np.int32, found: UInt32) -> int:
    """Write the indices of all magnitudes of `least` and more, ascending; return their number."""
    place: int = 0
    for i in range(values.size):  # writes always and steps on sometimes: a branch would mispredict
        found[place] = i
        place += int(_magnitude(values[i]) >= least)
    return place


@compiled
def _topk(values: Float32, kept: Float32, indices: UInt32) -> None:
    """The `kept.size` entries of largest magnitude; of equal ones those of lower index.

    A radix selection, from the top: histograms of the upper 11 bits of all magnitudes, then of the
    next 10 and the last 10 among those that may still be the smallest kept.
    """
    if kept.size == 0:
        return
    counts = np.zeros(2048, np.int64)
    for i in range(values.size):
        counts[_magnitude(values[i]) >> 20] += 1
    least, above = _edge(counts, kept.size)
    candidates = np.empty(values.size, np.uint32)  # few of its pages are ever touched
    found = _at_least(values, np.int32(least << 20), candidates)
    for shift in (10, 0):
        counts[:] = 0
        for j in range(found):
            size = _magnitude(values[candidates[j]]) >> shift
            if size >> 10 == least:
                counts[size & 1023] += 1
        inner, more = _edge(counts, kept.size - above)
        least, above = least << 10 | inner, above + more
    equal, place = kept.size - above, 0
    for j in range(found):
        i = candidates[j]
        size = _magnitude(values[i])
        if size > least or (size == least and equal > 0):
            equal -= size == least
            kept[place], indices[place] = values[i], i
            place += 1


@compiled
def encode_topk(values: Float32, kept: Float32, indices: UInt32) -> None:
    """The `kept.size` entries of largest magnitude, and their indices; values must be finite."""
    _topk(values, kept, indices)


@compiled
def feed_topk(gradient: Float32, residual: Float32, kept: Float32, indices: UInt32) -> None:
    """As `encode_topk` of g + e."""
    for i in range(gradient.size):
        residual[i] += gradient[i]
    _topk(residual, kept, indices)
    for i in indices:
        residual[i] = 0


@compiled
def decode_topk(kept: Float32, indices: UInt32, out: Float32) -> None:
    """Zero wherever nothing was kept."""
    out[:] = 0
    for j in range(indices.size):
        out[indices[j]] = kept[j]


@compiled
def ascending(indices: UInt32) -> bool:
    """Whether each index is greater than the one before."""
    wrong = np.int32(0)
    for j in range(indices.size - 1):
        wrong |= np.int32(indices[j] >= indices[j + 1])
    return bool(wrong == 0)
