"""JPEGs to arrays, by libjpeg-turbo through simplejpeg. Only what is special to them lives here.

OpenCV, which decodes the other kinds, uses the same library, but takes a file that is damaged
inside for whole, with grey or shifted blocks from there on and a warning on stderr. Here every
warning about the compressed data is an error. A JPEG has no checksum: damage that happens to leave
other valid codes (most flips of a single bit, blocks of the wrong colour) nobody can see.
"""

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from ...common.types import Array
from .damage import BadImage
from .shrink import HALF

FAST = 0.75
"""Where an image is shrunk to this or less, it is decoded a tenth faster: its halved colour planes
are doubled by repeating pixels, as the mean over areas that follows interpolates anyway, and the
inverse transform is that of Arai, Agui and Nakajima, with a noise of one level in 255."""
FAST_ROUNDING = HALF + 96
"""For `shrink`, of such an image: that transform rounds down, by 0.7 to 0.8 on average."""

MOST_PIXELS = 1 << 28
"""Of one image: a damaged header may speak of more than there is memory for."""

_RARE = (
    "Could not determine",
    "Inconsistent progression",
    "Invalid SOS parameters",
    "Unknown Adobe",
    "Unsupported color conversion",
    "Unsupported JPEG data precision",
    "Warning",
)
"""How messages begin that do not speak of damage."""

_EXIF = b"Exif\0\0"
_APPLICATION = {*(bytes([0xE0 + n]) for n in range(16)), b"\xfe"}
_ORIENTATION = 0x0112


def decode_jpeg(data: bytes, grey: bool, size: tuple[int, int] | None) -> tuple[Array, int] | None:
    """The image and the rounding that `shrink` shall use for it; None: OpenCV must try, as its
    colours are CMYK or it is of a rare kind.

    It has its own size, (h, w) where it is grey and `grey`, else (h, w, 3), RGB, and is turned as
    its EXIF orientation says.

    Arguments:
        size: what it will be shrunk to cover, (height, width); None: it will not be.
    Raises:
        BadImage: it is damaged.
    """
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if height * width > MOST_PIXELS:
            raise BadImage(f"the JPEG is {height}x{width}, of more than {MOST_PIXELS:,} pixels")
        turn = orientation(data)
        if turn > 4:
            height, width = width, height
        fast = size is not None and max(size[0] / height, size[1] / width) <= FAST
        kind = "GRAY" if grey and colours == "Gray" else "RGB"
        kind = "CMYK" if colours in ("CMYK", "YCCK") else kind
        image: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, kind, fastdct=fast, fastupsample=fast
        )
    except ValueError as error:
        reason = str(error).rpartition("(): ")[2]
        if reason.startswith("Premature end of JPEG file"):
            raise BadImage(f"the JPEG ends early, after {len(data):,} bytes") from None
        if not reason.startswith(_RARE):
            raise BadImage(f"the JPEG is damaged inside ({reason})") from None
        return None
    if kind == "CMYK":
        return None
    image = image[..., 0] if kind == "GRAY" else image
    return turned(image, turn), FAST_ROUNDING if fast else HALF


def turned(image: Array, turn: int) -> Array:
    """The image as it is to be seen, whose EXIF orientation is `turn`, 1 to 8."""
    if turn > 4:
        image = cv2.transpose(image)
    flips = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}
    return cv2.flip(image, flips[turn]) if turn in flips else image


def orientation(data: bytes) -> int:
    """The EXIF orientation of a JPEG, 1 to 8 (Exif 2.32, section 4.6.4); 1 where it says none.

    Only the segments APP0 to APP15 and comments are looked at, which come first.
    """
    place = 2
    while data[place : place + 1] == b"\xff" and data[place + 1 : place + 2] in _APPLICATION:
        size = int.from_bytes(data[place + 2 : place + 4], "big")
        if data[place + 1] == 0xE1 and data[place + 4 : place + 10] == _EXIF:
            return _orientation(data[place + 10 : place + 2 + size])
        place += 2 + size
    return 1


def _orientation(tiff: bytes) -> int:
    """The same of the TIFF structure inside an EXIF segment."""
    order: dict[bytes, str] = {b"II": "<", b"MM": ">"}
    if tiff[:2] not in order:
        return 1
    u2, u4 = order[tiff[:2]] + "u2", order[tiff[:2]] + "u4"

    def number(dtype: str, offset: int) -> int:
        part = tiff[offset : offset + int(dtype[-1])]
        return int(np.frombuffer(part, dtype)[0]) if len(part) == int(dtype[-1]) else 0

    first = number(u4, 4)
    for entry in range(number(u2, first)):
        offset = first + 2 + 12 * entry
        if number(u2, offset) == _ORIENTATION:
            value = number(u2, offset + 8)
            return value if 1 <= value <= 8 else 1
    return 1
