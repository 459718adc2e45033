"""A preview of samples as the words and tiles of a contact sheet. No I/O."""

from ..common.types import Arrays
from ..common.urls import without_secrets
from ..dataserver.preview import Preview
from .tiles import Tile, label_text, pixels, value_range

WIDTH = 960
"""Pixels of images in a row, about, where each sample is shown once: four samples to eight."""


def gallery(seen: Preview, seed: int) -> tuple[list[str], list[str], list[list[Tile]]]:
    """The lines of the title, the heading of each column, and the rows of tiles.

    Raises:
        UserError: the samples are no images.
    """
    low, high = value_range([inputs for inputs, *_ in (seen.originals, *seen.versions)])
    first, *others = [
        _column(arrays, low, high, without_secrets(seen.source))
        for arrays in (seen.originals, *seen.versions)
    ]
    named = [
        Tile(tile.image, f"class {tile.caption}, no. {index}")
        for tile, index in zip(first, seen.indices, strict=True)
    ]
    title = _title(seen, seed)
    if (low, high) != (0.0, 1.0):
        title.append(f"black is {low:.3g}, white {high:.3g}")
    if not others:
        length = max(4, min(8, WIDTH // first[0].image.shape[1]))
        return title, [], [named[begin : begin + length] for begin in range(0, len(named), length)]
    headings = ["as it is", *(f"epoch {epoch}" for epoch in seen.epochs)]
    return title, headings, [list(row) for row in zip(named, *others, strict=True)]


def _column(arrays: Arrays, low: float, high: float, source: str) -> list[Tile]:
    images, labels = pixels(arrays[0], low, high, source), arrays[1]
    return [Tile(image, label_text(label)) for image, label in zip(images, labels, strict=True)]


def _title(seen: Preview, seed: int) -> list[str]:
    inputs = seen.originals[0]
    size = " x ".join(map(str, inputs.shape[1:]))
    part = "test" if seen.part == "test" else "training"
    counts = f"{len(inputs)} of {seen.total:,} {part} samples"
    lines = [f"{without_secrets(seen.source)}: {counts}, {size}, {inputs.dtype}"]
    if seen.versions:
        lines.append(f"{', '.join(seen.entries)}; seed {seed}")
    elif seen.entries:
        lines.append("without augmentation, as they are tested on")
    return lines
