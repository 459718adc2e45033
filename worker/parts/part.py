"""The contract of a part of a cut net: what a worker computes of it, whatever it is made of.

A model that offers `Cuttable` can be cut where it says; a `Sequential` can be cut behind any layer.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ...common.types import Array, Metrics
from ..model import Shapes

Named = Mapping[str, Array]
"""Parameters or gradients by name."""


class Judged(NamedTuple):
    """`loss` and what else is measured, means over samples; d(mean loss)/d(outputs), (n, ...)."""

    metrics: Metrics
    slope: Array


class Part(ABC):
    """A stretch of a net. One instance belongs to one thread and may keep scratch buffers.

    `backward` follows its own `forward`; other instances may be between theirs meanwhile. Arrays
    that are handed in are left as they are, but for `gradients`; what a call returns is valid until
    the instance's next `forward`.
    """

    @abstractmethod
    def shapes(self) -> Shapes:
        """Its own of the model's parameters, at least one, with their names and in their order."""

    @abstractmethod
    def forward(self, parameters: Named, inputs: Array, rng: np.random.Generator | None) -> Array:
        """Outputs (n, ...) float32 of inputs (n, ...) float32; the top part's are the net's.

        `rng` is the random stream of a training step; None: no randomness, as in evaluation.
        """

    @abstractmethod
    def backward(self, parameters: Named, gradients: Named, delta: Array) -> Array:
        """Write d(loss)/d(parameter) into every array of `gradients`; return d(loss)/d(inputs).

        `delta` is d(loss)/d(outputs). What the lowest part returns is not used.
        """

    def decayed(self, name: str) -> bool:
        """As `Model.decayed`."""
        return len(self.shapes()[name]) > 1

    def averaged(self, name: str) -> bool:
        """As `Model.averaged`."""
        return False

    def loss(self, outputs: Array, labels: Array) -> Judged:
        """Only asked of the top part. Labels as in `Model.gradients`."""
        raise AssertionError("only the top part knows a loss")


class Cuttable(ABC):
    """What a `Model` is as well, for its net to be trained in parts."""

    @abstractmethod
    def cut_points(self) -> Sequence[str]:
        """Names of the places where it can be cut, from the inputs to the outputs."""

    @abstractmethod
    def cut(self, points: Sequence[str]) -> Sequence[Part]:
        """The parts between these places, one more than there are. Each call makes new ones; their
        parameters are the model's, none left out, in the model's order."""
