"""The contract of a model: named parameters, and one call that turns a batch into gradients.

Anything that fills these four methods can be trained: `--model file.py:build`, where `build` is
called with `model.args` and returns a `Model`. It is called once per compute thread, so that a
model may keep scratch buffers without any lock.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from ..common.types import Arrays, Float32, Metrics

Shapes = dict[str, tuple[int, ...]]


class Model(ABC):
    """A net whose parameters and gradients are float32 arrays owned by the worker.

    The worker hands in the arrays by name; they are views into one flat vector. With several
    threads, `parameters` is shared and may change between any two reads (lock-free training);
    `gradients`, `batch` and `rng` belong to the calling thread alone.
    """

    @abstractmethod
    def shapes(self) -> Shapes:
        """The name and shape of every parameter, in the order of the flat vector."""

    @abstractmethod
    def start(self, parameters: Mapping[str, Float32], rng: np.random.Generator) -> None:
        """Fill `parameters` with their first values, in place. Same `rng`, same values."""

    @abstractmethod
    def gradients(
        self,
        parameters: Mapping[str, Float32],
        gradients: Mapping[str, Float32],
        batch: Arrays,
        rng: np.random.Generator,
    ) -> Metrics:
        """Write d(mean loss over the batch)/d(parameter) into every array of `gradients`.

        Arguments:
            batch: inputs (n, ...) float32 and labels (n,) int64; 1 <= n <= `data.batch_size`.
            rng: the thread's own random stream (dropout and the like).
        Returns:
            `loss` and what else the model measures (`accuracy`), means over the batch.
        """

    @abstractmethod
    def evaluate(self, parameters: Mapping[str, Float32], batch: Arrays) -> Metrics:
        """The same measures without gradients or randomness; any n >= 1."""

    def decayed(self, name: str) -> bool:
        """Whether weight decay applies to a parameter: weights yes, biases (one axis) no."""
        return len(self.shapes()[name]) > 1
