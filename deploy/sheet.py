"""A contact sheet: images in rows and columns with their captions, drawn into a PNG. Nothing else.

Images are put into one array pixel by pixel, so that each pixel of a small one is a square of
whole pixels; only the text is drawn.
"""

import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .tiles import Pixels, Tile

DPI = 100
USUAL, LARGEST = 112, 240
"""Pixels of a side: what small images are enlarged to, about, and large ones brought down to."""
CHARACTER = 6.4
"""The width of an average one of a caption, in pixels."""
MARGIN, GAP, LINE, NARROWEST = 16, 10, 18, 700
BORDER = 170
"""The grey of the frame around each image, which may be black or white at its edges."""


@dataclass(frozen=True, slots=True)
class Words:
    """Text with its upper left corner at (x, y), in pixels."""

    x: int
    y: int
    text: str
    weight: str = "normal"


def draw_sheet(
    path: Path, title: Sequence[str], headings: Sequence[str], rows: Sequence[Sequence[Tile]]
) -> None:
    """Draw `rows` of tiles under `headings`, one for each column, or none.

    Raises:
        OSError: the file cannot be written.
    """
    grid = [[Tile(_fitted(tile.image), tile.caption) for tile in row] for row in rows]
    widths = _widths(grid, headings)
    heights = [max(tile.image.shape[0] for tile in row) for row in grid]
    lefts = [MARGIN + sum(widths[:column]) + GAP * column for column in range(len(widths))]
    width = max(lefts[-1] + widths[-1] + MARGIN, NARROWEST)
    words = _title(title, width)
    top = MARGIN + LINE * len(words) + GAP
    words += [Words(x, top, text, "bold") for x, text in zip(lefts, headings, strict=False)]
    top += LINE if headings else 0
    height = top + sum(heights) + (LINE + GAP) * len(grid) + MARGIN - GAP
    canvas = np.full((height, width, 3), 255, np.uint8)
    for row, tallest in zip(grid, heights, strict=True):
        for tile, left in zip(row, lefts, strict=False):
            words.append(Words(left, top, tile.caption))
            _put(canvas, tile.image, top + LINE, left)
        top += tallest + LINE + GAP
    _save(path, canvas, words)


def _title(lines: Sequence[str], width: int) -> list[Words]:
    """The lines at the top, wrapped to the width of the sheet."""
    fitting = int((width - 2 * MARGIN) / CHARACTER)
    wrapped = [part for line in lines for part in textwrap.wrap(line, fitting)]
    return [Words(MARGIN, MARGIN + LINE * row, line) for row, line in enumerate(wrapped)]


def _widths(grid: Sequence[Sequence[Tile]], headings: Sequence[str]) -> list[int]:
    """Pixels of each column: of its images and of its words."""
    widths = [int(CHARACTER * len(heading)) for heading in headings]
    widths += [0] * (max(map(len, grid)) - len(widths))
    for row in grid:
        for column, tile in enumerate(row):
            words = int(CHARACTER * len(tile.caption))
            widths[column] = max(widths[column], words, tile.image.shape[1] + 2)
    return widths


def _fitted(image: Pixels) -> Pixels:
    """Enlarged by a whole factor, or brought down to the largest side by the mean of an area."""
    side = max(image.shape[:2])
    if side <= LARGEST:
        factor = max(1, round(USUAL / side))
        return image.repeat(factor, axis=0).repeat(factor, axis=1)
    # OpenCV is slow to import, and the command's help has no use for it.
    import cv2

    height, width = (max(1, round(one * LARGEST / side)) for one in image.shape[:2])
    smaller = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(smaller, np.uint8)


def _put(canvas: Pixels, image: Pixels, top: int, left: int) -> None:
    height, width = image.shape[:2]
    canvas[top - 1 : top + height + 1, left - 1 : left + width + 1] = BORDER
    canvas[top : top + height, left : left + width] = image


def _save(path: Path, canvas: Pixels, words: Sequence[Words]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = canvas.shape[:2]
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    figure.figimage(canvas, origin="upper")
    for one in words:
        x, y = one.x / width, 1 - one.y / height
        figure.text(x, y, one.text, va="top", size=8, weight=one.weight, parse_math=False)
    with warnings.catch_warnings():
        # A path may hold letters that the font lacks: boxes stand for them.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure.savefig(path, format="png", dpi=DPI)
