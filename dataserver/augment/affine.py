"""Affine changes of images: each is a random map of places, and a chain of them one warp.

A new affine change is a kind and a function here, its map in maps.py, and a row of the table in
grammar.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import radians

from ...common.types import Arrays, Float32
from ..dataset import Transform
from ..randomness import Stream
from .images import images_of


class Kind(IntEnum):
    """What an affine change does between its two amounts `low` and `high`."""

    SHIFT = 0
    """By low..high pixels, in x and in y."""
    ROTATE = 1
    """By low..high radians, about the centre."""
    SCALE = 2
    """By a factor of low..high, uniform in its logarithm: half as often as twice."""
    SHEAR = 3
    """By an angle of low..high radians along x, then another along y."""
    REFLECT = 4
    """With probability 1/2, left and right if `low`, top and bottom if `high` is not 0."""


@dataclass(frozen=True, slots=True)
class Affine:
    """A random affine change of an image."""

    kind: Kind
    low: float
    high: float

    @property
    def name(self) -> str:
        """As in a job file."""
        return self.kind.name.lower()


def shift(pixels: float) -> Affine:
    """Moves by up to `pixels` each way, in x and in y; fractions of a pixel interpolate."""
    return Affine(Kind.SHIFT, -pixels, pixels)


def rotate(degrees: float) -> Affine:
    """Turns about the centre by up to `degrees` either way."""
    return Affine(Kind.ROTATE, -radians(degrees), radians(degrees))


def scale(low: float, high: float) -> Affine:
    """Enlarges about the centre by a factor from `low` to `high`.

    Raises:
        ValueError: `low` is above `high`.
    """
    if low > high:
        raise ValueError("LOW at most HIGH")
    return Affine(Kind.SCALE, low, high)


def shear(degrees: float) -> Affine:
    """Slants by up to `degrees` either way, along x and then along y."""
    return Affine(Kind.SHEAR, -radians(degrees), radians(degrees))


class Warp:
    """A chain of affine changes as one transform of the inputs; immutable, for any thread."""

    def __init__(self, parts: Sequence[Affine]) -> None:
        self.parts = tuple(parts)

    def joined(self, after: Transform) -> "Warp | None":
        """The chain of both, if `after` is one too, or reflects and no more."""
        if isinstance(after, Warp):
            return Warp([*self.parts, *after.parts])
        reflections: list[Affine] | None = getattr(after, "reflections", None)
        return None if reflections is None else Warp([*self.parts, *reflections])

    def __call__(self, arrays: Arrays, random: Stream) -> Arrays:
        """The inputs changed by every part, the other arrays as they are.

        Raises:
            UserError: the inputs are no images, (n, height, width) or with channels last.
        """
        # numba is slow to import, and a role that only reads the settings has no use for it.
        from .warp import warp

        images = images_of(arrays, [part.name for part in self.parts])
        return (warp(images, self.maps(random)), *arrays[1:])

    def maps(self, random: Stream) -> Float32:
        """(n, 2, 3) float32: the product of the parts' maps (see maps.py)."""
        from .maps import compose

        return compose(random.keys, self.parts)
