"""The binary version of CIFAR-10 and CIFAR-100 (Krizhevsky 2009). Only reading lives here.

A record is the label (CIFAR-100: the coarse one, then the fine one, which is used), one byte each,
and 3,072 bytes of pixels: a plane of 32x32 each of red, green and blue. The Python version holds
pickles, which are code, and is refused.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .places import Place
from .samples import Origin, Part, Samples, checked

_PIXELS = 3 * 32 * 32
_BINARY = "unpack the binary version, {}-binary.tar.gz, there"


@dataclass(frozen=True, slots=True)
class _Kind:
    """One of the two data sets: its files, and the bytes of labels before the pixels."""

    name: str
    files: dict[Part, list[str]]
    labels: int
    classes: int


_TEN = _Kind(
    "cifar10",
    {"train": [f"data_batch_{n}.bin" for n in range(1, 6)], "test": ["test_batch.bin"]},
    1,
    10,
)
_HUNDRED = _Kind("cifar100", {"train": ["train.bin"], "test": ["test.bin"]}, 2, 100)
_PICKLED = ("data_batch_1", "batches.meta", "cifar-10-batches-py", "cifar-100-python", "meta")


def read_cifar(origin: Origin, folder: str, part: Part) -> Samples | None:
    """A part of a folder: images (n, 32, 32, 3) uint8, RGB; None if there is no test part.

    Raises:
        UserError: a file that is missing, cut off or holds a label that is no class; pickles.
    """
    place = Place.of(origin, folder)
    kind = _kind(origin, place, part)
    files = [place / name for name in kind.files[part]]
    there = [file.exists() for file in files]
    if part == "test" and not any(there):
        return None
    if not all(there):
        missing = kind.files[part][there.index(False)]
        raise origin.error(f"a file {missing} in {place.text}, there is none", "put it there")
    read = [_parse(origin, kind, file) for file in files]
    labels = np.concatenate([one for one, _ in read])
    images = np.concatenate([one for _, one in read])
    name = files[0].name if len(files) == 1 else f"{files[0].name} to {files[-1].name}"
    return checked(Samples(images, labels, name, name, origin))


def _kind(origin: Origin, place: Place, part: Part) -> _Kind:
    """Which of the two data sets a folder holds."""
    for kind in (_TEN, _HUNDRED):
        names = [name for files in kind.files.values() for name in files]
        if any((place / name).exists() for name in names):
            return kind
    for name in _PICKLED:
        if (place / name).exists():
            which = "cifar-100" if name in ("cifar-100-python", "meta") else "cifar-10"
            expected = f"the binary version of CIFAR, {place.text} holds pickles ({name})"
            raise origin.error(expected, _BINARY.format(which))
    expected = (
        f"data_batch_1.bin (CIFAR-10) or train.bin (CIFAR-100) in {place.text}, there is none"
    )
    raise origin.error(expected, _BINARY.format("cifar-10"))


def _parse(origin: Origin, kind: _Kind, file: Place) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Labels (n,) and images (n, 32, 32, 3) of a file."""
    data = file.contents()
    size = kind.labels + _PIXELS
    if len(data) % size or not data:
        raise origin.error(
            f"{file.name} to hold records of {size:,} bytes, it holds {len(data):,} bytes: "
            f"{len(data) // size:,} records and {len(data) % size:,} bytes",
            "download the file again",
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, size)
    labels = records[:, kind.labels - 1]
    if labels.max() >= kind.classes:
        record = int(np.argmax(labels >= kind.classes))
        raise origin.error(
            f"labels from 0 to {kind.classes - 1} in {file.name}, record {record} at offset "
            f"{record * size + kind.labels - 1:,} has {labels[record]}",
            "download the file again",
        )
    images = records[:, kind.labels :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return labels, np.ascontiguousarray(images)
