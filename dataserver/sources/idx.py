"""The IDX format of MNIST and its successors (LeCun, Cortes, Burges: "The MNIST database").

A file is: two zero bytes, a dtype code (8 is uint8), the number of axes, the length of each axis as
a big-endian uint32, and the elements in C order; gzip may be around it. Only reading lives here.
"""

import gzip
import os
import zlib
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .samples import Origin, Part, Samples, checked

_PREFIX = {"train": "train", "test": "t10k"}
_AGAIN = "download the file again"


def read_idx(origin: Origin, folder: str, part: Part) -> Samples | None:
    """A part of a folder of IDX files: images (n, h, w) uint8; None if there is no test part.

    Raises:
        UserError: files of the part are missing, unreadable or damaged, or do not fit each other.
    """
    place = Path(os.path.expanduser(folder))
    names = (_names(part, "images-idx3"), _names(part, "labels-idx1"))
    found = [_find(place, one) for one in names]
    if part == "test" and found == [None, None]:
        return None
    for one, path in zip(names, found, strict=True):
        if path is None:
            files = f"a file {', '.join(one[:-1])} or {one[-1]}"
            where = f"in {folder}, {'there is none' if place.is_dir() else 'which is no folder'}"
            raise origin.error(f"{files} {where}", "put it there, or name the folder that has it")
    images, labels = (path for path in found if path is not None)
    return checked(
        Samples(
            _parse(origin, images.name, _contents(origin, images), axes=3),
            _parse(origin, labels.name, _contents(origin, labels), axes=1),
            images.name,
            labels.name,
            origin,
        )
    )


def _names(part: Part, kind: str) -> list[str]:
    """The names a file may have: with "-" or "." before "idx", plain or compressed."""
    name = f"{_PREFIX[part]}-{kind}-ubyte"
    other = name.replace("-idx", ".idx")
    return [name, f"{name}.gz", other, f"{other}.gz"]


def _find(folder: Path, names: list[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).exists()), None)


def _contents(origin: Origin, path: Path) -> bytes:
    """The bytes of a file; whether they are compressed is read off the bytes, not off the name."""
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        expected = f"{path.name} to be a whole gzip file, it is damaged ({error})"
        raise origin.error(expected, _AGAIN) from error
    except OSError as error:
        expected = f"{path.name} to be readable, it is not ({error.strerror})"
        raise origin.error(expected, "name a folder whose files can be read") from error


def _parse(origin: Origin, name: str, data: bytes, axes: int) -> NDArray[np.uint8]:
    """The array inside an IDX file of uint8 with this many axes; a read-only view of `data`."""
    begin = 4 + 4 * axes
    if len(data) < begin:
        expected = f"{name} to begin with {begin} bytes of IDX header, it has {len(data)} bytes"
        raise origin.error(expected, _AGAIN)
    magic = bytes([0, 0, 8, axes])
    if data[:4] != magic:
        raise origin.error(
            f"{name} to begin with the bytes {magic.hex(' ')} (IDX, uint8, {axes} axes), it begins "
            f"with {data[:4].hex(' ')}",
            "name a folder of MNIST-format files",
        )
    shape = tuple(int(length) for length in np.frombuffer(data, ">u4", axes, offset=4))
    if len(data) - begin != prod(shape):
        sizes = "x".join(map(str, shape))
        raise origin.error(
            f"{name} to hold {prod(shape):,} bytes after its header ({sizes}), it holds "
            f"{len(data) - begin:,}",
            _AGAIN,
        )
    return np.frombuffer(data, np.uint8, offset=begin).reshape(shape)
