"""Samples that are encoded images somewhere, decoded whenever they are read; and as a `Dataset`.

Their labels are known from the start, their shape from a few of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...common.data_sections import DataSection
from ...common.types import Arrays
from ..corrupt import CorruptSamples
from .damage import BadImage
from .decoding import Decoder, parse_resize
from .samples import Origin

PROBES = 16
"""Images that are looked at, evenly spread, to see whether all are grey."""


class Files(Protocol):
    """Encoded images, numbered from 0. Any thread may call it."""

    def fetch(self, row: int) -> bytes:
        """The bytes of an image.

        Raises:
            UserError: their file cannot be read.
            BadImage: what holds them is damaged.
        """

    def name(self, row: int) -> str:
        """What errors call it: its file, or its place in one."""


@dataclass(frozen=True, slots=True, eq=False)
class EncodedSamples:
    """Images of one part of a source, and their labels, (n,) int64. See `samples.Found`."""

    files: Files
    numbers: NDArray[np.int64]
    labels: NDArray[np.int64]
    shape: tuple[int, ...]
    decoder: Decoder
    skip: bool
    inputs_name: str
    labels_name: str
    origin: Origin

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> None:
        """Known from the labels alone."""

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """Of the inputs."""
        return np.dtype(np.uint8)

    def rows(self, rows: NDArray[np.int64]) -> "EncodedSamples":
        """The samples `rows`, (m,) int64."""
        return replace(self, numbers=self.numbers[rows], labels=self.labels[rows])

    def dataset(self) -> "EncodedDataset":
        """These samples, decoded at each read."""
        return EncodedDataset(self)


class EncodedDataset:
    """Decodes what is read. Any thread may call it."""

    def __init__(self, samples: EncodedSamples) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def read(self, indices: NDArray[np.int64]) -> Arrays:
        """Inputs (n, h, w) or (n, h, w, 3) uint8, and labels (n,) int64.

        Raises:
            UserError: an image that is damaged, unless those are skipped; one of another size.
            CorruptSamples: images that are damaged, where they are skipped.
        """
        found = self._samples
        inputs = np.empty((len(indices), *found.shape), np.uint8)
        reasons: dict[int, str] = {}
        for place, index in enumerate(indices.tolist()):
            number = int(found.numbers[index])
            try:
                image = found.decoder.decode(found.files.fetch(number))
            except BadImage as bad:
                reasons[index] = f"{found.files.name(number)}: {bad}"
                if not found.skip:
                    raise _corrupt(found.files, number, found.origin, bad) from None
                continue
            if image.shape != found.shape:
                raise _differs(found, number, image.shape)
            inputs[place] = image
        if reasons:
            raise CorruptSamples(reasons)
        return inputs, found.labels[indices]


def open_encoded(
    files: Files, labels: Sequence[int], names: tuple[str, str], data: DataSection, origin: Origin
) -> EncodedSamples:
    """The images of `files`; some are decoded, to know the shape of all.

    Arguments:
        labels: n integers from 0.
        names: what errors call the inputs, and the labels.
    Raises:
        UserError: an image that is damaged, unless those are skipped; none that is not.
    """
    assert labels
    skip, size = data.corrupt == "skip", parse_resize(data.resize)
    shapes = _probed(files, len(labels), skip, origin)
    grey = all(len(shape) == 2 for shape in shapes)
    height, width = size or shapes[0][:2]
    shape = (height, width) if grey else (height, width, 3)
    numbers = np.arange(len(labels), dtype=np.int64)
    classes = np.array(labels, dtype=np.int64)
    return EncodedSamples(files, numbers, classes, shape, Decoder(size, grey), skip, *names, origin)


def _probed(files: Files, count: int, skip: bool, origin: Origin) -> list[tuple[int, ...]]:
    """The shapes of some images; with damaged ones skipped, of the first that is not at least."""
    shapes: list[tuple[int, ...]] = []
    wanted = set(np.linspace(0, count - 1, min(PROBES, count)).astype(int).tolist())
    bad: BadImage | None = None
    decoder = Decoder(grey=True)
    for number in range(count):
        if number not in wanted and shapes:
            continue
        if number > max(wanted) and shapes:
            break
        try:
            shapes.append(decoder.decode(files.fetch(number)).shape)
        except BadImage as damaged:
            bad = damaged
            if not skip:
                raise _corrupt(files, number, origin, damaged) from None
    if not shapes:
        raise origin.error(
            f"images, none of the {count:,} can be decoded, the last is "
            f"{files.name(count - 1)}: {bad}",
            "name a data set that is whole",
        )
    return shapes


def _corrupt(files: Files, number: int, origin: Origin, bad: BadImage) -> Exception:
    return origin.error(
        f"whole images, {files.name(number)} is damaged: {bad}",
        "replace or remove it, or set data.corrupt = skip",
    )


def _differs(found: EncodedSamples, number: int, shape: tuple[int, ...]) -> Exception:
    name = found.files.name(number)
    if shape[:2] != found.shape[:2]:
        return found.origin.error(
            f"images of one size, {name} is {shape[0]}x{shape[1]} and the first is "
            f"{found.shape[0]}x{found.shape[1]}",
            "set data.resize, for example to 224",
        )
    return found.origin.error(
        f"grey images, as the {PROBES} that were looked at, {name} is in colour",
        "convert it to grey, or the others to colour",
    )
