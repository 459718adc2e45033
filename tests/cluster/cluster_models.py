"""Models whose trained parameters are easy to predict; jobs name them as `file.py:attribute`."""

from collections.abc import Mapping

import numpy as np

from dualshard.common.types import Arrays, Float32, Metrics
from dualshard.worker.model import Model


class Tally(Model):
    """Under sgd with rate 1 and no staleness scaling, `sum` becomes the sum of all inputs that
    were applied: minus the sum of a batch is its gradient, whatever the parameters are.

    With one-hot inputs, parameter i counts how often sample i was trained on; sums of integers
    are exact in float32, so that the order of the pushes does not matter.
    """

    def __init__(self, inputs: int) -> None:
        self._inputs = inputs

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"sum": (self._inputs,)}

    def start(self, parameters: Mapping[str, Float32], rng: np.random.Generator) -> None:
        parameters["sum"][:] = 0

    def gradients(
        self,
        parameters: Mapping[str, Float32],
        gradients: Mapping[str, Float32],
        batch: Arrays,
        rng: np.random.Generator,
    ) -> Metrics:
        np.negative(batch[0].sum(axis=0), out=gradients["sum"])
        return {"loss": 1.0, "accuracy": 0.5}

    def evaluate(self, parameters: Mapping[str, Float32], batch: Arrays) -> Metrics:
        return {"loss": 1.0, "accuracy": float(np.isfinite(parameters["sum"]).all())}
