"""Elastic deformation, joined with the affine changes beside it into one look-up per pixel.

Simard, Steinkraus and Platt, "Best practices for convolutional neural networks applied to visual
document analysis" (ICDAR 2003), section 2: fields of displacements, uniform over [-1, 1) for each
pixel, smoothed by a Gaussian of standard deviation SIGMA and multiplied by ALPHA, in pixels.

Low rank: with G the matrix that smooths one axis, the field is G N G'. Were N normal, it would have
the distribution of U S Z S U', where G G' = U S^2 U' and Z is normal too; and of U only the few
columns matter whose S is not small. So few numbers are drawn, and none are smoothed.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ...common.types import Arrays, Float32
from ..dataset import Transform
from ..randomness import Stream
from .affine import Affine, Warp
from .images import images_of

KEPT = 0.99
"""Of the variance along each axis, at every pixel; of both 0.98: a deviation within 1 %."""


class Elastic:
    """Affine changes, an elastic one, and affine ones again; immutable, for any thread."""

    def __init__(
        self,
        alpha: float,
        sigma: float,
        before: Sequence[Affine] = (),
        after: Sequence[Affine] = (),
    ) -> None:
        self.alpha, self.sigma = alpha, sigma
        self.before, self.after = tuple(before), tuple(after)

    def joined(self, after: Transform) -> "Elastic | None":
        """The chain of both, if `after` is affine."""
        parts: Sequence[Affine] | None = getattr(after, "reflections", None)
        if isinstance(after, Warp):
            parts = after.parts
        if parts is None:
            return None
        return Elastic(self.alpha, self.sigma, self.before, [*self.after, *parts])

    def __call__(self, arrays: Arrays, random: Stream) -> Arrays:
        """The inputs changed, the other arrays as they are.

        Raises:
            UserError: the inputs are no images, (n, height, width) or with channels last.
        """
        # numba is slow to import, and a role that only reads the settings has no use for it.
        from .displace import displace
        from .maps import compose

        names = [part.name for part in self.before] + ["elastic"]
        images = images_of(arrays, names + [part.name for part in self.after])
        height, width = images.shape[1:3]
        place = len(self.before)
        maps = compose(random.keys, self.before)
        later = compose(random.keys, self.after, place + 1) if self.after else None
        keys = random.child(place).keys
        down = basis(height, self.sigma)
        # Uniform numbers over [-1, 1) have the variance 1/3.
        across = basis(width, self.sigma) * np.float32(self.alpha / 3**0.5)
        return (displace(images, maps, later, keys, down, across), *arrays[1:])


@lru_cache(maxsize=16)
def basis(size: int, sigma: float) -> Float32:
    """(rank, size) float32: rows S U' of the smoothing of an axis of `size` pixels, with the same
    bits on every machine.
    """
    from .spectrum import principal, smoothing

    rows = principal(smoothing(size, sigma))
    parts = np.cumsum(rows**2, axis=0)
    rank = int((parts < KEPT * parts[-1]).sum(axis=0).max()) + 1
    return np.ascontiguousarray(rows[:rank], np.float32)
