"""`bench data --part jpeg`: JPEGs of 500x375 read at 224x224, against decoding them and no more.

Ours is `read` of the data set of `images:DIR`: the files' bytes, the check that they are whole,
decoding, scaling and the cut. Against it stands a bare loop over `cv2.imdecode` with the bytes in
memory already. Pictures have the statistics of photographs, a power spectrum that falls with the
square of the frequency (Field 1987), shapes with edges, and the grain of a sensor.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from ..common.data_sections import DataSection
from ..common.types import Array
from ..dataserver.source import open_source
from .answering import timed
from .report import Row, compare
from .sides import Measure, Side, in_turn

IMAGES = 32
SIZE = (375, 500)
SIDE = 224
QUALITY = 90
EDGES = 12
"""Shapes in a picture."""
GRAIN = 3.0
"""Standard deviation of the noise, of 255."""
GOAL = 0.95
CLASSES = 2


def bench_jpegs(rounds: int, seconds: float, say: Callable[[str], None]) -> list[Row]:
    """Rows of images/s: read by ours, against decoded by OpenCV."""
    cv2.setNumThreads(1)
    with TemporaryDirectory(prefix="dualshard-bench-") as folder:
        encoded = write_pictures(Path(folder), IMAGES, SIZE)
        size = sum(map(len, encoded)) / len(encoded) / 1024
        say(f"JPEG {SIZE[1]}x{SIZE[0]}, quality {QUALITY}, {size:.0f} KiB each")
        sides = [
            Side("dualshard", {"read": _ours(Path(folder))}),
            Side("OpenCV", {"imdecode": _decoding(encoded)}),
        ]
        ours, theirs = in_turn(sides, rounds, seconds, say).values()
    return make_rows(ours, theirs)


def make_rows(ours: Sequence[float], theirs: Sequence[float]) -> list[Row]:
    """The row."""
    name = f"JPEG {SIZE[1]}x{SIZE[0]} read at {SIDE}x{SIDE}, against bare cv2.imdecode"
    return [compare(name, "images/s", ours, theirs, GOAL)]


def _ours(folder: Path) -> Measure:
    data = open_source(DataSection(f"images:{folder}", resize=str(SIDE)), seed=0).train
    indices = np.arange(len(data))
    return lambda seconds: len(data) * timed(lambda number: data.read(indices), seconds)


def _decoding(encoded: Sequence[bytes]) -> Measure:
    buffers = [np.frombuffer(data, np.uint8) for data in encoded]

    def loop(number: int) -> None:
        for buffer in buffers:
            cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB)

    return lambda seconds: len(buffers) * timed(loop, seconds)


def write_pictures(folder: Path, count: int, size: tuple[int, int]) -> list[bytes]:
    """Write so many JPEGs of (height, width) to class folders; their bytes. The same every time."""
    random = np.random.default_rng(0)
    written = []
    for number in range(count):
        done, data = cv2.imencode(
            ".jpg", picture(random, *size), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
        )
        assert done
        place = folder / f"{number % CLASSES}"
        place.mkdir(exist_ok=True)
        written.append(data.tobytes())
        (place / f"{number:04}.jpg").write_bytes(written[-1])
    return written


def picture(random: np.random.Generator, height: int, width: int) -> Array:
    """(height, width, 3) uint8 that is like a photograph to an encoder."""
    y, x = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    fall = 1 / np.maximum(np.hypot(y, x), 1 / max(height, width))
    light, *tints = (_field(random, fall, width) for _ in range(3))
    # Colours change less than light does.
    image = 128 + 45 * light[:, :, None] + 15 * np.stack([*tints, -sum(tints)], axis=2)
    image = np.clip(image, 0, 255).astype(np.uint8)
    for _ in range(EDGES):
        centre = tuple(int(random.integers(0, side)) for side in (width, height))
        axes = tuple(int(random.integers(5, 80)) for _ in range(2))
        shade = image[centre[1], centre[0]] + random.normal(0, 40, 3)
        colour = tuple(map(float, np.clip(shade, 0, 255)))
        turned = float(random.uniform(0, 180))
        cv2.ellipse(image, centre, axes, turned, 0, 360, colour, -1, cv2.LINE_AA)
    grainy: Array = np.clip(image + random.normal(0, GRAIN, image.shape), 0, 255).astype(np.uint8)
    return grainy


def _field(random: np.random.Generator, fall: Array, width: int) -> Array:
    """Noise whose amplitude is shaped by `fall`, of variance 1."""
    phases = np.exp(2j * np.pi * random.random(fall.shape))
    field: Array = np.fft.irfft2(fall * phases, (len(fall), width))
    field -= field.mean()
    field /= field.std()
    return field
