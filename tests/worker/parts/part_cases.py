"""Nets to cut, data for them, and jobs: for the tests of this folder."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dualshard.bench.cut_nets import Wired
from dualshard.common.cluster import DataShape
from dualshard.common.job import Job
from dualshard.common.types import Arrays
from dualshard.worker.model import Model
from dualshard.worker.nn.activations import ReLU, Tanh
from dualshard.worker.nn.convolution import Conv2D
from dualshard.worker.nn.dense import Dense
from dualshard.worker.nn.dropout import Dropout
from dualshard.worker.nn.losses import SoftmaxCrossEntropy
from dualshard.worker.nn.norm import BatchNorm
from dualshard.worker.nn.pooling import MaxPool
from dualshard.worker.nn.residual import Residual
from dualshard.worker.nn.sequential import Sequential

HERE = "part_cases"
SAMPLES, SIDE, CLASSES = 40, 8, 3
DATA = DataShape(SAMPLES, 10, CLASSES, (SIDE, SIDE), 4)


def dense(l2: float = 0.0) -> Sequential:
    """64-12-10-8-3."""
    layers = [Dense(64, 12), ReLU(), Dense(12, 10), Tanh(), Dense(10, 8), ReLU(), Dense(8, 3)]
    return Sequential(layers, SoftmaxCrossEntropy(), l2, sample_shape=(SIDE, SIDE))


def conv(l2: float = 0.0) -> Sequential:
    """Two convolutions with pools between, two dense layers."""
    layers = [
        Conv2D(1, 4, 3, padding=1),
        ReLU(),
        MaxPool(2),
        Conv2D(4, 5, 3),
        ReLU(),
        Dense(5 * 4, 6),
        Tanh(),
        Dense(6, 3),
    ]
    return Sequential(layers, SoftmaxCrossEntropy(), l2, sample_shape=(SIDE, SIDE, 1))


def normalised() -> Sequential:
    """Batch normalisation on both sides of a cut behind relu1, and a residual block."""
    layers = [
        Conv2D(1, 4, 3, padding=1, bias=False),
        BatchNorm(4),
        ReLU(),
        Residual([Conv2D(4, 4, 3, padding=1), BatchNorm(4)]),
        ReLU(),
        MaxPool(4),
        Dense(16, 3),
    ]
    return Sequential(layers, SoftmaxCrossEntropy(), sample_shape=(SIDE, SIDE, 1))


def dropping() -> Sequential:
    """Dropout below and above a cut behind relu1."""
    layers = [Dropout(0.2), Dense(64, 12), ReLU(), Dropout(0.5), Dense(12, 3)]
    return Sequential(layers, SoftmaxCrossEntropy(), sample_shape=(SIDE, SIDE))


NETS = {
    "dense": (dense, [["relu1"], ["relu1", "tanh1"], ["relu1", "tanh1", "relu2"]]),
    "conv": (conv, [["maxpool1"], ["maxpool1", "relu2"], ["relu1", "relu2", "tanh1"]]),
    "normalised": (normalised, [["relu1"], ["batchnorm1", "relu2"]]),
}
CUTS = [(name, cuts) for name, (_, places) in NETS.items() for cuts in places]


def make(
    net: str, cuts: Sequence[str], coupling: str = "activations", **sections: Mapping[str, Any]
) -> Job:
    """A job on a net of this file."""
    tables: dict[str, Any] = {
        "model": {"ref": f"{HERE}:{net}"},
        "data": {"batch_size": SAMPLES},
        "train": {"mode": "admm"},
        "optimizer": {"rule": "sgd", "lr": 0.1, "schedule": "constant"},
        "partition": {"cuts": list(cuts), "coupling": coupling},
        "worker": {"count": len(cuts) + 1 if cuts else 2},
    }
    for name, section in sections.items():
        tables[name] = {**tables.get(name, {}), **section}
    return Job.from_dict(tables)


def wired(job: Job, data: DataShape = DATA) -> Wired:
    """Its parts."""
    return Wired.of(job, data)


def arrays(samples: int = SAMPLES, seed: int = 0, bytes_: bool = False) -> Arrays:
    """Images and labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, samples)
    if bytes_:
        return random.integers(0, 256, (samples, SIDE, SIDE), dtype=np.uint8), labels
    return random.normal(size=(samples, SIDE, SIDE)).astype(np.float32), labels


def model_of(net: str) -> Model:
    """The net itself."""
    return NETS[net][0]() if net in NETS else dropping()
