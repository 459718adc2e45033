"""Small tar shards and parquet files, written with tarfile and pyarrow."""

import io
import tarfile

import cv2
import numpy as np
import pytest


def picture(seed):
    return np.random.default_rng(seed).integers(0, 256, (6, 5, 3)).astype(np.uint8)


def encoded(seed):
    return cv2.imencode(".png", picture(seed)[..., ::-1])[1].tobytes()


def write_tar(path, seeds, **extra):
    """Images `KEY.png` with the class seed % 3; `extra` members replace or add, None removes."""
    members = {}
    for seed in seeds:
        members |= {f"d/{seed:03}.png": encoded(seed), f"d/{seed:03}.cls": b"%d\n" % (seed % 3)}
    members |= extra.get("members", {})
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            if data is not None:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))


def write_parquet(path, seeds, struct=False, image="image", label="label", labels=None):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    cells = [{"bytes": encoded(s), "path": ""} if struct else encoded(s) for s in seeds]
    classes = [s % 3 for s in seeds] if labels is None else labels
    pq.write_table(pa.table({image: cells, label: classes}), path, row_group_size=2)
