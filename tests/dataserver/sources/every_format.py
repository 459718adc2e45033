"""A small source of each format on the disk, for tests that read all of them."""

import gzip
import struct
import tarfile
from pathlib import Path

import cv2
import numpy as np
from shards import write_parquet, write_tar

SOURCES = {
    "idx": "idx:FOLDER/mnist",
    "npz": "npz:FOLDER/a.npz",
    "cifar": "cifar:FOLDER/cifar",
    "tar": "cifar:FOLDER/packed",
    "images": "images:FOLDER/photos",
    "webdataset": "webdataset:FOLDER/tars/a-{0..1}.tar",
    "glob": "webdataset:FOLDER/tars/a-*.tar",
    "parquet": "parquet:FOLDER/tables",
}


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_all(folder: Path) -> None:
    """The sources of `SOURCES` in `folder`."""
    random = np.random.default_rng(2)
    images = random.integers(0, 256, (9, 6, 5)).astype(np.uint8)
    labels = (np.arange(9) % 3).astype(np.uint8)
    (folder / "mnist").mkdir()
    packed = gzip.compress(idx(images))
    (folder / "mnist/train-images-idx3-ubyte.gz").write_bytes(packed)
    (folder / "mnist/train-labels-idx1-ubyte").write_bytes(idx(labels))
    np.savez(folder / "a.npz", x=images, y=labels.astype(np.int64))
    (folder / "cifar").mkdir()
    for n in range(1, 6):
        record = bytes([n % 3]) + random.bytes(3072)
        (folder / f"cifar/data_batch_{n}.bin").write_bytes(2 * record)
    (folder / "packed").mkdir()
    with tarfile.open(folder / "packed/cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.add(folder / "cifar", "cifar-10-batches-bin")
    for number, image in enumerate(images):
        path = folder / f"photos/{'abc'[number % 3]}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
    (folder / "tars").mkdir()
    write_tar(folder / "tars/a-0.tar", range(6))
    write_tar(folder / "tars/a-1.tar", range(6, 9))
    (folder / "tables").mkdir()
    write_parquet(folder / "tables/a.parquet", range(9))
