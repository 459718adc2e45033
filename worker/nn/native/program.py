"""From layers to the table that the compiled step interprets, and the buffers it runs in.

Which nets can be compiled is decided here; the arithmetic is in `interpreter.py`.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import DTypeLike

from ....common.types import Array, Arrays, Float32, Metrics
from ...layout import Layout
from ...model import Factors, Pace, Ready, as_float32
from ..activations import ReLU, Sigmoid, Tanh
from ..dense import Dense
from ..layer import Layer
from ..losses import Loss, SigmoidCrossEntropy, SoftmaxCrossEntropy, check_labels, classes_of
from .interpreter import (
    ACTIVATION,
    BIAS,
    COLUMNS,
    INPUTS,
    LINEAR,
    LOGISTIC,
    OUTPUTS,
    PACES,
    RELU,
    SIGMOID,
    SKIPPED,
    SOFTMAX,
    SOURCE,
    TANH,
    TARGET,
    WEIGHT,
    descend,
    run,
)

_ACTIVATIONS: dict[type[Layer], int] = {ReLU: RELU, Sigmoid: SIGMOID, Tanh: TANH}
_LOSSES: dict[type[Loss], int] = {SoftmaxCrossEntropy: SOFTMAX, SigmoidCrossEntropy: LOGISTIC}
_NO_GRADIENTS: Float32 = np.empty(0, np.float32)
_NO_FLOATS: Float32 = np.empty(0, np.float32)
_NO_OCTETS = np.empty(0, np.uint8)


class Program:
    """A translated net and its scratch. Belongs to one thread; runs without the GIL."""

    def __init__(self, table: Array, loss: int, l2: float) -> None:
        """`table` is what `translate` made; `loss` is SOFTMAX or LOGISTIC."""
        self._table, self._loss, self._l2 = table, loss, l2
        self._features, self._classes = int(table[0, INPUTS]), int(table[-1, OUTPUTS])
        self._width = int(table[-1, TARGET]) + self._classes
        self._values = self._deltas = np.empty(0, np.float32)
        self._slope = np.empty(int(table[:, OUTPUTS].max()), np.float32)
        self._ready: Ready | None = None
        self._stops = [0]
        self._samples, self._final = 0, len(table)  # operations from `_final` on have their deltas

    @classmethod
    def of(
        cls, layers: Mapping[str, Layer], loss: Loss, l2: float, layout: Layout
    ) -> "Program | None":
        """The program of a net, or None where it has no compiled form."""
        table, kind = translate(layers, layout), kind_of(loss)
        return None if table is None or kind is None else cls(table, kind, l2)

    def run(
        self,
        parameters: Float32,
        inputs: Array,
        labels: Array,
        gradients: Float32 | None = None,
        rng: np.random.Generator | None = None,
    ) -> Metrics:
        """Loss and accuracy of a batch; with `gradients`, a flat vector, fill that too.

        `parameters` (flat) may change meanwhile. Inputs of any dtype and memory order are copied
        into the scratch, which grows only with a batch larger than any before. Nothing is drawn
        from `rng`, for no layer of a perceptron is random. All is one compiled
        call, unless `report` has set more than one stage.

        Raises:
            UserError: a label is not a class.
        """
        samples = len(labels)
        self._reserve(samples)
        self._values[: samples * self._features].reshape(inputs.shape)[...] = inputs
        if labels.ndim == 2:
            check_labels(labels, self._classes)
        parameters, parted = readable(parameters, np.float32), separate(labels)
        self._samples, self._final = samples, len(self._table)
        if gradients is None:
            return self._call(parameters, parted, _NO_GRADIENTS, self._final)
        first, *others = self._stops
        metrics = self._call(parameters, parted, gradients, first)
        self._tell()
        for stop in others:
            self._call(parameters, parted, gradients, stop)
            self._tell()
        return metrics

    def descend(
        self, parameters: Float32, batches: Sequence[Arrays], paces: Mapping[int, Pace]
    ) -> list[Metrics]:
        """Step along the gradient of each batch, in one compiled call for all of them.

        Arguments:
            parameters: flat, stepped in place; may change meanwhile.
            batches: inputs (n, ...) float32, or uint8 that count 1/255, and labels (n,), or
                (n, classes) float32 of all.
            paces: of each parameter, by its first element.
        Returns:
            loss and accuracy of each batch, before its step.
        Raises:
            UserError: a label is not a class; the batches before have made their steps.
        """
        counts = np.array([len(labels) for _, labels in batches])
        self._reserve(int(counts.max()))
        octets, floats = _inputs_of(batches)
        labels, targets = self._labels_of(batches)
        measures = np.empty((len(batches), 2))
        taken = descend(
            self._table,
            self._loss,
            self._l2,
            self._paced(paces),
            parameters,
            octets,
            floats,
            labels,
            targets,
            counts,
            self._values,
            self._deltas,
            self._slope,
            measures,
        )
        self._final = len(self._table)
        if taken < len(batches):
            check_labels(batches[taken][1], self._classes)
        return [{"loss": loss, "accuracy": accuracy} for loss, accuracy in measures.tolist()]

    def _paced(self, paces: Mapping[int, Pace]) -> Float32:
        """(operations, PACES): what is kept of each weight and bias, and the rate."""
        rows = []
        for weight, bias in self._table[:, [WEIGHT, BIAS]].tolist():
            (rate, shrink), (bias_rate, bias_shrink) = paces[weight], paces[bias]
            rows.append((1 - shrink, rate, 1 - bias_shrink, bias_rate))
        return np.array(rows, np.float32).reshape(-1, PACES)

    def report(self, ready: Ready | None, stages: Sequence[int]) -> None:
        """Call `ready` when the elements from each of `stages` on are final.

        `stages` are first elements of operations, descending; the last is 0.
        """
        first = [int(row[WEIGHT]) for row in self._table]
        self._ready, self._stops = ready, [first.index(begin) for begin in stages]

    def skip(self, weights: Collection[int]) -> None:
        """Leave the gradients of the weights that begin at these elements unwritten."""
        self._table[:, SKIPPED] = np.isin(self._table[:, WEIGHT], sorted(weights))

    def factors(self) -> dict[int, Factors]:
        """Inputs and error vectors of each operation, by the first element of its weight.

        Views of the scratch. Only what is final: nothing after a run for measures alone.
        """
        return {row[WEIGHT]: self._pair(row) for row in self._table[self._final :].tolist()}

    def _pair(self, row: list[int]) -> Factors:
        n, fan_in, width = self._samples, row[INPUTS], row[OUTPUTS]
        inputs, deltas = self._values[n * row[SOURCE] :], self._deltas[n * row[TARGET] :]
        return inputs[: n * fan_in].reshape(n, fan_in), deltas[: n * width].reshape(n, width)

    def _labels_of(self, batches: Sequence[Arrays]) -> tuple[Array, Float32]:
        """The labels of all batches in one row, as `separate` has them."""
        parts = [labels for _, labels in batches]
        if all(labels.ndim == 1 for labels in parts):
            return separate(np.concatenate(parts, dtype=np.int64))
        for labels in parts:
            check_labels(labels, self._classes)
        return separate(np.concatenate([_rows(labels, self._classes) for labels in parts]))

    def _call(
        self, parameters: Float32, parted: tuple[Array, Float32], gradients: Float32, stop: int
    ) -> Metrics:
        """Go on from operation `_final` back to `stop`, after forward and loss if not yet run."""
        fine, loss, accuracy = run(
            self._table,
            self._loss,
            self._l2,
            parameters,
            *parted,
            self._values,
            self._deltas,
            gradients,
            stop,
            self._final,
        )
        if not fine:
            check_labels(parted[0], self._classes)
        self._final = stop
        return {"loss": loss, "accuracy": accuracy}

    def _tell(self) -> None:
        if self._ready is not None:
            self._ready(int(self._table[self._final, WEIGHT]))

    def _reserve(self, samples: int) -> None:
        if self._values.size < samples * self._width:
            self._values = np.empty(samples * self._width, np.float32)
            self._deltas = np.empty(samples * self._width, np.float32)


def _inputs_of(batches: Sequence[Arrays]) -> tuple[Array, Float32]:
    """The inputs of all batches in one row, as bytes or as float32; the other one is empty."""
    parts = [inputs.reshape(-1) for inputs, _ in batches]
    if all(part.dtype == np.uint8 for part in parts):
        return np.concatenate(parts), _NO_FLOATS
    return _NO_OCTETS, np.concatenate([as_float32(part) for part in parts], dtype=np.float32)


def separate(labels: Array) -> tuple[Array, Float32]:
    """Labels as the compiled losses take them: the class of each, and the numbers of soft ones."""
    soft = _NO_TARGETS if labels.ndim == 1 else readable(labels, np.float32).reshape(-1)
    return readable(classes_of(labels), np.int64), soft


def _rows(labels: Array, classes: int) -> Float32:
    """Labels as rows of probabilities."""
    if labels.ndim == 2:
        return labels
    rows = np.zeros((len(labels), classes), np.float32)
    rows[np.arange(len(labels)), labels] = 1
    return rows


def kind_of(loss: Loss) -> int | None:
    """The compiled form of a loss, or None where it has none: smoothed labels, a user's own."""
    smoothed = isinstance(loss, SoftmaxCrossEntropy) and loss.label_smoothing > 0
    return None if smoothed else _LOSSES.get(type(loss))


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
            row[[INPUTS, OUTPUTS]] = layer.inputs, layer.units
            row[[WEIGHT, BIAS]] = spans[f"{name}.weight"][0], spans[f"{name}.bias"][0]
            row[[ACTIVATION, SOURCE, TARGET]] = LINEAR, source, target
            rows.append(row)
        elif activation is not None and rows and rows[-1][ACTIVATION] == LINEAR:
            rows[-1][ACTIVATION] = activation
        else:
            return None
    return np.stack(rows) if rows else None


def readable(array: Array, dtype: DTypeLike) -> Array:
    """`array` as the one kind that `run` is compiled for: contiguous, aligned, read-only.

    What came from the network is read-only and what was made here is not: without this, each
    mixture would be compiled by itself.
    """
    array = np.ascontiguousarray(array, dtype)
    view = array.view() if array.flags.aligned else array.copy()
    view.flags.writeable = False
    return view


_NO_TARGETS: Float32 = readable(np.empty(0, np.float32), np.float32)
