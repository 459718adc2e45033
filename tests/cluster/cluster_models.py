"""Models whose trained parameters are easy to predict; jobs name them as `file.py:attribute`."""

from collections.abc import Mapping

import numpy as np

from dualshard.common.types import Arrays, Float32, Metrics
from dualshard.worker.model import Model
from dualshard.worker.nn.activations import ReLU
from dualshard.worker.nn.dense import Dense
from dualshard.worker.nn.dropout import Dropout
from dualshard.worker.nn.losses import SoftmaxCrossEntropy
from dualshard.worker.nn.norm import BatchNorm
from dualshard.worker.nn.sequential import Sequential


def normalised(inputs: int, classes: int) -> Model:
    """A small batch-normalised perceptron."""
    layers = [Dense(inputs, 16), BatchNorm(16), ReLU(), Dense(16, classes)]
    return Sequential(layers, SoftmaxCrossEntropy())


def forgetful(inputs: int, classes: int) -> Model:
    """A small perceptron with dropout, whose steps depend on the minibatch's random stream."""
    layers = [Dense(inputs, 8), Dropout(0.5), Dense(8, classes)]
    return Sequential(layers, SoftmaxCrossEntropy())


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


class Running(Tally):
    """`sum` as in `Tally`, and `mean`, the running average of the inputs: averaged state.

    `loud` multiplies the gradient of `sum`, so that it drowns that of `mean`. The evaluation tells
    the first element of `mean`.
    """

    def __init__(self, inputs: int, momentum: float = 0.1, loud: float = 1.0) -> None:
        super().__init__(inputs)
        self._momentum, self._loud = np.float32(momentum), np.float32(loud)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"sum": (self._inputs,), "mean": (self._inputs,)}

    def averaged(self, name: str) -> bool:
        return name == "mean"

    def start(self, parameters: Mapping[str, Float32], rng: np.random.Generator) -> None:
        super().start(parameters, rng)
        parameters["mean"][:] = 0

    def gradients(
        self,
        parameters: Mapping[str, Float32],
        gradients: Mapping[str, Float32],
        batch: Arrays,
        rng: np.random.Generator,
    ) -> Metrics:
        metrics = super().gradients(parameters, gradients, batch, rng)
        np.multiply(gradients["sum"], self._loud, out=gradients["sum"])
        away = parameters["mean"] - batch[0].mean(axis=0)
        np.multiply(away, self._momentum, out=gradients["mean"])
        return metrics

    def evaluate(self, parameters: Mapping[str, Float32], batch: Arrays) -> Metrics:
        first = float(parameters["mean"][0])
        return {**super().evaluate(parameters, batch), "first": first}


class Counting(Tally):
    """`Tally` whose sum is averaged state, counted `times` over: only the push moves it, whatever
    the rule and its rate are."""

    def __init__(self, inputs: int, times: float) -> None:
        super().__init__(inputs)
        self._times = np.float32(times)

    def averaged(self, name: str) -> bool:
        return True

    def gradients(
        self,
        parameters: Mapping[str, Float32],
        gradients: Mapping[str, Float32],
        batch: Arrays,
        rng: np.random.Generator,
    ) -> Metrics:
        metrics = super().gradients(parameters, gradients, batch, rng)
        np.multiply(gradients["sum"], self._times, out=gradients["sum"])
        return metrics
