"""Losses of classification: functions of the net's last outputs (logits) and integer labels.

A loss and its derivative with respect to the logits stand side by side. Both losses hold the last
non-linearity themselves (softmax, sigmoid), so that neither can overflow or lose digits.
"""

from abc import ABC, abstractmethod
from types import ModuleType

import numpy as np

from ...common.errors import UserError
from ...common.types import Array


class Loss(ABC):
    """A mean over samples. Stateless: any thread may call it."""

    xp: ModuleType = np
    """The module of the arrays that the loss is handed, numpy or cupy."""

    @abstractmethod
    def value(self, logits: Array, labels: Array) -> float:
        """The mean loss of logits (n, classes) and labels (n,) int64."""

    @abstractmethod
    def slope(self, logits: Array, labels: Array) -> Array:
        """d(mean loss)/d(logits), (n, classes), in the dtype of the logits."""


class SoftmaxCrossEntropy(Loss):
    """-log softmax(z)[label]: one class of many. The derivative is softmax(z) - onehot(label)."""

    def value(self, logits: Array, labels: Array) -> float:
        shifted = logits - logits.max(axis=1, keepdims=True)
        chosen = shifted[np.arange(len(labels)), labels]
        return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - chosen))

    def slope(self, logits: Array, labels: Array) -> Array:
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        softmax = powers / powers.sum(axis=1, keepdims=True)
        slope: Array = (softmax - _onehot(logits, labels)) / len(labels)
        return slope


class SigmoidCrossEntropy(Loss):
    """Cross-entropy of one logistic unit for each class, summed over the units.

    With t the one-hot label and y = sigmoid(z): -sum(t log y + (1 - t) log(1 - y)), computed as
    max(z, 0) - z t + log(1 + e^-|z|). The derivative is y - t. (C. Bishop, "Pattern Recognition and
    Machine Learning", 2006, eq. 5.23 and section 5.2.)
    """

    def value(self, logits: Array, labels: Array) -> float:
        units = np.maximum(logits, 0) - logits * _onehot(logits, labels)
        units += np.log1p(np.exp(-np.abs(logits)))
        return float(np.mean(units.sum(axis=1)))

    def slope(self, logits: Array, labels: Array) -> Array:
        outputs = (1 + np.tanh(logits / 2)) / 2
        slope: Array = (outputs - _onehot(logits, labels)) / len(labels)
        return slope


def check_labels(labels: Array, classes: int) -> None:
    """Refuse the first label that is not a class, before it can index past an array.

    Raises:
        UserError: naming the label, its row in the batch, and the classes of the model.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise UserError(
            "data.source",
            f"label {labels[wrong[0]]} in row {wrong[0]} of a batch",
            f"labels from 0 to {classes - 1}",
            f"set model.args.classes to the number of classes (now {classes}) or mend the labels",
        )


def _onehot(logits: Array, labels: Array) -> Array:
    onehot = np.zeros_like(logits)
    onehot[np.arange(len(labels)), labels] = 1
    return onehot
