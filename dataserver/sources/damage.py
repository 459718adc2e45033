"""What is wrong with an encoded image before it is decoded: files that end early or whose checksums
do not fit. Pure.

The decoders find some of it themselves, but say so on stderr, or fill the rest with grey.
"""

import zlib

_PNG = b"\x89PNG\r\n\x1a\n"


class BadImage(Exception):
    """An image that cannot be decoded; the words say what is wrong with it."""


def check_whole(data: bytes) -> None:
    """Look at a PNG, WebP or BMP; JPEGs are looked at while they are decoded.

    Raises:
        BadImage: it ends early, or a checksum does not fit.
    """
    if not data:
        raise BadImage("it is empty")
    if data[:8] == _PNG:
        _check_png(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        _check_size("WebP", data, 8 + int.from_bytes(data[4:8], "little"))
    elif data[:2] == b"BM" and int.from_bytes(data[30:34], "little") == 0 and len(data) >= 34:
        width, height = (
            abs(int.from_bytes(data[i : i + 4], "little", signed=True)) for i in (18, 22)
        )
        line = (int.from_bytes(data[28:30], "little") * width + 31) // 32 * 4
        _check_size("BMP", data, int.from_bytes(data[10:14], "little") + line * height)


def _check_size(kind: str, data: bytes, size: int) -> None:
    if len(data) < size:
        raise BadImage(f"the {kind} has {len(data):,} of its {size:,} bytes")


def _check_png(data: bytes) -> None:
    """Each chunk is its length, a type, that many bytes, and the CRC-32 of the latter two; the last
    is IEND (PNG specification, section 5.3).
    """
    place, kind = len(_PNG), b""
    view = memoryview(data)
    while kind != b"IEND":
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        if len(data) < max(end, place + 12):
            raise BadImage(f"the PNG ends early, after {len(data):,} bytes")
        kind = data[place + 4 : place + 8]
        expected = int.from_bytes(data[end - 4 : end], "big")
        found = zlib.crc32(view[place + 4 : end - 4])
        if found != expected:
            name = kind.decode("ascii", "backslashreplace")
            raise BadImage(
                f"the PNG is damaged in its chunk {name} at byte {place:,}, whose CRC-32 is "
                f"{found:08x} and should be {expected:08x}"
            )
        place = end
