"""Encoded images (JPEG, PNG, BMP, WebP) to arrays of one size. OpenCV decodes; what it lets pass
although the file is damaged is found here.

JPEGs are turned as their EXIF orientation says. An image with transparency loses it, one of 16
bits a channel is brought to 8.
"""

import re
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[Any]  # of uint8; OpenCV's own types know less

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
"""Names of files that are images, in small letters."""


class BadImage(Exception):
    """An image that cannot be decoded; the words say what is wrong with it."""


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
        image = _decoded(data, cv2.IMREAD_ANYCOLOR if self.grey else cv2.IMREAD_COLOR_RGB)
        return image if self.size is None else resized(image, *self.size)


def decode_as_stored(data: bytes) -> Image:
    """The image in its own size: (h, w) if it is grey, else (h, w, 3) in the order of OpenCV.

    Raises:
        BadImage: it is damaged, or no image.
    """
    return _decoded(data, cv2.IMREAD_ANYCOLOR)


def _decoded(data: bytes, flags: int) -> Image:
    reason = damage(data)
    if reason:
        raise BadImage(reason)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise BadImage(f"it cannot be decoded ({error.err})") from None
    if image is None:
        raise BadImage(f"it cannot be decoded, {len(data):,} bytes")
    return image


def damage(data: bytes) -> str:
    """What is wrong with a file that ends early, which OpenCV fills with grey; empty: nothing.

    The last scan of a JPEG (marker FF DA, which its data never contains) must be followed by the
    end of the image (FF D9); a PNG ends with a chunk IEND; a WebP says its own size.
    """
    if not data:
        return "it is empty"
    if data[:2] == b"\xff\xd8":
        whole = data[-2:] == b"\xff\xd9" or data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")
        return "" if whole else f"the JPEG ends early, after {len(data):,} bytes"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        whole = b"IEND" in data[-32:] or b"IEND" in data
        return "" if whole else f"the PNG ends early, after {len(data):,} bytes"
    if data[:4] == b"RIFF":
        size = 8 + int.from_bytes(data[4:8], "little")
        return "" if len(data) >= size else f"the WebP has {len(data):,} of its {size:,} bytes"
    return ""


def resized(image: Image, height: int, width: int) -> Image:
    """`image` scaled to cover height x width, and cut to it around its middle.

    What is cut off is cut off first, so that no pixel is scaled that nobody sees. Down to half its
    size each pixel is interpolated between four (which see all of the image then, and take an
    eighth of the time); below that it is the mean of the area that it covers.
    """
    h, w = image.shape[:2]
    scale = max(height / h, width / w)
    inner_h, inner_w = min(h, round(height / scale)), min(w, round(width / scale))
    top, left = (h - inner_h) // 2, (w - inner_w) // 2
    inner = image[top : top + inner_h, left : left + inner_w]
    if (inner_h, inner_w) == (height, width):
        return inner
    method = cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR
    return cv2.resize(inner, (width, height), interpolation=method)
