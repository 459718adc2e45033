"""From layers to the table that the compiled step interprets, and the buffers it runs in.

Which nets can be compiled is decided here; the arithmetic is in `interpreter.py`.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import DTypeLike

from ...common.types import Array, Float32, Metrics
from ..layout import Layout
from .activations import ReLU, Sigmoid, Tanh
from .dense import Dense
from .interpreter import (
    ACTIVATION,
    BIAS,
    COLUMNS,
    INPUTS,
    LINEAR,
    LOGISTIC,
    OUTPUTS,
    RELU,
    SIGMOID,
    SOFTMAX,
    SOURCE,
    TANH,
    TARGET,
    WEIGHT,
    run,
)
from .layer import Layer
from .losses import Loss, SigmoidCrossEntropy, SoftmaxCrossEntropy, check_labels

_ACTIVATIONS: dict[type[Layer], int] = {ReLU: RELU, Sigmoid: SIGMOID, Tanh: TANH}
_LOSSES: dict[type[Loss], int] = {SoftmaxCrossEntropy: SOFTMAX, SigmoidCrossEntropy: LOGISTIC}
_NO_GRADIENTS: Float32 = np.empty(0, np.float32)


class Program:
    """A translated net and its scratch. Belongs to one thread; runs without the GIL."""

    def __init__(self, table: Array, loss: int, l2: float) -> None:
        """`table` is what `translate` made; `loss` is SOFTMAX or LOGISTIC."""
        self._table, self._loss, self._l2 = table, loss, l2
        self._features, self._classes = int(table[0, INPUTS]), int(table[-1, OUTPUTS])
        self._width = int(table[-1, TARGET]) + self._classes
        self._values = self._deltas = np.empty(0, np.float32)

    @classmethod
    def of(
        cls, layers: Mapping[str, Layer], loss: Loss, l2: float, layout: Layout
    ) -> "Program | None":
        """The program of a net, or None where it has no compiled form."""
        table, kind = translate(layers, layout), _LOSSES.get(type(loss))
        return None if table is None or kind is None else cls(table, kind, l2)

    def run(
        self, parameters: Float32, inputs: Array, labels: Array, gradients: Float32 | None = None
    ) -> Metrics:
        """Loss and accuracy of a batch; with `gradients`, a flat vector, fill that too.

        `parameters` (flat) may change meanwhile. Inputs of any dtype and memory order are copied
        into the scratch, which grows only with a batch larger than any before.

        Raises:
            UserError: a label is not a class.
        """
        samples = len(labels)
        self._reserve(samples)
        self._values[: samples * self._features].reshape(inputs.shape)[...] = inputs
        fine, loss, accuracy = run(
            self._table,
            self._loss,
            self._l2,
            _readable(parameters, np.float32),
            _readable(labels, np.int64),
            self._values,
            self._deltas,
            _NO_GRADIENTS if gradients is None else gradients,
            gradients is not None,
        )
        if not fine:
            check_labels(labels, self._classes)
        return {"loss": loss, "accuracy": accuracy}

    def _reserve(self, samples: int) -> None:
        if self._values.size < samples * self._width:
            self._values = np.empty(samples * self._width, np.float32)
            self._deltas = np.empty(samples * self._width, np.float32)


def translate(layers: Mapping[str, Layer], layout: Layout) -> Array | None:
    """The table of operations of named layers, or None where one has no compiled form.

    `Dense` and at most one activation after it become one operation. Subclasses stay with the
    plain reference: they may have changed what the class does.
    """
    spans, rows = layout.spans(), []
    source = target = 0
    for name, layer in layers.items():
        activation = _ACTIVATIONS.get(type(layer))
        if type(layer) is Dense:
            row = np.zeros(COLUMNS, np.int64)
            source, target = target, target + layer.inputs
            row[[INPUTS, OUTPUTS]] = layer.inputs, layer.outputs
            row[[WEIGHT, BIAS]] = spans[f"{name}.weight"][0], spans[f"{name}.bias"][0]
            row[[ACTIVATION, SOURCE, TARGET]] = LINEAR, source, target
            rows.append(row)
        elif activation is not None and rows and rows[-1][ACTIVATION] == LINEAR:
            rows[-1][ACTIVATION] = activation
        else:
            return None
    return np.stack(rows) if rows else None


def _readable(array: Array, dtype: DTypeLike) -> Array:
    """`array` as the one kind that `run` is compiled for: contiguous, aligned, read-only.

    What came from the network is read-only and what was made here is not: without this, each
    mixture would be compiled by itself.
    """
    array = np.ascontiguousarray(array, dtype)
    view = array.view() if array.flags.aligned else array.copy()
    view.flags.writeable = False
    return view
