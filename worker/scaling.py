"""Inputs as nets take them: float32, bytes as fractions, and normalised where the job says so.

Images travel as bytes, a quarter of what float32 takes; here they become x a + b in one pass, with
a and b by channel: 1 / (255 std) and -mean / std for bytes, 1 / std and -mean / std for float32.
Product and sum are rounded one after the other, so that a device does the same in array code.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.cluster import DataShape
from ..common.compiled import compiled_exactly
from ..common.types import Array, Float32

BYTE = np.float32(1 / 255)

_ROW = 4096
"""Numbers of a sample up to which it is one row to the kernel."""


class Scaling:
    """The scaling of one job's inputs. Keeps a buffer: belongs to one thread."""

    def __init__(self, data: DataShape) -> None:
        """`data.mean` and `data.std` are by channel, of inputs scaled to [0, 1]; empty: none."""
        self.normalises = bool(data.std)
        std = np.array(data.std or [1.0])
        mean = np.array(data.mean or [0.0])
        self._shift = (-mean / std).astype(np.float32)
        self._factor = {
            np.dtype(np.uint8): (1 / (255 * std)).astype(np.float32),
            np.dtype(np.float32): (1 / std).astype(np.float32),
        }
        size = prod(data.sample_shape)
        row = size if size <= _ROW else prod(data.sample_shape[1:])
        repeats = max(1, row // len(std))
        self._rows = {kind: np.tile(factor, repeats) for kind, factor in self._factor.items()}
        self._shifts = np.tile(self._shift, repeats)
        self._there: dict[Any, Any] = {}
        self._shift_there: Any = None
        self._buffer: Float32 = np.empty(0, np.float32)

    def __call__(self, inputs: Array) -> Float32:
        """Inputs (n, ...) uint8 or float32, scaled; valid until the next call.

        float32 that is not normalised comes back as it is.
        """
        return self.all([inputs])[0]

    def all(self, inputs: Sequence[Array]) -> list[Float32]:
        """As one call for each, but that all of them are valid until the next call."""
        self._reserve(sum(array.size for array in inputs))
        scaled, begin = [], 0
        for array in inputs:
            if array.dtype != np.uint8 and not self.normalises:
                scaled.append(array)
                continue
            place = self._buffer[begin : begin + array.size]
            begin += array.size
            if array.size:
                scale(_readable(array), self._rows[array.dtype], self._shifts, place)
            scaled.append(place.reshape(array.shape))
        return scaled

    def on(self, xp: Any, inputs: Any) -> Any:
        """The same in arrays of the module `xp`, on its current stream. Any thread may call it."""
        if not self.normalises:
            is_fraction = inputs.dtype != np.uint8
            return inputs if is_fraction else xp.multiply(inputs, BYTE, dtype=np.float32)
        factor = self._there.get(inputs.dtype)
        if factor is None:
            factor = self._there[inputs.dtype] = xp.asarray(self._factor[inputs.dtype])
            self._shift_there = xp.asarray(self._shift)
        scaled = xp.multiply(inputs, factor, dtype=np.float32)
        scaled += self._shift_there
        return scaled

    def _reserve(self, size: int) -> None:
        if self._buffer.size < size:
            self._buffer = np.empty(size, np.float32)


@compiled_exactly
def scale(values: Array, factors: Float32, shifts: Float32, out: Float32) -> None:
    """out = values * factors + shifts, of which both repeat, by rows of as many as they hold."""
    width = factors.size
    for row in range(values.size // width):
        begin = row * width
        for i in range(width):
            out[begin + i] = np.float32(values[begin + i]) * factors[i] + shifts[i]


def _readable(array: Array) -> NDArray[Any]:
    """All elements in a row, contiguous, aligned and read-only: one kind to compile for."""
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        array = array.copy()
    array = array.reshape(-1)
    array.flags.writeable = False
    return array
