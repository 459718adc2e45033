"""Jobs and data for the cluster tests, beside the simulated cluster itself (`bench.simulated`)."""

from pathlib import Path
from typing import Any

import numpy as np

from dualshard.bench.simulated import CONTROLLER, Simulation
from dualshard.common.job import Job
from dualshard.common.types import Array

__all__ = ["CONTROLLER", "MODELS", "Simulation", "blobs", "make_job", "one_hot", "write_npz"]

MODELS = Path(__file__).with_name("cluster_models.py")


def make_job(data: Path, **settings: Any) -> Job:
    """A small job on an .npz file; settings are written `worker__count=3`."""
    values: dict[str, Any] = {
        "data__source": f"npz:{data}",
        "data__batch_size": 16,
        "model__ref": f"{MODELS}:Tally",
        "optimizer__rule": "sgd",
        "optimizer__lr": 1.0,
        "optimizer__schedule": "constant",
        "train__staleness_scaling": 0.0,
        "paramserver__count": 2,
        "paramserver__shard_bytes": 256,
        "job__epochs": 2,
        **settings,
    }
    tables: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, name = key.split("__")
        tables.setdefault(section, {})[name] = value
    return Job.from_dict(tables)


def write_npz(path: Path, inputs: Array, labels: Array) -> Path:
    """An archive whose test part is its first few samples."""
    classes = int(labels.max()) + 1
    test = np.array([int(np.argmax(labels == label)) for label in range(classes)])
    np.savez(path, x_train=inputs, y_train=labels, x_test=inputs[test], y_test=labels[test])
    return path


def one_hot(folder: Path, samples: int) -> Path:
    """`samples` inputs, each the unit vector of its own number, for `Tally`."""
    inputs, labels = np.eye(samples, dtype=np.float32), np.zeros(samples, np.int64)
    return write_npz(folder / f"hot{samples}.npz", inputs, labels)


def blobs(folder: Path, samples: int = 200, features: int = 12, classes: int = 3) -> Path:
    """Noisy samples of three classes, for real training."""
    random = np.random.default_rng(7)
    labels = np.arange(samples) % classes
    centres = random.normal(size=(classes, features))
    inputs = centres[labels] + 0.3 * random.normal(size=(samples, features))
    return write_npz(folder / f"blobs{samples}.npz", inputs.astype(np.float32), labels)
