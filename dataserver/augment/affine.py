"""Affine changes of images: each is a random map of places, and a chain of them one warp.

A new affine change is a class with one method here, and a row of the table in grammar.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

import numpy as np

from ...common.types import Arrays, Float32
from ..dataset import Transform
from ..randomness import Stream
from .images import images_of


class Affine(ABC):
    """A random affine change of an image."""

    @abstractmethod
    def maps(self, random: Stream) -> Float32:
        """(n, 3, 3) float32, from a place (x, y, 1) after the change to the place before it.

        In pixels from the centre, x to the right and y downwards.
        """


@dataclass(frozen=True, slots=True)
class Shift(Affine):
    """Moves by up to `pixels` each way, in x and in y; fractions of a pixel interpolate."""

    pixels: float

    def maps(self, random: Stream) -> Float32:
        maps = _identities(len(random))
        maps[:, 0, 2] = random.uniform(0, -self.pixels, self.pixels)
        maps[:, 1, 2] = random.uniform(1, -self.pixels, self.pixels)
        return maps


@dataclass(frozen=True, slots=True)
class Rotate(Affine):
    """Turns about the centre by up to `degrees` either way."""

    degrees: float

    def maps(self, random: Stream) -> Float32:
        angles = random.uniform(0, -self.degrees, self.degrees) * np.float32(pi / 180)
        maps = _identities(len(random))
        maps[:, 0, 0] = maps[:, 1, 1] = np.cos(angles)
        maps[:, 0, 1] = np.sin(angles)
        maps[:, 1, 0] = -maps[:, 0, 1]
        return maps


class Warp:
    """A chain of affine changes as one transform of the inputs; immutable, for any thread."""

    def __init__(self, parts: Sequence[Affine]) -> None:
        self.parts = tuple(parts)

    def joined(self, after: Transform) -> "Warp | None":
        """The chain of both, if `after` is one too."""
        return Warp([*self.parts, *after.parts]) if isinstance(after, Warp) else None

    def __call__(self, arrays: Arrays, random: Stream) -> Arrays:
        """The inputs changed by every part, the other arrays as they are.

        Raises:
            UserError: the inputs are no images, (n, height, width) or with channels last.
        """
        # numba is slow to import, and a role that only reads the settings has no use for it.
        from .warp import warp

        images = images_of(arrays, [type(part).__name__.lower() for part in self.parts])
        return (warp(images, self.composed(random)[:, :2]), *arrays[1:])

    def composed(self, random: Stream) -> Float32:
        """(n, 3, 3) float32: the product of the parts' maps.

        Maps lead backwards, so the first change is the last to be looked up: it stands leftmost.
        """
        maps = _identities(len(random))
        for ordinal, part in enumerate(self.parts):
            maps = maps @ part.maps(random.child(ordinal))
        return maps


def _identities(n: int) -> Float32:
    """(n, 3, 3) float32, maps that change nothing."""
    return np.tile(np.eye(3, dtype=np.float32), (n, 1, 1))
