"""The augmentations that a job file can name, and how they are read from its text.

Affine changes that follow one another are multiplied into one map per image and applied by one
interpolation, so that a long list blurs no more than a short one. A new affine change is a class
with one method; a change of another kind is a `Transform` of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

import numpy as np

from ..common.errors import UserError
from ..common.suggest import nearest
from ..common.types import Arrays, Float32
from .attached import AttachedTransform, is_reference
from .dataset import Transform
from .randomness import Stream


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

    def __call__(self, arrays: Arrays, random: Stream) -> Arrays:
        """The inputs changed by every part, the other arrays as they are.

        Raises:
            UserError: the inputs are no images, (n, height, width) or with channels last.
        """
        # numba is slow to import, and a role that only reads the settings has no use for it.
        from .warp import warp

        images = arrays[0]
        if images.ndim not in (3, 4):
            raise UserError(
                "data.augment",
                ", ".join(type(part).__name__.lower() for part in self.parts),
                "samples of shape (height, width) or (height, width, channels), "
                f"and they are {images.shape[1:]}",
                "leave data.augment empty",
            )
        return (warp(images, self.composed(random)[:, :2]), *arrays[1:])

    def composed(self, random: Stream) -> Float32:
        """(n, 3, 3) float32: the product of the parts' maps.

        Maps lead backwards, so the first change is the last to be looked up: it stands leftmost.
        """
        maps = _identities(len(random))
        for ordinal, part in enumerate(self.parts):
            maps = maps @ part.maps(random.child(ordinal))
        return maps


@dataclass(frozen=True, slots=True)
class _Named:
    """An augmentation's name in a job file: what builds it, its unit, and the largest amount."""

    build: type[Shift] | type[Rotate]
    unit: str
    largest: float


_NAMES = {"shift": _Named(Shift, "PIXELS", 4096), "rotate": _Named(Rotate, "DEGREES", 180)}


def parse_augment(texts: Sequence[str]) -> list[Transform]:
    """The transforms of `data.augment`, such as `["shift:2", "rotate:15", "noise.py:add"]`.

    Raises:
        UserError: an unknown name, an amount that is missing, no number, or out of range, or a
            user's transform that cannot be loaded.
    """
    transforms: list[Transform] = []
    for change in map(_parse, texts):
        if not isinstance(change, Affine):
            transforms.append(change)
        elif transforms and isinstance(transforms[-1], Warp):
            transforms[-1] = Warp([*transforms[-1].parts, change])
        else:
            transforms.append(Warp([change]))
    return transforms


def _parse(text: str) -> Affine | AttachedTransform:
    """One entry of `data.augment`: `NAME:AMOUNT`, or a reference."""
    name, _, amount = text.partition(":")
    if name not in _NAMES:
        if is_reference(text, _NAMES):
            return AttachedTransform.load(text)
        forms = ", ".join(f"{known}:{one.unit}" for known, one in _NAMES.items())
        near = nearest(name, _NAMES)
        fix = (
            f"did you mean {near}:{amount or _NAMES[near].unit}?" if near else "write one of these"
        )
        expected = f"{forms}, module:attribute or file.py:attribute"
        raise UserError("data.augment", text, expected, fix)
    named = _NAMES[name]
    try:
        number = float(amount)
    except ValueError:
        number = -1.0
    # A comparison with NaN is false, so that it is refused too.
    if not 0 <= number <= named.largest:
        expected = f"{name}:{named.unit}, {named.unit} a number from 0 to {named.largest:g}"
        raise UserError("data.augment", text, expected, f"write for example {name}:2")
    return named.build(number)


def _identities(n: int) -> Float32:
    """(n, 3, 3) float32, maps that change nothing."""
    return np.tile(np.eye(3, dtype=np.float32), (n, 1, 1))
