"""The contract of a stage: a few layers as one step of a compiled net. No kernels here.

A stage owns its buffers, which grow with the largest batch, and hands on views of them. It belongs
to one thread; the heavy part of its work runs without the GIL.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from ....common.types import Float32
from ...model import Factors

Span = tuple[int, int]
"""Elements [begin, end) of the flat vector."""

EMPTY: Float32 = np.empty(0, np.float32)


class Pass(NamedTuple):
    """What one forward or backward works on.

    `samples` n; `parameters`, the flat vector, read-only; `gradients`, the flat gradient, empty in
    forward; `rng` the random stream of a training step, None in evaluation.
    """

    samples: int
    parameters: Float32
    gradients: Float32
    rng: np.random.Generator | None


class Stage(ABC):
    """A step of a net from the flat outputs of one stage to those of the next."""

    begin: int | None = None
    """The first element of the stage's parameters in the flat vector; None where it has none."""

    @abstractmethod
    def forward(self, work: Pass, x: Float32, addend: Float32 = EMPTY) -> Float32:
        """Outputs (n * outputs,) of inputs (n * inputs,): valid until the next call.

        `addend` is added before the activation, by stages that can (`adds`).
        """

    @abstractmethod
    def backward(
        self, work: Pass, delta: Float32, source: Float32, add: bool, keep: bool = False
    ) -> None:
        """From d(loss)/d(outputs) to the gradients of the parameters, and of the inputs.

        Arguments:
            delta: (n * outputs,); with `keep` the derivative by the addend is written over it.
            source: (n * inputs,) gets d(loss)/d(inputs); empty where nobody wants it.
            add: to what `source` holds.
        """

    adds: bool = False
    """Whether `forward` takes an addend."""
    linear: bool = False
    """Whether no activation is applied, so that the addend may as well come last."""

    def factors(self) -> dict[int, Factors]:
        """Factors of the last gradients, by the first element of their weight."""
        return {}

    def skip(self, weights: Collection[int]) -> None:
        """Leave the gradients of the weights that begin at these elements unwritten."""
        return


class Buffer:
    """A float32 vector that grows: samples times a fixed width."""

    def __init__(self, width: int) -> None:
        self.width, self._array = width, EMPTY

    def take(self, samples: int) -> Float32:
        """The first samples * width elements, with whatever they hold."""
        size = samples * self.width
        if self._array.size < size:
            self._array = np.zeros(size, np.float32)
        return self._array[:size]
