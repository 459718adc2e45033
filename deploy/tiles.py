"""Samples as pictures with captions: what pixels a value becomes, what words a label. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..common.errors import UserError
from ..common.types import Array

Pixels = NDArray[np.uint8]
LEAST = 0.005
"""Of a mixture: a smaller share reads as 0.00, and is left out."""


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """An image, (height, width, 3) uint8, with the words above it."""

    image: Pixels
    caption: str


def value_range(arrays: Sequence[Array]) -> tuple[float, float]:
    """What is black and what is white in float32 inputs: 0 and 1, or what lies beyond them."""
    floats = [array for array in arrays if array.dtype != np.uint8 and array.size]
    low = min((float(array.min()) for array in floats), default=0.0)
    high = max((float(array.max()) for array in floats), default=1.0)
    return min(low, 0.0), max(high, 1.0)


def pixels(images: Array, low: float = 0.0, high: float = 1.0, source: str = "") -> Pixels:
    """(n, height, width, 3) uint8 of inputs: bytes as they are, float32 from `low` to `high`.

    Raises:
        UserError: the inputs of `source` are no images of 1 or 3 channels.
    """
    shape = images.shape[1:]
    if len(shape) not in (2, 3) or shape[2:] not in ((), (1,), (3,)):
        raise UserError(
            "data.source",
            source,
            "images to show, of shape (height, width) or (height, width, 1 or 3), and its samples "
            f"are {shape}",
            "choose another source",
        )
    if images.dtype != np.uint8:
        images = np.rint((images - low) * (255 / (high - low))).astype(np.uint8)
    channels_last = images.reshape(*images.shape[:3], -1)
    return np.asarray(np.broadcast_to(channels_last, (*channels_last.shape[:3], 3)), np.uint8)


def label_text(label: Array) -> str:
    """`7` of a class, `7 0.83 + 2 0.17` of a row of probabilities."""
    if label.ndim == 0:
        return str(label)
    largest = [int(one) for one in np.argsort(-label, kind="stable") if label[one] >= LEAST]
    if len(largest) == 1:
        return str(largest[0])
    return " + ".join(f"{one} {label[one]:.2f}" for one in largest)
