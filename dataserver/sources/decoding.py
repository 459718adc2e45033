"""Encoded images (JPEG, PNG, BMP, WebP) to arrays of one size. What one kind needs is in jpeg.py,
what can be wrong with the others in damage.py.

JPEGs are turned as their EXIF orientation says. An image with transparency loses it, one of 16
bits a channel is brought to 8.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .damage import BadImage, check_whole
from .jpeg import decode_jpeg
from .shrink import HALF, shrink

# Whatever OpenCV logs of a damaged image is in the error that names it.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

Image = NDArray[Any]  # of uint8; OpenCV's own types know less

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
"""Names of files that are images, in small letters."""


def parse_resize(text: str) -> tuple[int, int] | None:
    """`data.resize` (checked by its setting) as (height, width); None if it is empty."""
    if not text:
        return None
    sides = [int(side) for side in re.findall(r"[0-9]+", text)]
    return sides[0], sides[-1]


@dataclass(frozen=True, slots=True)
class Decoder:
    """Decodes to (h, w) where `grey`, else to (h, w, 3) in the order red, green, blue.

    `size` (height, width) is what images are scaled to cover, the rest cut off evenly on both
    sides; None: they stay as they are. Any thread may call it; the GIL is free meanwhile.
    """

    size: tuple[int, int] | None = None
    grey: bool = False

    def decode(self, data: bytes) -> Image:
        """The image.

        Raises:
            BadImage: it is damaged, or no image.
        """
        image, rounding = self._decoded(data)
        return image if self.size is None else resized(image, *self.size, rounding)

    def _decoded(self, data: bytes) -> tuple[Image, int]:
        """The image in its own size, and the rounding for `shrink`."""
        if data[:2] == b"\xff\xd8":
            found = decode_jpeg(data, self.grey, self.size)
            if found is not None:
                return found
        check_whole(data)
        flags = cv2.IMREAD_ANYCOLOR if self.grey else cv2.IMREAD_COLOR_RGB
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error as error:
            raise BadImage(f"it cannot be decoded ({error.err})") from None
        if image is None:
            raise BadImage(f"it cannot be decoded, {len(data):,} bytes")
        return image, HALF


def resized(image: Image, height: int, width: int, rounding: int = HALF) -> Image:
    """`image` scaled to cover height x width, and cut to it around its middle.

    What is cut off is cut off first, so that no pixel is scaled that nobody sees. Shrunk, each
    pixel is the mean of the area that it covers; enlarged, it is interpolated between four.
    """
    top, left, h, w = _inner(*image.shape[:2], height, width)
    inner = image[top : top + h, left : left + w]
    if (h, w) == (height, width):
        return inner
    if h >= height and w >= width:
        return shrink(inner, height, width, rounding)
    return cv2.resize(inner, (width, height), interpolation=cv2.INTER_LINEAR)


@lru_cache(1024)
def _inner(h: int, w: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height and width of the part of h x w that becomes height x width."""
    scale = max(height / h, width / w)
    inner_h, inner_w = min(h, round(height / scale)), min(w, round(width / scale))
    return (h - inner_h) // 2, (w - inner_w) // 2, inner_h, inner_w
