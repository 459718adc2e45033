"""Changes that move or blank whole pixels: crop with padding, reflect, cutout; a chain is one pass.

Nothing is interpolated, so that every value of the result is one of the image, or zero. A new one
is a kind and a function here, its case in moves.py, and a row of the table in grammar.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from ...common.errors import UserError
from ...common.types import Array, Arrays
from ..dataset import Transform
from ..randomness import Stream
from .affine import Affine, Kind, Warp
from .images import images_of


class Move(IntEnum):
    """What is done with the whole `amount` of an entry."""

    CROP = 0
    """Padded by `amount` zeros on each side, and cut back to its size at a random place."""
    REFLECT = 1
    """With probability 1/2: bit 0 of `amount` left and right, bit 1 top and bottom."""
    CUTOUT = 2
    """Zeros in a square of `amount` pixels, its centre anywhere in the image."""


@dataclass(frozen=True, slots=True)
class Moved:
    """One part of a chain of such changes."""

    move: Move
    amount: int

    @property
    def name(self) -> str:
        """As in a job file."""
        return self.move.name.lower()


def crop(pixels: int) -> "Pixels":
    """Pads by `pixels` zeros on each side and cuts the image's size out of that.

    As in He et al., "Deep residual learning for image recognition" (2016), section 4.2.
    """
    return Pixels([Moved(Move.CROP, pixels)])


def reflect(axes: int = 1) -> "Pixels":
    """Mirrors with probability 1/2: bit 0 of `axes` left and right, bit 1 top and bottom."""
    return Pixels([Moved(Move.REFLECT, axes)])


def cutout(side: int) -> "Pixels":
    """Blanks a square that may lie partly outside (DeVries and Taylor, arXiv 1708.04552)."""
    return Pixels([Moved(Move.CUTOUT, side)])


class Pixels:
    """A chain of such changes as one transform of the inputs; immutable, for any thread."""

    def __init__(self, parts: Sequence[Moved]) -> None:
        self.parts = tuple(parts)

    def joined(self, after: Transform) -> Transform | None:
        """The chain of both; reflections before a warp become a part of it."""
        if isinstance(after, Pixels):
            return Pixels([*self.parts, *after.parts])
        if isinstance(after, Warp) and self.reflections is not None:
            return Warp(self.reflections).joined(after)
        return None

    @property
    def reflections(self) -> list[Affine] | None:
        """The chain as affine changes, if it is nothing but reflections."""
        if any(part.move != Move.REFLECT for part in self.parts):
            return None
        return [Affine(Kind.REFLECT, part.amount & 1, part.amount >> 1) for part in self.parts]

    def __call__(self, arrays: Arrays, random: Stream) -> Arrays:
        """The inputs changed by every part, the other arrays as they are.

        Raises:
            UserError: the inputs are no images, or smaller than what is cropped or cut out.
        """
        # numba is slow to import, and a role that only reads the settings has no use for it.
        from .moves import move

        images = images_of(arrays, [part.name for part in self.parts])
        for part in self.parts:
            _check_size(part, images)
        return (move(images, random.keys, self.parts), *arrays[1:])


def _check_size(part: Moved, images: Array) -> None:
    height, width = images.shape[1:3]
    if part.move != Move.REFLECT and part.amount > min(height, width):
        raise UserError(
            "data.augment",
            f"{part.name}:{part.amount}",
            f"at most the shorter side of the images, and they are {height} x {width}",
            f"write {part.name}:{min(height, width)} or less",
        )
