"""Gaussian noise: a normal number of its own is added to each channel of each pixel. Nothing else.

The numbers are quantiles of the normal distribution at the middles of 8,192 equal steps of
probability, scaled to the variance 1: none is beyond 3.9 deviations. As integers, in steps of
1/4096 of a deviation, they are the same on every machine.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ...common.types import Arrays
from ..randomness import Stream
from .images import images_of

STEPS = 8192
"""A power of two: its logarithm is how many random bits a number takes."""
UNIT = 2.0**-12
"""Of the table, in standard deviations."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Adds noise of standard deviation `deviation`, in units of the range [0, 1]."""

    deviation: float

    def __call__(self, arrays: Arrays, random: Stream) -> Arrays:
        """The inputs with noise, of their dtype: uint8 rounded to the nearest, float32 within
        [0, 1]. The other arrays as they are.

        Raises:
            UserError: the inputs are no images.
        """
        # numba is slow to import, and a role that only reads the settings has no use for it.
        from .grain import add_grain

        images = images_of(arrays, ["noise"])
        return (add_grain(images, random.keys, quantiles(), self.deviation * UNIT), *arrays[1:])


@lru_cache(maxsize=1)
def quantiles() -> NDArray[np.int16]:
    """(STEPS,) int16, ascending: the normal numbers, in `UNIT`."""
    # scipy.special takes a while to import, which only this transform should cost.
    from scipy.special import ndtri

    exact = ndtri((np.arange(STEPS) + 0.5) / STEPS)
    return np.asarray(np.rint(exact / (exact.std() * UNIT)), np.int16)
