"""The IDX format of MNIST and its successors (LeCun, Cortes, Burges: "The MNIST database").

A file is: two zero bytes, a dtype code (8 is uint8), the number of axes, the length of each axis as
a big-endian uint32, and the elements in C order; gzip may be around it. Only reading lives here.
"""

from math import prod

import numpy as np
from numpy.typing import NDArray

from .places import Place
from .samples import Origin, Part, Samples, checked

_PREFIX = {"train": "train", "test": "t10k"}
_AGAIN = "download the file again"


def read_idx(origin: Origin, folder: str, part: Part) -> Samples | None:
    """A part of a folder of IDX files: images (n, h, w) uint8; None if there is no test part.

    Raises:
        UserError: files of the part are missing, unreadable or damaged, or do not fit each other.
    """
    place = Place.of(origin, folder)
    names = (_names(part, "images-idx3"), _names(part, "labels-idx1"))
    found = [_find(place, one) for one in names]
    if part == "test" and found == [None, None]:
        return None
    for one, file in zip(names, found, strict=True):
        if file is None:
            files = f"a file {', '.join(one[:-1])} or {one[-1]}"
            where = f"in {place.text}, {place.lack()}"
            raise origin.error(f"{files} {where}", "put it there, or name the folder that has it")
    images, labels = (file for file in found if file is not None)
    return checked(
        Samples(
            _parse(origin, images.name, images.contents(), axes=3),
            _parse(origin, labels.name, labels.contents(), axes=1),
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


def _find(folder: Place, names: list[str]) -> Place | None:
    return next((folder / name for name in names if (folder / name).exists()), None)


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
