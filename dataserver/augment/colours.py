"""Brightness, contrast and saturation: a chain of them is one map of colours for each image.

As torchvision's ColorJitter has them ("Models and pre-trained weights", functional.adjust_*): each
blends the image x with another by a factor f uniform in [1 - AMOUNT, 1 + AMOUNT], f x + (1 - f) y;
y is black for brightness, the mean grey of the image for contrast, the image in grey for
saturation. Grey is 0.299 R + 0.587 G + 0.114 B (Recommendation ITU-R BT.601, section 2.5.1).

torchvision clips, and rounds bytes, after each. Here the product of all is clipped to the range of
the image and rounded once, so that what one part would push out of it the next can bring back; the
mean grey of contrast is that of the image after the parts before it, not clipped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from ...common.cluster import channels_of
from ...common.errors import UserError
from ...common.types import Array, Arrays
from ..dataset import Transform
from ..randomness import Stream
from .images import images_of


class Tone(IntEnum):
    """What the image is blended with."""

    BRIGHTNESS = 0
    """Black."""
    CONTRAST = 1
    """The mean of its grey image."""
    SATURATION = 2
    """Its grey image."""


_CHANNELS: dict[Tone, tuple[int, ...]] = {Tone.CONTRAST: (1, 3), Tone.SATURATION: (3,)}
"""The channels that a tone can be of; one that is not listed takes any."""


@dataclass(frozen=True, slots=True)
class Toned:
    """One part of a chain: the factor lies in [1 - amount, 1 + amount]."""

    tone: Tone
    amount: float

    @property
    def name(self) -> str:
        """As in a job file."""
        return self.tone.name.lower()


def brightness(amount: float) -> "Colours":
    """Multiplies all values by the factor."""
    return Colours([Toned(Tone.BRIGHTNESS, amount)])


def contrast(amount: float) -> "Colours":
    """Multiplies the differences to the mean grey by the factor."""
    return Colours([Toned(Tone.CONTRAST, amount)])


def saturation(amount: float) -> "Colours":
    """Multiplies each pixel's differences to its grey by the factor."""
    return Colours([Toned(Tone.SATURATION, amount)])


class Colours:
    """A chain of such changes as one transform of the inputs; immutable, for any thread."""

    def __init__(self, parts: Sequence[Toned]) -> None:
        self.parts = tuple(parts)

    def joined(self, after: Transform) -> "Colours | None":
        """The chain of both."""
        return Colours([*self.parts, *after.parts]) if isinstance(after, Colours) else None

    def __call__(self, arrays: Arrays, random: Stream) -> Arrays:
        """The inputs changed by every part, of their dtype: uint8 rounded to the nearest, float32
        within [0, 1]. The other arrays as they are.

        Raises:
            UserError: the inputs are no images, or of channels that a part has no meaning for.
        """
        # numba is slow to import, and a role that only reads the settings has no use for it.
        from .recolour import recolour

        images = images_of(arrays, [part.name for part in self.parts])
        for part in self.parts:
            _check_channels(part, images)
        return (recolour(images, random.keys, self.parts), *arrays[1:])


def _check_channels(part: Toned, images: Array) -> None:
    channels = channels_of(images.shape[1:])
    wanted = _CHANNELS.get(part.tone, (channels,))
    if channels not in wanted:
        raise UserError(
            "data.augment",
            f"{part.name}:{part.amount:g}",
            f"images of {' or '.join(map(str, wanted))} channels, and they have {channels}, "
            f"in shape {images.shape[1:]}",
            f"leave {part.name} out",
        )
