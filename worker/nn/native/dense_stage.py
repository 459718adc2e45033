"""A dense layer and its activation in a compiled net, by BLAS."""

from collections.abc import Collection

import numpy as np

from ....common.types import Float32
from ...model import Factors
from ..dense import Dense
from .dense_kernels import apply_weight, lead_back, weight_gradient
from .plane_kernels import add_sums, finish, unfinish
from .stage import EMPTY, Buffer, Pass, Stage


class DenseStage(Stage):
    """y = f(x W + b)."""

    def __init__(self, layer: Dense, begin: int, kind: int) -> None:
        self._inputs, self._outputs, self._kind = layer.inputs, layer.units, kind
        self.begin = self._weight = begin
        self._bias = begin + layer.inputs * layer.units
        self._y, self._error = Buffer(layer.units), Buffer(layer.units)
        self._x, self._samples, self._skipped = EMPTY, 0, False
        self._zero, self._shift = np.zeros((2, layer.units), np.float32)
        self._one = np.ones(layer.units, np.float32)

    def forward(self, work: Pass, x: Float32, addend: Float32 = EMPTY) -> Float32:
        n, outputs, y = work.samples, self._outputs, self._y.take(work.samples)
        self._x, self._samples = x, 0
        self._shift[:] = work.parameters[self._bias : self._bias + outputs]
        apply_weight(n, self._inputs, outputs, x, work.parameters, self._weight, y)
        numbers = self._zero, self._one, self._shift
        finish(y, n, 1, outputs, *numbers, EMPTY, self._kind, 1, y, EMPTY)
        return y

    def backward(
        self, work: Pass, delta: Float32, source: Float32, add: bool, keep: bool = False
    ) -> None:
        n, shape = work.samples, (work.samples, self._inputs, self._outputs)
        y, error = self._y.take(n), self._error.take(n)
        self._samples = n
        outputs = self._outputs
        unfinish(delta, y, EMPTY, n, 1, outputs, self._kind, 1, error, outputs)
        bias = work.gradients[self._bias : self._bias + outputs]
        bias[:] = 0
        add_sums(error, n, outputs, outputs, bias)
        if not self._skipped:
            weight_gradient(*shape, self._x, error, work.gradients, self._weight)
        if source.size:
            lead_back(*shape, error, work.parameters, self._weight, source, add)

    def factors(self) -> dict[int, Factors]:
        n = self._samples
        if not n:
            return {}
        x, error = self._x[: n * self._inputs], self._error.take(n)
        return {self._weight: (x.reshape(n, self._inputs), error.reshape(n, self._outputs))}

    def skip(self, weights: Collection[int]) -> None:
        self._skipped = self._weight in weights
