"""Batch normalisation in compiled nets: its numbers by channel, and a stage of it alone."""

import numpy as np

from ....common.types import Array, Float32
from ..norm import BatchNorm
from .interpreter import LINEAR
from .norm_kernels import denormaliser, lead, normaliser, row_moments, row_products
from .plane_kernels import finish, unfinish
from .stage import EMPTY, Buffer, Pass, Span, Stage


class Normaliser:
    """The numbers of one BatchNorm in one step, by channel; scratch of one stage of one thread.

    `spans` are those of weight, bias, mean and variance, which lie one behind the other.
    """

    def __init__(self, layer: BatchNorm, begin: int) -> None:
        self._layer, features = layer, layer.features
        self._spans: list[Span] = [
            (begin + part * features, begin + (part + 1) * features) for part in range(4)
        ]
        numbers = np.zeros((6, features), np.float32)
        self.mean, self._inverse, self.scale, self.shift, self.of_z, self.constant = numbers
        self.moments: Array = np.zeros((2, features))
        self._drift = np.zeros(2 * features, np.float32)
        self.pivot = EMPTY

    def begin(self, work: Pass) -> None:
        """Before the moments of a batch are taken: around the running mean, which is near."""
        self.pivot = work.parameters[slice(*self._spans[2])]

    def settle(self, work: Pass, count: int, offset: Float32) -> None:
        """From the moments of `count` numbers a channel to mean, scale and shift.

        `offset` is what the numbers were taken without: it is part of the running mean alone.
        """
        layer, (weight, bias, mean, _) = self._layer, self._spans
        normaliser(
            *(self.moments, float(count), self.pivot, work.parameters[slice(*weight)]),
            *(layer.eps, layer.momentum),
            *(work.parameters[mean[0] : mean[0] + 2 * layer.features], offset, self._drift),
            *(self.mean, self._inverse, self.scale),
        )
        self.shift[:] = work.parameters[slice(*bias)]

    def recall(self, work: Pass, offset: Float32) -> None:
        """Mean, scale and shift of the running averages, for numbers taken without `offset`."""
        weight, bias, mean, variance = (work.parameters[slice(*span)] for span in self._spans)
        np.subtract(mean, offset, out=self.mean)
        spread = np.maximum(variance, np.float32(0)) + np.float32(self._layer.eps)
        np.divide(weight, np.sqrt(spread), out=self.scale)
        self.shift[:] = bias

    def lead_back(self, work: Pass, count: int) -> None:
        """From the sums of the errors to the gradients, and to what `lead` needs."""
        weight, bias, mean, _ = (slice(*span) for span in self._spans)
        denormaliser(
            *(self.moments, float(count), self.mean, self._inverse, self.scale),
            *(self.of_z, self.constant, work.gradients[weight], work.gradients[bias]),
        )
        work.gradients[mean.start : mean.start + self._drift.size] = self._drift


class NormStage(Stage):
    """BatchNorm and an activation behind anything but a convolution."""

    adds = True

    def __init__(self, layer: BatchNorm, begin: int, width: int, kind: int) -> None:
        """`width` is the number of values of a sample: pixels times features."""
        self._norm, self._features, self._kind = Normaliser(layer, begin), layer.features, kind
        self.begin, self.linear = begin, kind == LINEAR
        self._y, self._error = Buffer(width), Buffer(width)
        self._part = np.zeros(2 * layer.features, np.float32)
        self._zero = np.zeros(layer.features, np.float32)

    def forward(self, work: Pass, x: Float32, addend: Float32 = EMPTY) -> Float32:
        y, norm = self._y.take(work.samples), self._norm
        self._x = x
        if work.rng is None:
            norm.recall(work, self._zero)
        else:
            norm.begin(work)
            row_moments(x, self._features, norm.pivot, self._part, norm.moments)
            norm.settle(work, x.size // self._features, self._zero)
        pixels = x.size // self._features
        numbers = norm.mean, norm.scale, norm.shift
        finish(x, pixels, 1, self._features, *numbers, addend, self._kind, 1, y, EMPTY)
        return y

    def backward(
        self, work: Pass, delta: Float32, source: Float32, add: bool, keep: bool = False
    ) -> None:
        norm, y = self._norm, self._y.take(work.samples)
        error = delta if keep else self._error.take(work.samples)
        pixels, features = y.size // self._features, self._features
        unfinish(delta, y, EMPTY, pixels, 1, features, self._kind, 1, error, features)
        row_products(error, self._x, features, norm.mean, self._part, norm.moments)
        norm.lead_back(work, pixels)
        if source.size:
            numbers = norm.scale, norm.mean, norm.of_z, norm.constant
            lead(error, features, self._x, features, *numbers, source, add)
