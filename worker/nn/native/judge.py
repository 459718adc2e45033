"""What a net's last outputs are worth: loss, accuracy and slope, compiled where the loss is."""

import numpy as np

from ....common.types import Array, Float32, Metrics
from ..losses import Loss, check_labels, classes_of
from .interpreter import LOGISTIC, SOFTMAX, sigmoid_cross_entropy, softmax_cross_entropy
from .program import kind_of, separate

_KERNELS = {SOFTMAX: softmax_cross_entropy, LOGISTIC: sigmoid_cross_entropy}


class Judge:
    """A loss over so many classes. Stateless: any thread may call it."""

    def __init__(self, loss: Loss, classes: int) -> None:
        self._loss, self._classes = loss, classes
        kind = kind_of(loss)
        self._kernel = None if kind is None else _KERNELS[kind]

    def check(self, labels: Array) -> None:
        """Raise a UserError if a label is not a class."""
        check_labels(labels, self._classes)

    def __call__(self, logits: Float32, labels: Array, slopes: Float32) -> Metrics:
        """Loss and accuracy; d(mean loss)/d(logits) into `slopes`, both (n * classes,)."""
        n, classes = len(labels), self._classes
        if self._kernel is not None:
            loss, right = self._kernel(logits, *separate(labels), slopes, classes)
            return {"loss": loss / n, "accuracy": right / n}
        rows = logits.reshape(n, classes)
        slopes[:] = self._loss.slope(rows, labels).reshape(-1)
        accurate = float(np.mean(rows.argmax(axis=1) == classes_of(labels)))
        return {"loss": self._loss.value(rows, labels), "accuracy": accurate}
