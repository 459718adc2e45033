"""Augmentations as one would write them oneself, with OpenCV or NumPy. Nothing is measured here."""

from typing import cast

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..common.types import Array, Float32

NOTHING = cast(Array, None)
"""In place of a second map: OpenCV's own types do not know that there may be none."""


def elastic_loop(
    images: Array,
    maps: Float32,
    alpha: float,
    sigma: float,
    random: np.random.Generator,
    out: Array,
) -> None:
    """Elastic and affine together, an image at a time with one look-up (Simard et al. 2003).

    Arguments:
        images, out: (n, height, width) uint8.
        maps: (n, 2, 3) float32, from places (x, y) of `out` to places of `images`.
        alpha, sigma: as the augmentation `elastic` takes them.
    """
    height, width = images.shape[1:]
    noise = random.random((*images.shape, 2), np.float32)
    noise *= np.float32(2 * alpha)
    noise -= np.float32(alpha)
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=2).astype(np.float32)
    reach = 2 * int(np.ceil(4 * sigma)) + 1
    for image, one, field, warped in zip(images, maps, noise, out, strict=True):
        moved = cv2.GaussianBlur(field, (reach, reach), sigma, borderType=cv2.BORDER_CONSTANT)
        moved += grid
        places = cv2.transform(moved, one)
        cv2.remap(image, places, NOTHING, cv2.INTER_LINEAR, dst=warped)


def move_by_gathering(images: Array, pad: int, side: int, random: np.random.Generator) -> Array:
    """Crop with padding, flip and cutout of (n, height, width, 3) uint8, by one gather of indices.

    Arguments:
        pad: zeros around an image, of which its own size is cut.
        side: of the square that is blanked, its centre anywhere.
    """
    n, height, width = images.shape[:3]
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows = random.integers(0, 2 * pad + 1, (n, 1)) + np.arange(height)
    columns = random.integers(0, 2 * pad + 1, (n, 1)) + np.arange(width)
    columns = np.where(random.random((n, 1)) < 0.5, columns[:, ::-1], columns)
    moved: Array = padded[np.arange(n).reshape(n, 1, 1), rows[:, :, None], columns[:, None, :]]
    return _blank(moved, side, random)


def move_by_windows(images: Array, pad: int, side: int, random: np.random.Generator) -> Array:
    """The same by copies of windows."""
    n, height, width = images.shape[:3]
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    windows = sliding_window_view(padded, (height, width), axis=(1, 2))
    tops, lefts = random.integers(0, 2 * pad + 1, (2, n))
    moved = windows[np.arange(n), tops, lefts].transpose(0, 2, 3, 1)
    flips = random.random(n) < 0.5
    moved[flips] = moved[flips, :, ::-1]
    return _blank(np.ascontiguousarray(moved), side, random)


def _blank(images: Array, side: int, random: np.random.Generator) -> Array:
    """Zeros in a square of each image, in place."""
    n, height, width = images.shape[:3]
    tops = random.integers(0, height, (n, 1)) - side // 2
    lefts = random.integers(0, width, (n, 1)) - side // 2
    rows, columns = np.arange(height), np.arange(width)
    inside_y = (rows >= tops) & (rows < tops + side)
    inside_x = (columns >= lefts) & (columns < lefts + side)
    images[inside_y[:, :, None] & inside_x[:, None, :]] = 0
    return images
