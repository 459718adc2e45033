"""The binary version of CIFAR-10 and CIFAR-100 (Krizhevsky 2009). Only reading lives here.

A record is the label (CIFAR-100: the coarse one, then the fine one, which is used), one byte each,
and 3,072 bytes of pixels: a plane of 32x32 each of red, green and blue. The Python version holds
pickles, which are code, and is refused. The files may lie in a folder, or in the tar in which they
were published.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .places import Place
from .samples import Origin, Part, Samples, checked
from .tars import read_tar

_PIXELS = 3 * 32 * 32
_BINARY = "put {0.tar} there, dualshard data fetch {0.name} downloads it"
_TARS = (".tar.gz", ".tgz", ".tar")


@dataclass(frozen=True, slots=True)
class _Kind:
    """One of the two data sets: its name for `dualshard data fetch`, the tar of its files, these,
    and the bytes of labels before the pixels."""

    name: str
    tar: str
    files: dict[Part, list[str]]
    labels: int
    classes: int


_TEN = _Kind(
    "cifar10",
    "cifar-10-binary.tar.gz",
    {"train": [f"data_batch_{n}.bin" for n in range(1, 6)], "test": ["test_batch.bin"]},
    1,
    10,
)
_HUNDRED = _Kind(
    "cifar100", "cifar-100-binary.tar.gz", {"train": ["train.bin"], "test": ["test.bin"]}, 2, 100
)
_KINDS = (_TEN, _HUNDRED)
_PICKLED = (
    *("data_batch_1", "batches.meta", "cifar-10-batches-py", "cifar-10-python.tar.gz"),
    *("cifar-100-python", "cifar-100-python.tar.gz", "meta"),
)


@dataclass(frozen=True, slots=True)
class _Box:
    """What holds the files: a folder or a tar."""

    text: str
    has: Callable[[str], bool]
    read: Callable[[str], bytes | memoryview]
    lack: Callable[[], str]
    """Why a file is not in it."""


def read_cifar(origin: Origin, text: str, part: Part) -> Samples | None:
    """A part of a folder or of a tar: images (n, 32, 32, 3) uint8, RGB; None if there is no test
    part.

    Raises:
        UserError: a file that is missing, cut off or holds a label that is no class; pickles.
    """
    place = Place.of(origin, text)
    box = _box(place)
    kind = _kind(origin, box)
    names = kind.files[part]
    there = [box.has(name) for name in names]
    if part == "test" and not any(there):
        return None
    if not all(there):
        missing = names[there.index(False)]
        raise origin.error(f"a file {missing} in {box.text}, there is none", "put it there")
    read = [_parse(origin, kind, name, box.read(name)) for name in names]
    labels = np.concatenate([one for one, _ in read])
    images = np.concatenate([one for _, one in read])
    name = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    return checked(Samples(images, labels, name, name, origin))


def _box(place: Place) -> _Box:
    """The tar that a place is; else the folder, or where that has no such files, the tar in it."""
    if place.name.endswith(_TARS):
        return _packed(place)
    folder = _Box(
        place.text,
        lambda name: (place / name).exists(),
        lambda name: (place / name).contents(),
        place.lack,
    )
    if not any(_files_of(kind, folder) for kind in _KINDS):
        for kind in _KINDS:
            if folder.has(kind.tar):
                return _packed(place / kind.tar)
    return folder


def _packed(tar: Place) -> _Box:
    files = read_tar(tar)
    return _Box(tar.text, files.__contains__, files.__getitem__, lambda: "there is none")


def _files_of(kind: _Kind, box: _Box) -> bool:
    """Whether a box has any of the files."""
    return any(box.has(name) for names in kind.files.values() for name in names)


def _kind(origin: Origin, box: _Box) -> _Kind:
    """Which of the two data sets a box holds."""
    for kind in _KINDS:
        if _files_of(kind, box):
            return kind
    for name in _PICKLED:
        if box.has(name):
            other = _HUNDRED if name.startswith(("cifar-100", "meta")) else _TEN
            expected = f"the binary version of CIFAR, {box.text} holds pickles ({name})"
            raise origin.error(expected, _BINARY.format(other))
    names = "data_batch_1.bin (CIFAR-10) or train.bin (CIFAR-100)"
    raise origin.error(f"{names} in {box.text}, {box.lack()}", _BINARY.format(_TEN))


def _parse(
    origin: Origin, kind: _Kind, name: str, data: bytes | memoryview
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Labels (n,) and images (n, 32, 32, 3) of a file."""
    size = kind.labels + _PIXELS
    if len(data) % size or not data:
        raise origin.error(
            f"{name} to hold records of {size:,} bytes, it holds {len(data):,} bytes: "
            f"{len(data) // size:,} records and {len(data) % size:,} bytes",
            "download the file again",
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, size)
    labels = records[:, kind.labels - 1]
    if labels.max() >= kind.classes:
        record = int(np.argmax(labels >= kind.classes))
        raise origin.error(
            f"labels from 0 to {kind.classes - 1} in {name}, record {record} at offset "
            f"{record * size + kind.labels - 1:,} has {labels[record]}",
            "download the file again",
        )
    images = records[:, kind.labels :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return labels, np.ascontiguousarray(images)
