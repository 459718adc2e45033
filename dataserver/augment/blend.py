"""The mixture of two batches of samples, compiled. Only the kernel and its call may live here."""

import numpy as np

from ...common.compiled import compiled_exactly
from ...common.types import Array, Float32


def blend(first: Array, second: Array, shares: Float32) -> Array:
    """first * share + second * (1 - share) by sample: both (n, ...), uint8 or float32, of one shape
    and dtype. Any thread may call it; releases the GIL."""
    assert first.shape == second.shape
    assert first.dtype == second.dtype
    first, second = np.ascontiguousarray(first), np.ascontiguousarray(second)
    out = np.empty_like(first)
    n = len(first)
    rounding = np.float32(0.5 if first.dtype == np.uint8 else 0.0)
    _blend(first.reshape(n, -1), second.reshape(n, -1), shares, out.reshape(n, -1), rounding)
    return out


@compiled_exactly
def _blend(first: Array, second: Array, shares: Float32, out: Array, rounding: np.float32) -> None:
    """Storing to uint8 truncates, hence `rounding`."""
    for i in range(len(first)):
        share = shares[i]
        rest = np.float32(1) - share
        for j in range(first.shape[1]):
            mixed = share * np.float32(first[i, j]) + rest * np.float32(second[i, j])
            out[i, j] = mixed + rounding
