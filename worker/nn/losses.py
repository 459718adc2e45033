"""Losses of classification: functions of the net's last outputs (logits) and of labels.

Labels are class numbers (n,), or soft: a row of probabilities of the classes for each sample,
(n, classes) float32, as mixup makes them. The cross-entropies are linear in the label, so that a
class number is the row that is 1 there and 0 elsewhere. A loss and its derivative with respect to
the logits stand side by side. The cross-entropies hold the last non-linearity themselves (softmax,
sigmoid), so that neither can overflow or lose digits.
"""

from abc import ABC, abstractmethod
from types import ModuleType
from typing import Any

import numpy as np

from ...common.errors import UserError
from ...common.types import Array

_TOLERANCE = 1e-3
"""How far the sum of a soft label may be from 1, for rounding."""


class Loss(ABC):
    """A mean over samples. Stateless: any thread may call it."""

    xp: ModuleType = np
    """The module of the arrays that the loss is handed, numpy or cupy."""

    @abstractmethod
    def value(self, logits: Array, labels: Array) -> float:
        """The mean loss of logits (n, classes), labels (n,) int64 or (n, classes) float32."""

    @abstractmethod
    def slope(self, logits: Array, labels: Array) -> Array:
        """d(mean loss)/d(logits), (n, classes), in the dtype of the logits."""


class SoftmaxCrossEntropy(Loss):
    """-sum over classes of t log softmax(z): one class of many. The derivative is softmax(z) - t.

    The target t is the label's row; with label smoothing e it is (1 - e) t + e / classes
    (C. Szegedy et al., "Rethinking the Inception architecture for computer vision", CVPR 2016,
    section 7; PyTorch's `label_smoothing`).
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        """Raises UserError: `label_smoothing` is not in [0, 1)."""
        amount = label_smoothing
        if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 <= amount < 1:
            fix = "use 0 for none, 0.1 for a tenth"
            key = "SoftmaxCrossEntropy.label_smoothing"
            raise UserError(key, amount, "a number from 0 to below 1", fix)
        self.label_smoothing = amount

    def value(self, logits: Array, labels: Array) -> float:
        shifted = logits - logits.max(axis=1, keepdims=True)
        if labels.ndim == 1:
            chosen = shifted[self.xp.arange(len(labels)), labels]
        else:
            chosen = (shifted * labels.astype(logits.dtype, copy=False)).sum(axis=1)
        if self.label_smoothing:
            even = shifted.mean(axis=1)
            chosen = chosen + self.label_smoothing * (even - chosen)
        return measure(self.xp.mean(self.xp.log(self.xp.exp(shifted).sum(axis=1)) - chosen))

    def slope(self, logits: Array, labels: Array) -> Array:
        powers = self.xp.exp(logits - logits.max(axis=1, keepdims=True))
        softmax = powers / powers.sum(axis=1, keepdims=True)
        target = _targets(self.xp, logits, labels)
        if self.label_smoothing:
            target = (1 - self.label_smoothing) * target + self.label_smoothing / logits.shape[1]
        slope: Array = (softmax - target) / len(labels)
        return slope


class SigmoidCrossEntropy(Loss):
    """Cross-entropy of one logistic unit for each class, summed over the units.

    With t the label's row and y = sigmoid(z): -sum(t log y + (1 - t) log(1 - y)), computed as
    max(z, 0) - z t + log(1 + e^-|z|). The derivative is y - t. (C. Bishop, "Pattern Recognition and
    Machine Learning", 2006, eq. 5.23 and section 5.2.)
    """

    def value(self, logits: Array, labels: Array) -> float:
        units = self.xp.maximum(logits, 0) - logits * _targets(self.xp, logits, labels)
        units += self.xp.log1p(self.xp.exp(-self.xp.abs(logits)))
        return measure(self.xp.mean(units.sum(axis=1)))

    def slope(self, logits: Array, labels: Array) -> Array:
        outputs = (1 + self.xp.tanh(logits / 2)) / 2
        slope: Array = (outputs - _targets(self.xp, logits, labels)) / len(labels)
        return slope


class SquaredError(Loss):
    """1/2 the sum over outputs of (z - t)^2, t the label's row. The derivative is z - t.

    C. Bishop, "Pattern Recognition and Machine Learning", 2006, eq. 5.11, as a mean over samples:
    PyTorch's `mse_loss` times classes / 2.
    """

    def value(self, logits: Array, labels: Array) -> float:
        errors = logits - _targets(self.xp, logits, labels)
        return measure(self.xp.mean((errors * errors).sum(axis=1))) / 2

    def slope(self, logits: Array, labels: Array) -> Array:
        slope: Array = (logits - _targets(self.xp, logits, labels)) / len(labels)
        return slope


def measure(value: Any) -> float:
    """The mean that an array of one element holds; one of a device stays there, as it is: to wait
    for it would hold up the rest."""
    return float(value) if isinstance(value, np.generic | np.ndarray) else value


def check_labels(labels: Array, classes: int) -> None:
    """Refuse the first label that is no class and no distribution over the classes, before it can
    index past an array.

    Arguments:
        labels: of the host: (n,) of integers, or (n, classes) float32.
    Raises:
        UserError: naming the label, its row in the batch, and the classes of the model.
    """
    if labels.ndim == 2:
        _check_rows(labels, classes)
        return
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise UserError(
            "data.source",
            f"label {labels[wrong[0]]} in row {wrong[0]} of a batch",
            f"labels from 0 to {classes - 1}",
            f"set model.args.classes to the number of classes (now {classes}) or mend the labels",
        )


def _check_rows(labels: Array, classes: int) -> None:
    if labels.shape[1] != classes:
        raise UserError(
            "data.source",
            f"soft labels of {labels.shape[1]} classes",
            f"rows of {classes} numbers, one for each output of the model",
            f"set model.args.classes to the number of classes (now {classes})",
        )
    totals = labels.sum(axis=1)
    # A comparison with NaN is false, so that it is refused too.
    fine = (labels.min(axis=1) >= 0) & (np.abs(totals - 1) <= _TOLERANCE)
    if not fine.all():
        row = int(np.argmin(fine))
        raise UserError(
            "data.augment",
            f"a soft label of sum {totals[row]:g}, the least {labels[row].min():g}, "
            f"in row {row} of a batch",
            "probabilities: from 0 up, of sum 1",
            "mend the transform that makes them",
        )


def classes_of(labels: Array) -> Array:
    """The class of each label, (n,); of a soft one the likeliest, and the first of several."""
    classes: Array = labels if labels.ndim == 1 else labels.argmax(axis=1)
    return classes


def _targets(xp: ModuleType, logits: Array, labels: Array) -> Array:
    """The labels' rows (n, classes), in the dtype of the logits."""
    if labels.ndim == 2:
        return labels.astype(logits.dtype, copy=False)
    onehot: Array = xp.zeros_like(logits)
    onehot[xp.arange(len(labels)), labels] = 1
    return onehot
