"""A perceptron whose steps last as long as they are told: `dualshard.bench.sleepy:build`.

Every worker takes its rank from its own command line, which the launcher has written: one of them
sleeps longer.
"""

import sys
from collections.abc import Mapping, Sequence
from time import sleep

import numpy as np

from ..common.types import Arrays, Float32, Metrics
from ..worker.model import Model, Shapes
from ..worker.zoo import ZOO


def build(
    inputs: int,
    classes: int,
    seconds: float,
    slower: float,
    straggler: int,
    hidden: Sequence[int] = (32,),
) -> Model:
    """A net with so many hidden units.

    Arguments:
        seconds: how long a step sleeps.
        slower: times as long, in the worker of rank `straggler`.
    """
    net = ZOO["mlp"](inputs=inputs, classes=classes, hidden=hidden)
    return Sleepy(net, seconds * (slower if own_rank(sys.argv) == straggler else 1))


def own_rank(arguments: list[str]) -> int:
    """The number after `--rank`; -1 if there is none."""
    return int(arguments[arguments.index("--rank") + 1]) if "--rank" in arguments else -1


class Sleepy(Model):
    """Another model whose gradients take longer."""

    def __init__(self, net: Model, seconds: float) -> None:
        self._net, self._seconds = net, seconds

    def shapes(self) -> Shapes:
        return self._net.shapes()

    def start(self, parameters: Mapping[str, Float32], rng: np.random.Generator) -> None:
        self._net.start(parameters, rng)

    def gradients(
        self,
        parameters: Mapping[str, Float32],
        gradients: Mapping[str, Float32],
        batch: Arrays,
        rng: np.random.Generator,
    ) -> Metrics:
        sleep(self._seconds)
        return self._net.gradients(parameters, gradients, batch, rng)

    def evaluate(self, parameters: Mapping[str, Float32], batch: Arrays) -> Metrics:
        return self._net.evaluate(parameters, batch)

    def decayed(self, name: str) -> bool:
        return self._net.decayed(name)
