"""`bench data --part pixels`: augmentation against what one would otherwise write, images/s a core.

Ours is the transform as a data server calls it, its random numbers included. OpenCV's loops are
handed maps that were made before, and noise, where it is needed, is drawn for all images at once.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import cos, radians, sin

import cv2
import numpy as np

from ..common.types import Array, Float32
from ..dataserver.augment import parse_augment
from ..dataserver.randomness import Stream
from .answering import timed
from .report import Row, compare
from .sides import Measure, Side, in_turn
from .written import elastic_loop, move_by_gathering, move_by_windows

IMAGES = 512
"""A portion of sixteen minibatches of 32."""
GOAL_AFFINE, GOAL_THREADS, GOAL_ELASTIC, GOAL_MOVES = 1.0, 1.9, 6.0, 12.0
AFFINE = "shift, rotate 28x28"
ELASTIC = "shift, rotate, elastic 28x28"
MOVES = "crop, flip, cutout 32x32x3"


def bench_augmenting(rounds: int, seconds: float, say: Callable[[str], None]) -> list[Row]:
    """Rows of affine warps, on one thread and two, of elastic ones, and of whole pixels moved.

    Arguments:
        seconds: how long each measurement of a round takes, at least.
    """
    cv2.setNumThreads(1)
    grey, colour = _images(28, 28), _images(32, 32, 3)
    affine, elastic = ["shift:2", "rotate:15"], ["shift:2", "rotate:15", "elastic:34:4"]
    cases = {
        AFFINE: [
            Side("dualshard", {"transform": _ours(grey, affine, 1)}),
            Side("dualshard, 2 threads", {"transform": _ours(grey, affine, 2)}),
            Side("OpenCV", {"warpAffine": _opencv(grey, 1)}),
            Side("OpenCV, 2 threads", {"warpAffine": _opencv(grey, 2)}),
        ],
        ELASTIC: [
            Side("dualshard", {"transform": _ours(grey, elastic, 1)}),
            Side("OpenCV", {"GaussianBlur, transform, remap": _elastic(grey)}),
        ],
        MOVES: [
            Side("dualshard", {"transform": _ours(colour, ["crop:4", "reflect", "cutout:8"], 1)}),
            Side("NumPy", _numpy(colour)),
        ],
    }
    found = []
    for name, sides in cases.items():
        say(name)
        found.append(list(in_turn(sides, rounds, seconds, say).values()))
    return make_rows(*found)


def make_rows(
    affine: Sequence[Sequence[float]],
    elastic: Sequence[Sequence[float]],
    moves: Sequence[Sequence[float]],
) -> list[Row]:
    """The rows of the sides' rounds: ours on 1 and 2 threads, theirs; then ours and theirs."""
    one, two, theirs, theirs_two = affine
    unit = "images/s"
    return [
        compare(f"{AFFINE}, against OpenCV's loop", unit, one, theirs, GOAL_AFFINE),
        compare(f"{AFFINE}, 2 threads against 1", unit, two, one, GOAL_THREADS),
        compare("OpenCV's loop, 2 threads against 1", unit, theirs_two, theirs),
        compare(f"{ELASTIC}, against OpenCV's loop", unit, elastic[0], elastic[1], GOAL_ELASTIC),
        compare(f"{MOVES}, against vectorised NumPy", unit, moves[0], moves[1], GOAL_MOVES),
    ]


def _ours(images: Array, augment: list[str], threads: int) -> Measure:
    """The chain of transforms as the pipeline calls it."""
    labels = np.zeros(IMAGES, np.int64)
    (transform,) = parse_augment(augment)
    streams = [Stream.of(0, epoch, np.arange(IMAGES)) for epoch in range(threads)]
    return _measured([partial(transform, (images, labels), stream) for stream in streams])


def _opencv(images: Array, threads: int) -> Measure:
    """A bare loop: maps that were made before, one output array that is used again."""
    maps = opencv_maps(np.random.default_rng(0), IMAGES)

    def loop(out: Array) -> None:
        for image, one, warped in zip(images, maps, out, strict=True):
            cv2.warpAffine(image, one, (28, 28), dst=warped)

    outs = [np.empty_like(images) for _ in range(threads)]
    return _measured([partial(loop, out) for out in outs])


def _elastic(images: Array) -> Measure:
    random = np.random.default_rng(0)
    maps, out = opencv_maps(random, IMAGES), np.empty_like(images)
    return _measured([partial(elastic_loop, images, maps, 34.0, 4.0, random, out)])


def _numpy(images: Array) -> dict[str, Measure]:
    random = np.random.default_rng(0)
    ways = {"one gather": move_by_gathering, "windows": move_by_windows}
    return {name: _measured([partial(way, images, 4, 8, random)]) for name, way in ways.items()}


def opencv_maps(random: np.random.Generator, n: int) -> Float32:
    """(n, 2, 3) float32: turns about the centre of 28x28 and shifts, as `warpAffine` takes them."""
    maps = np.empty((n, 2, 3), np.float32)
    for number in range(n):
        angle, (x, y) = radians(random.uniform(-15, 15)), random.uniform(-2, 2, 2)
        c, s = cos(angle), sin(angle)
        maps[number] = [
            [c, s, 13.5 - 13.5 * (c + s) + x],
            [-s, c, 13.5 - 13.5 * (c - s) + y],
        ]
    return maps


def _images(*shape: int) -> Array:
    return np.random.default_rng(0).integers(0, 256, (IMAGES, *shape), np.uint8)


def _measured(works: Sequence[Callable[[], object]]) -> Measure:
    """Images/s of pieces of work, each a portion, that run at once in as many threads."""

    def measure(seconds: float) -> float:
        with ThreadPoolExecutor(len(works)) as pool:
            rates = pool.map(lambda work: timed(lambda number: work(), seconds), works)
            return sum(rates) * IMAGES

    return measure
