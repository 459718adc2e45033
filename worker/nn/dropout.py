"""Dropout, and the counter hash that its mask is made of. Nothing else."""

from math import prod
from types import ModuleType

import numpy as np

from ...common.errors import UserError
from ...common.types import Array
from .fused import fused
from .layer import Layer, Named, Sample

_BITS = 24
"""Bits of the hash that are compared: a float32's worth, the highest ones."""


class Dropout(Layer):
    """In training each number is zero with probability `rate`, else multiplied by 1 / (1 - rate).

    In evaluation the identity. G. Hinton et al., "Improving neural networks by preventing
    co-adaptation of feature detectors", 2012, with the scaling in training instead of evaluation.

    The mask is a function of one 64-bit seed, the layer's only draw from `rng` in a step, and of
    the place: element k of the batch (in C order) is kept where the highest 24 bits of number k of
    the splitmix64 stream are below (1 - rate) 2^24, rounded. So it is the same on every device.
    """

    noun = "dropout"

    def __init__(self, rate: float = 0.5) -> None:
        """Raises UserError: `rate` is not in [0, 1)."""
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
            fix = "give the fraction that is dropped, 0.5 for half"
            raise UserError("Dropout.rate", rate, "a number from 0 to below 1", fix)
        self.rate = rate
        self.threshold = round((1 - rate) * 2**_BITS)

    def outputs(self, sample: Sample) -> Sample:
        return sample

    def forward(self, parameters: Named, inputs: Array, rng: np.random.Generator | None) -> Array:
        if rng is None:
            return inputs
        seed = int(rng.integers(2**64, dtype=np.uint64))
        if self.xp is not np:
            scale = float(1 / inputs.dtype.type(1 - self.rate))
            dropped, self._mask = fused(self.xp).drop(inputs, seed, self.threshold, scale)
            return dropped
        numbers: Array = splitmix64(self.xp, seed, prod(inputs.shape)) >> np.uint64(64 - _BITS)
        kept = (numbers < np.uint64(self.threshold)).reshape(inputs.shape)
        self._mask = kept / inputs.dtype.type(1 - self.rate)
        outputs: Array = inputs * self._mask
        return outputs

    def backward(self, parameters: Named, gradients: Named, delta: Array) -> Array:
        return delta * self._mask


def splitmix64(xp: ModuleType, seed: int, count: int) -> Array:
    """The first `count` numbers of the splitmix64 stream, uint64 (count,), as arrays of `xp`.

    Number k is a function of seed + (k + 1) * 0x9E3779B97F4A7C15 alone, modulo 2^64 (G. Steele,
    D. Lea, C. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, figure 16, with
    the constants of S. Vigna's splitmix64.c).
    """
    z: Array = xp.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z += np.uint64(seed)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    last: Array = z ^ (z >> np.uint64(31))
    return last
