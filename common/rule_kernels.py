"""The compiled inner loops of the update rules, of clipping and delay compensation, and the check
for NaN and infinity.

One pass over memory each, without the GIL. Only loops over arrays belong here: hyperparameters,
state and checks are in `rules`. Importing this module imports numba (about a second), so that a
process that only checks a job file does not; a role that applies rules imports it at its start.

Every loop of a rule treats each element by itself and keeps the order of its arithmetic, so that a
vector may be cut into shards at any place and keep its bits (memory is what these loops wait for:
a free order gains nothing). All arrays are one-dimensional, C-contiguous, of one length; parameters
and slots are float32 and written in place, gradients float32 and only read; `numbers` holds the
scalars as float32 (a Python float would turn the arithmetic into float64, and one array goes in
faster than nine np.float32). `out` is a second place for the fresh parameters, which overlaps
nothing, or None. With `absorb` (True, or None for not) the fresh parameters take the gradient's
place and the old ones stay. The compiler makes a loop of its own for each case.

A slot that fades towards zero is set to zero before it becomes denormal: units that get no gradient
any more would otherwise slow their shard down (RMSprop by 2 to 4 times where it was measured).
"""

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled, compiled_exactly
from .types import Float32

_ZERO = np.float32(0)
_NORMAL = np.finfo(np.float32).smallest_normal
_EXPONENT = np.int32(0x7F800000)  # all ones in an IEEE 754 float32 that is NaN or infinite
_BLOCK = 4096  # elements between two looks at the result: 16 KiB, well inside the first cache


@compiled_exactly
def sgd(
    parameters: Float32,
    gradient: Float32,
    out: Float32 | None,
    absorb: bool | None,
    numbers: Float32,
) -> None:
    """p -= shrink p + rate g."""
    rate, shrink = numbers[0], numbers[1]
    for i in range(parameters.size):
        fresh = parameters[i] - (shrink * parameters[i] + rate * gradient[i])
        if absorb is None:
            parameters[i] = fresh
        else:
            gradient[i] = fresh
        if out is not None:
            out[i] = fresh


@compiled_exactly
def momentum(
    parameters: Float32,
    gradient: Float32,
    velocity: Float32,
    out: Float32 | None,
    absorb: bool | None,
    numbers: Float32,
) -> None:
    """v = keep v + g;  p -= shrink p + rate v."""
    rate, shrink, keep = numbers[0], numbers[1], numbers[2]
    for i in range(parameters.size):
        moved = keep * velocity[i] + gradient[i]
        moved = _ZERO if abs(moved) < _NORMAL else moved
        velocity[i] = moved
        fresh = parameters[i] - (shrink * parameters[i] + rate * moved)
        if absorb is None:
            parameters[i] = fresh
        else:
            gradient[i] = fresh
        if out is not None:
            out[i] = fresh


@compiled_exactly
def nesterov(
    parameters: Float32,
    gradient: Float32,
    velocity: Float32,
    out: Float32 | None,
    absorb: bool | None,
    numbers: Float32,
) -> None:
    """v = keep v + g;  p -= shrink p + rate (g + keep v)."""
    rate, shrink, keep = numbers[0], numbers[1], numbers[2]
    for i in range(parameters.size):
        moved = keep * velocity[i] + gradient[i]
        moved = _ZERO if abs(moved) < _NORMAL else moved
        velocity[i] = moved
        ahead = gradient[i] + keep * moved
        fresh = parameters[i] - (shrink * parameters[i] + rate * ahead)
        if absorb is None:
            parameters[i] = fresh
        else:
            gradient[i] = fresh
        if out is not None:
            out[i] = fresh


@compiled_exactly
def adagrad(
    parameters: Float32,
    gradient: Float32,
    squares: Float32,
    out: Float32 | None,
    absorb: bool | None,
    numbers: Float32,
) -> None:
    """v += g²;  p -= shrink p + rate g / (√v + eps)."""
    rate, shrink, eps = numbers[0], numbers[1], numbers[2]
    for i in range(parameters.size):
        total = squares[i] + gradient[i] * gradient[i]
        squares[i] = total
        step = gradient[i] / (np.sqrt(total) + eps)
        fresh = parameters[i] - (shrink * parameters[i] + rate * step)
        if absorb is None:
            parameters[i] = fresh
        else:
            gradient[i] = fresh
        if out is not None:
            out[i] = fresh


@compiled_exactly
def rmsprop(
    parameters: Float32,
    gradient: Float32,
    squares: Float32,
    out: Float32 | None,
    absorb: bool | None,
    numbers: Float32,
) -> None:
    """v = keep v + new g²;  p -= shrink p + rate g / (√(correction v) + eps).

    `new` is 1 - keep, worked out by the caller: in float32 the difference loses five digits.
    """
    rate, shrink = numbers[0], numbers[1]
    keep, new, correction, eps = numbers[2], numbers[3], numbers[4], numbers[5]
    for i in range(parameters.size):
        square = keep * squares[i] + new * (gradient[i] * gradient[i])
        square = _ZERO if square < _NORMAL else square
        squares[i] = square
        step = gradient[i] / (np.sqrt(correction * square) + eps)
        fresh = parameters[i] - (shrink * parameters[i] + rate * step)
        if absorb is None:
            parameters[i] = fresh
        else:
            gradient[i] = fresh
        if out is not None:
            out[i] = fresh


@compiled_exactly
def adam(
    parameters: Float32,
    gradient: Float32,
    mean: Float32,
    squares: Float32,
    out: Float32 | None,
    absorb: bool | None,
    numbers: Float32,
) -> None:
    """m = keep m + new g;  v = keep2 v + new2 g²;
    p -= shrink p + rate correction m / (√(correction2 v) + eps).

    `new` is 1 - keep and `new2` 1 - keep2, worked out by the caller as in `rmsprop`.
    """
    rate, shrink = numbers[0], numbers[1]
    keep, new, correction = numbers[2], numbers[3], numbers[4]
    keep2, new2, correction2, eps = numbers[5], numbers[6], numbers[7], numbers[8]
    for i in range(parameters.size):
        moved = keep * mean[i] + new * gradient[i]
        moved = _ZERO if abs(moved) < _NORMAL else moved
        mean[i] = moved
        square = keep2 * squares[i] + new2 * (gradient[i] * gradient[i])
        square = _ZERO if square < _NORMAL else square
        squares[i] = square
        step = correction * moved / (np.sqrt(correction2 * square) + eps)
        fresh = parameters[i] - (shrink * parameters[i] + rate * step)
        if absorb is None:
            parameters[i] = fresh
        else:
            gradient[i] = fresh
        if out is not None:
            out[i] = fresh


@compiled_exactly
def clip_values(array: Float32, limit: np.float32) -> None:
    """Each element into [-limit, limit]; NaN stays NaN."""
    for i in range(array.size):
        value = array[i]
        value = limit if value > limit else value
        array[i] = -limit if value < -limit else value


@compiled
def squared_norm(array: Float32) -> float:
    """The sum of squares, in float64: 3.4e38 squared is no overflow there."""
    total = 0.0
    for i in range(array.size):
        total += np.float64(array[i]) * np.float64(array[i])
    return total


@compiled_exactly
def multiply(array: Float32, factor: np.float32) -> None:
    """array *= factor."""
    for i in range(array.size):
        array[i] *= factor


@compiled
def clip_norm(array: Float32, limit: float, eps: float) -> float:
    """array *= min(1, limit / (norm + eps)), not touched where that is 1; the norm before it.

    A norm that is NaN makes all elements NaN.
    """
    norm = np.sqrt(squared_norm(array))
    factor = limit / (norm + eps)
    if not factor >= 1.0:
        multiply(array, np.float32(factor))
    return float(norm)


def compensate(
    gradient: Float32, now: Float32, then: Float32, strength: float, out: Float32
) -> None:
    """Delay compensation: out = g + λ g² (now - then), element by element.

    A gradient taken at the parameters `then`, corrected to first order for the parameters `now`:
    g² stands in for the diagonal of the Hessian. Zheng et al. 2017, "Asynchronous stochastic
    gradient descent with delay compensation", equation 10, with λ = `strength` constant.

    All contiguous float32 (n,); `gradient`, `now` and `then` are only read, `out` is written and
    overlaps none of them. Any thread may call it.
    """
    assert gradient.dtype == now.dtype == then.dtype == out.dtype == np.float32
    assert gradient.shape == now.shape == then.shape == out.shape
    reads = read_only(gradient), read_only(now), read_only(then)
    _compensate(*reads, np.float32(strength), out)


@compiled_exactly
def _compensate(
    gradient: Float32, now: Float32, then: Float32, strength: np.float32, out: Float32
) -> None:
    for i in range(out.size):
        g = gradient[i]
        out[i] = g + strength * (g * g) * (now[i] - then[i])


def finite(array: Float32) -> bool:
    """Whether a one-dimensional contiguous float32 array holds no NaN and no infinity.

    Ends at the first block of 4,096 elements that holds one. An empty array is finite. Any thread
    may call it.
    """
    assert array.dtype == np.float32
    return bool(_finite(read_only(array).view(np.int32)))


@compiled
def _finite(bits: NDArray[np.int32]) -> bool:
    # Integers, because the compiler's fast-math may reason away a comparison of floats. The loop
    # indexes a slice from zero and stays in int32: only so is it vectorised (ten times faster).
    for begin in range(0, bits.size, _BLOCK):
        block = bits[begin : begin + _BLOCK]
        largest = np.int32(0)
        for i in range(block.size):
            largest = max(largest, np.int32(block[i] & _EXPONENT))
        if largest == _EXPONENT:
            return False
    return True


def read_only(array: Float32) -> Float32:
    """A view that cannot be written, as an array over a received frame is.

    The compiler takes writable and read-only arrays for two types; with this view there is one, and
    no kernel is compiled a second time in the middle of a run.
    """
    view = array.view()
    view.flags.writeable = False
    return view
