"""Batch normalisation in compiled nets: its numbers by channel, and a stage of it alone."""

import numpy as np

from ...common.types import Array, Float32
from .interpreter import LINEAR
from .norm import BatchNorm
from .norm_kernels import (
    backward_rows,
    denormaliser,
    finish_rows,
    lead_rows,
    normaliser,
    row_moments,
)
from .stage import EMPTY, Buffer, Pass, Span, Stage


class Normaliser:
    """The numbers of one BatchNorm in one step, by channel; scratch of one stage of one thread.

    `spans` are those of weight, bias, mean and variance, which lie one behind the other.
    """

    def __init__(self, layer: BatchNorm, begin: int) -> None:
        self._layer, features = layer, layer.features
        self.first = begin
        self._spans: list[Span] = [
            (begin + part * features, begin + (part + 1) * features) for part in range(4)
        ]
        numbers = np.zeros((6, features), np.float32)
        self.mean, self._inverse, self.scale, self.shift, self.of_z, self.constant = numbers
        self.moments: Array = np.zeros((2, features))
        self._drift, self._none = np.zeros(2 * features, np.float32), np.zeros(features, np.float32)
        self.pivot = EMPTY

    def begin(self, work: Pass) -> None:
        """Before the moments of a batch are taken: around the running mean, which is near."""
        self.pivot = work.parameters[slice(*self._spans[2])]

    def settle(self, work: Pass, count: int, offset: Float32 = EMPTY) -> None:
        """From the moments of `count` numbers a channel to scale and shift.

        `offset` is what the numbers were taken without: it is part of the running mean alone.
        """
        layer = self._layer
        weight, bias, mean, _ = self._spans
        normaliser(
            *(self.moments, float(count), self.pivot, work.parameters[slice(*weight)]),
            *(work.parameters[slice(*bias)], layer.eps, layer.momentum),
            work.parameters[mean[0] : mean[0] + 2 * layer.features],
            *(offset if offset.size else self._none, self._drift),
            *(self.mean, self._inverse, self.scale, self.shift),
        )

    def fixed(self, work: Pass) -> tuple[Float32, Float32]:
        """Scale and shift by the running averages."""
        weight, bias, mean, variance = (work.parameters[slice(*span)] for span in self._spans)
        scale = weight / np.sqrt(variance + np.float32(self._layer.eps))
        return scale, bias - mean * scale

    def lead_back(self, work: Pass, count: int) -> None:
        """From the sums of the errors to the gradients, and to what `blend` needs."""
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

    def forward(self, work: Pass, x: Float32, addend: Float32 = EMPTY) -> Float32:
        y, norm = self._y.take(work.samples), self._norm
        self._x = x
        if work.rng is None:
            scale, shift = norm.fixed(work)
        else:
            norm.begin(work)
            row_moments(x, self._features, norm.pivot, self._part, norm.moments)
            norm.settle(work, x.size // self._features)
            scale, shift = norm.scale, norm.shift
        finish_rows(x, self._features, scale, shift, addend, self._kind, y)
        return y

    def backward(
        self, work: Pass, delta: Float32, source: Float32, add: bool, keep: bool = False
    ) -> None:
        norm, y = self._norm, self._y.take(work.samples)
        error = delta if keep else self._error.take(work.samples)
        backward_rows(
            *(delta, y, self._x, self._features, self._kind, norm.mean, self._part),
            *(norm.moments, error),
        )
        norm.lead_back(work, y.size // self._features)
        if source.size:
            lead_rows(
                *(error, self._x, self._features, norm.scale, norm.of_z, norm.constant),
                *(source, add),
            )
