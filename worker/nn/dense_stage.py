"""A dense layer and its activation in a compiled net, by BLAS."""

from collections.abc import Collection

from ...common.types import Float32
from ..model import Factors
from .dense import Dense
from .dense_kernels import dense_backward, dense_forward
from .stage import EMPTY, Buffer, Pass, Stage


class DenseStage(Stage):
    """y = f(x W + b)."""

    def __init__(self, layer: Dense, begin: int, kind: int) -> None:
        self._inputs, self._outputs, self._kind = layer.inputs, layer.units, kind
        self.begin = begin
        self._bias = begin + layer.inputs * layer.units
        self._y, self._error = Buffer(layer.units), Buffer(layer.units)
        self._x, self._samples, self._skipped = EMPTY, 0, False

    def forward(self, work: Pass, x: Float32, addend: Float32 = EMPTY) -> Float32:
        y = self._y.take(work.samples)
        self._x, self._samples = x, 0
        dense_forward(
            *(work.samples, self._inputs, self._outputs, x, work.parameters, self.begin),
            *(self._bias, self._kind, y),
        )
        return y

    def backward(
        self, work: Pass, delta: Float32, source: Float32, add: bool, keep: bool = False
    ) -> None:
        y, error = self._y.take(work.samples), self._error.take(work.samples)
        self._samples = work.samples
        dense_backward(
            *(work.samples, self._inputs, self._outputs, self._x, work.parameters, self.begin),
            *(self._bias, self._kind, y, delta, error, work.gradients, not self._skipped),
            *(source, add),
        )

    def factors(self) -> dict[int, Factors]:
        n = self._samples
        if not n or self.begin is None:
            return {}
        x, error = self._x[: n * self._inputs], self._error.take(n)
        return {self.begin: (x.reshape(n, self._inputs), error.reshape(n, self._outputs))}

    def skip(self, weights: Collection[int]) -> None:
        self._skipped = self.begin in weights
