"""What the tests of benchmarks share: a handful of images in MNIST's format."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of 256 and 32 random images of 28x28 in MNIST's format."""
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for prefix, count in (("train", 256), ("t10k", 32)):
        pixels = random.integers(0, 256, (count, 28, 28), np.uint8).tobytes()
        labels = (np.arange(count) % 10).astype(np.uint8).tobytes()
        for name, header, data in (
            ("images-idx3", struct.pack(">4B3I", 0, 0, 8, 3, count, 28, 28), pixels),
            ("labels-idx1", struct.pack(">4BI", 0, 0, 8, 1, count), labels),
        ):
            (folder / f"{prefix}-{name}-ubyte.gz").write_bytes(gzip.compress(header + data, 1))
    return folder
