"""Random resized crop: a random part of the image, brought to a square. Nothing else.

Szegedy et al., "Going deeper with convolutions" (2015), section 6: a part of LOW to HIGH of the
area, its aspect from 3/4 to 4/3 uniform in the logarithm as torchvision has it; the first of ten
tries that fits, else the largest centred square.

OpenCV resizes: by the mean of the covered area along a side that shrinks, so that nothing aliases,
and bilinear along one that grows.
"""

from math import log

import cv2
import numpy as np
from numpy.typing import NDArray

from ...common.types import Array, Arrays
from ..randomness import Stream
from .images import images_of

_TRIES = 10
_ASPECT = log(4 / 3)
_TEST_PART = 7 / 8
"""Of the shorter side, for test samples: 224 of 256."""


class ResizedCrop:
    """Cuts out a random part and resizes it to `side` x `side`; immutable, for any thread."""

    def __init__(self, side: int, low: float = 0.08, high: float = 1.0) -> None:
        """Raises ValueError: `low` is above `high`."""
        if low > high:
            raise ValueError("LOW at most HIGH")
        self.side, self.low, self.high = side, low, high

    def __call__(self, arrays: Arrays, random: Stream) -> Arrays:
        """The inputs, (n, side, side) or with channels last; the other arrays as they are.

        Raises:
            UserError: the inputs are no images.
        """
        images = images_of(arrays, ["resized_crop"])
        return (self._resized(images, self.boxes(random, *images.shape[1:3])), *arrays[1:])

    def at_test(self, arrays: Arrays) -> Arrays:
        """The centred square of 7/8 of the shorter side, or of `side` pixels if that is larger
        and fits, resized to `side` x `side`: nothing random.
        """
        images = images_of(arrays, ["resized_crop"])
        height, width = images.shape[1:3]
        shorter = min(height, width)
        square = max(round(_TEST_PART * shorter), min(shorter, self.side))
        box = [(height - square) // 2, (width - square) // 2, square, square]
        return (self._resized(images, np.tile(box, (len(images), 1))), *arrays[1:])

    def boxes(self, random: Stream, height: int, width: int) -> NDArray[np.int64]:
        """(n, 4) int64: top, left, height, width of each image's part."""
        shorter = min(height, width)
        rows, columns = np.full(len(random), shorter), np.full(len(random), shorter)
        for attempt in reversed(range(_TRIES)):
            area = random.uniform(2 * attempt, self.low, self.high).astype(np.float64)
            area *= height * width
            aspect = np.exp(random.uniform(2 * attempt + 1, -_ASPECT, _ASPECT).astype(np.float64))
            tall = np.rint(np.sqrt(area / aspect)).astype(np.int64)
            wide = np.rint(np.sqrt(area * aspect)).astype(np.int64)
            fits = (tall >= 1) & (wide >= 1) & (tall <= height) & (wide <= width)
            rows, columns = np.where(fits, tall, rows), np.where(fits, wide, columns)
        last, fallback = 2 * _TRIES, (rows == shorter) & (columns == shorter)
        free_y, free_x = height - rows, width - columns
        top = (random.uniform(last).astype(np.float64) * (free_y + 1)).astype(np.int64)
        left = (random.uniform(last + 1).astype(np.float64) * (free_x + 1)).astype(np.int64)
        top, left = np.where(fallback, free_y // 2, top), np.where(fallback, free_x // 2, left)
        return np.stack([top, left, rows, columns], axis=1)

    def _resized(self, images: Array, boxes: NDArray[np.int64]) -> Array:
        channels = images.shape[3:]
        result = np.empty((len(images), self.side, self.side, *channels), images.dtype)
        for image, (top, left, rows, columns), resized in zip(images, boxes, result, strict=True):
            part = np.ascontiguousarray(image[top : top + rows, left : left + columns])
            resized[:] = _resize(part, self.side).reshape(resized.shape)
        return result


def _resize(part: Array, side: int) -> Array:
    """An image brought to `side` x `side`. OpenCV's area mode is none where one side grows: those
    that shrink do so first."""
    height, width = part.shape[:2]
    if max(height, width) > side:
        smaller = min(width, side), min(height, side)
        part = np.asarray(cv2.resize(part, smaller, interpolation=cv2.INTER_AREA), part.dtype)
    if part.shape[:2] != (side, side):
        part = np.asarray(cv2.resize(part, (side, side)), part.dtype)
    return part
