"""`dualshard bench data`: augmentation against what one would otherwise write, images/s."""

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
from .sides import Side, in_turn

IMAGES = 512
"""A portion of sixteen minibatches of 32."""
GOAL_AFFINE, GOAL_THREADS = 1.0, 1.9


def bench_data(rounds: int, seconds: float, say: Callable[[str], None]) -> list[Row]:
    """Rows of affine warps of 28x28: one thread against OpenCV, and two threads against one.

    Arguments:
        seconds: how long each measurement of a round takes, at least.
    """
    cv2.setNumThreads(1)
    say("shift, rotate on 28x28")
    sides = [
        Side("dualshard", {"transform": _ours(1)}),
        Side("dualshard, 2 threads", {"transform": _ours(2)}),
        Side("OpenCV", {"warpAffine": _opencv(1)}),
        Side("OpenCV, 2 threads", {"warpAffine": _opencv(2)}),
    ]
    return make_rows(*in_turn(sides, rounds, seconds, say).values())


def make_rows(
    one: Sequence[float], two: Sequence[float], theirs: Sequence[float], theirs_two: Sequence[float]
) -> list[Row]:
    """The rows of the four sides' rounds."""
    unit = "images/s"
    return [
        compare("shift, rotate 28x28, against OpenCV's loop", unit, one, theirs, GOAL_AFFINE),
        compare("shift, rotate 28x28, 2 threads against 1", unit, two, one, GOAL_THREADS),
        compare("OpenCV's loop, 2 threads against 1", unit, theirs_two, theirs),
    ]


def _ours(threads: int) -> Callable[[float], float]:
    """The transform as a data server calls it, its random numbers included."""
    images, labels = _portion()
    (transform,) = parse_augment(["shift:2", "rotate:15"])
    streams = [Stream.of(0, epoch, np.arange(IMAGES)) for epoch in range(threads)]
    return _measured([partial(transform, (images, labels), stream) for stream in streams])


def _opencv(threads: int) -> Callable[[float], float]:
    """A bare loop: maps that were made before, one output array that is used again."""
    images, _ = _portion()
    maps = opencv_maps(np.random.default_rng(0), IMAGES)

    def loop(out: Array) -> None:
        for image, one, warped in zip(images, maps, out, strict=True):
            cv2.warpAffine(image, one, (28, 28), dst=warped)

    outs = [np.empty_like(images) for _ in range(threads)]
    return _measured([partial(loop, out) for out in outs])


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


def _portion() -> tuple[Array, Array]:
    random = np.random.default_rng(0)
    return random.integers(0, 256, (IMAGES, 28, 28), np.uint8), np.zeros(IMAGES, np.int64)


def _measured(works: Sequence[Callable[[], object]]) -> Callable[[float], float]:
    """Images/s of pieces of work, each a portion, that run at once in as many threads."""

    def measure(seconds: float) -> float:
        with ThreadPoolExecutor(len(works)) as pool:
            rates = pool.map(lambda work: timed(lambda number: work(), seconds), works)
            return sum(rates) * IMAGES

    return measure
