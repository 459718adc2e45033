"""The compiled inner loops of the update rules, and the check for NaN and infinity.

One pass over memory each, without the GIL. Only loops over arrays belong here: hyperparameters,
state and checks are in `rules`. Importing this module imports numba (about a second), so that a
process that only checks a job file does not; a role that applies rules imports it at its start.

Every loop treats each element by itself, so that a vector may be cut into shards at any place and
keep its bits. All arrays are one-dimensional, C-contiguous, of one length; parameters and slots are
float32 and written in place, gradients float32 and only read; scalars are np.float32 (a Python
float would turn the arithmetic into float64).

A slot that fades towards zero is set to zero before it becomes denormal: units that get no gradient
any more would otherwise slow their shard down (RMSprop by 2 to 4 times where it was measured).
"""

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled
from .types import Float32

_ZERO = np.float32(0)
_NORMAL = np.finfo(np.float32).smallest_normal
_EXPONENT = np.int32(0x7F800000)  # all ones in an IEEE 754 float32 that is NaN or infinite
_BLOCK = 4096  # elements between two looks at the result: 16 KiB, well inside the first cache


@compiled
def sgd(parameters: Float32, gradient: Float32, rate: np.float32, shrink: np.float32) -> None:
    """p -= shrink p + rate g."""
    for i in range(parameters.size):
        parameters[i] -= shrink * parameters[i] + rate * gradient[i]


@compiled
def momentum(
    parameters: Float32,
    gradient: Float32,
    velocity: Float32,
    rate: np.float32,
    shrink: np.float32,
    keep: np.float32,
) -> None:
    """v = keep v + g;  p -= shrink p + rate v."""
    for i in range(parameters.size):
        moved = keep * velocity[i] + gradient[i]
        moved = _ZERO if abs(moved) < _NORMAL else moved
        velocity[i] = moved
        parameters[i] -= shrink * parameters[i] + rate * moved


@compiled
def adagrad(
    parameters: Float32,
    gradient: Float32,
    squares: Float32,
    rate: np.float32,
    shrink: np.float32,
    eps: np.float32,
) -> None:
    """v += g²;  p -= shrink p + rate g / (√v + eps)."""
    for i in range(parameters.size):
        total = squares[i] + gradient[i] * gradient[i]
        squares[i] = total
        step = gradient[i] / (np.sqrt(total) + eps)
        parameters[i] -= shrink * parameters[i] + rate * step


@compiled
def rmsprop(
    parameters: Float32,
    gradient: Float32,
    squares: Float32,
    rate: np.float32,
    shrink: np.float32,
    keep: np.float32,
    fresh: np.float32,
    correction: np.float32,
    eps: np.float32,
) -> None:
    """v = keep v + fresh g²;  p -= shrink p + rate g / (√(correction v) + eps).

    `fresh` is 1 - keep, worked out by the caller: in float32 the difference loses five digits.
    """
    for i in range(parameters.size):
        mean = keep * squares[i] + fresh * (gradient[i] * gradient[i])
        mean = _ZERO if mean < _NORMAL else mean
        squares[i] = mean
        step = gradient[i] / (np.sqrt(correction * mean) + eps)
        parameters[i] -= shrink * parameters[i] + rate * step


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
