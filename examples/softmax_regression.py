"""A model written by hand: multinomial logistic regression in plain NumPy.

    dualshard train --model examples/softmax_regression.py:build

Any class with these four methods can be trained. dualshard owns the arrays and hands them in by
name: read `parameters`, write `gradients` in place, and keep float32.
"""

import numpy as np

from dualshard.worker.model import Model


class SoftmaxRegression(Model):
    """Labels k with probability softmax(x W + b)_k; the loss is the mean cross-entropy."""

    def __init__(self, inputs: int, classes: int) -> None:
        self.inputs, self.classes = inputs, classes

    def shapes(self):
        return {"weight": (self.inputs, self.classes), "bias": (self.classes,)}

    def start(self, parameters, rng):
        for values in parameters.values():
            values[:] = 0  # the loss is convex: any start will do

    def gradients(self, parameters, gradients, batch, rng):
        x, labels = batch[0].reshape(len(batch[0]), -1), batch[1]
        probabilities, metrics = self._predict(parameters, x, labels)
        probabilities[np.arange(len(labels)), labels] -= 1  # now d(sum of losses) / d(logits)
        probabilities /= np.float32(len(labels))
        np.matmul(x.T, probabilities, out=gradients["weight"])
        np.sum(probabilities, axis=0, out=gradients["bias"])
        return metrics

    def evaluate(self, parameters, batch):
        return self._predict(parameters, batch[0].reshape(len(batch[0]), -1), batch[1])[1]

    def _predict(self, parameters, x, labels):
        logits = x @ parameters["weight"] + parameters["bias"]
        logits -= logits.max(axis=1, keepdims=True)
        exponentials = np.exp(logits)
        totals = exponentials.sum(axis=1, keepdims=True)
        losses = np.log(totals[:, 0]) - logits[np.arange(len(labels)), labels]
        correct = logits.argmax(axis=1) == labels
        measured = {"loss": float(losses.mean()), "accuracy": float(correct.mean())}
        return exponentials / totals, measured


def build(inputs: int, classes: int) -> Model:
    """Called by every worker once the data is known; more arguments come from `model.args`."""
    return SoftmaxRegression(inputs, classes)
