"""Normalisation: activations shifted and scaled to mean 0 and variance 1, then by what is learnt.

Sums over a batch have as many terms as pixels: they are taken in float64, so that no digit of a
mean depends on the order of the terms, and rounded once.
"""

from math import prod

import numpy as np

from ...common.errors import UserError
from ...common.types import Array
from ..model import Shapes
from .layer import Layer, Named, Sample


class BatchNorm(Layer):
    """y = weight (x - mean) / sqrt(variance + eps) + bias, for each feature on the last axis.

    In training mean and variance are those of the batch over all other axes: samples, and pixels of
    images (S. Ioffe, C. Szegedy, "Batch normalization", ICML 2015, algorithm 1 and section 3.2). In
    evaluation they are the running averages `mean` and `variance`, which training moves by
    `momentum` towards the batch's: running -= momentum (running - batch). `backward` leaves
    momentum (running - batch) in their gradients. As in PyTorch the running variance is the average
    of m / (m - 1) times the variance of the m numbers, and stays as it is where m = 1. Workers that
    push at the same time may take a running variance below zero for a moment: it counts as zero.

    weight, bias, mean, variance: (features,); 1, 0, 0, 1 at the start.
    """

    noun = "batchnorm"

    def __init__(self, features: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        self.features, self.momentum, self.eps = features, momentum, eps

    def shapes(self) -> Shapes:
        return dict.fromkeys(("weight", "bias", "mean", "variance"), (self.features,))

    def averaged(self) -> frozenset[str]:
        return frozenset({"mean", "variance"})

    def start(self, parameters: Named, rng: np.random.Generator) -> None:
        for name, value in {"weight": 1, "bias": 0, "mean": 0, "variance": 1}.items():
            parameters[name][...] = value

    def outputs(self, sample: Sample) -> Sample:
        if not sample or sample[-1] != self.features:
            _refuse("BatchNorm.features", self.features, sample[-1:], sample)
        return sample

    def forward(self, parameters: Named, inputs: Array, rng: np.random.Generator | None) -> Array:
        weight, bias, axes = parameters["weight"], parameters["bias"], tuple(range(inputs.ndim - 1))
        if rng is None:
            variance = self.xp.maximum(parameters["variance"], 0)
            scale: Array = weight / self.xp.sqrt(variance + self.eps)
            return (inputs - parameters["mean"]) * scale + bias
        self._mean = self._average(inputs, axes)
        centred = inputs - self._mean
        self._variance = self._average(centred * centred, axes)
        self._scale: Array = 1 / self.xp.sqrt(self._variance + self.eps)
        self._normal = centred * self._scale
        outputs: Array = self._normal * weight + bias
        return outputs

    def backward(self, parameters: Named, gradients: Named, delta: Array) -> Array:
        axes, count = tuple(range(delta.ndim - 1)), delta.size // self.features
        shift = self._average(delta, axes)
        slope = self._average(delta * self._normal, axes)
        gradients["bias"][...] = shift * count
        gradients["weight"][...] = slope * count
        self._move(parameters, gradients, count)
        scale = parameters["weight"] * self._scale
        source: Array = scale * (delta - shift - self._normal * slope)
        return source

    def _move(self, parameters: Named, gradients: Named, count: int) -> None:
        """The steps of the running averages."""
        mean, variance = parameters["mean"], parameters["variance"]
        unbiased = self._variance * (count / (count - 1)) if count > 1 else variance
        gradients["mean"][...] = self.momentum * (mean - self._mean)
        gradients["variance"][...] = self.momentum * (variance - unbiased)

    def _average(self, values: Array, axes: tuple[int, ...]) -> Array:
        average: Array = self.xp.mean(values, axis=axes, dtype=np.float64)
        return average.astype(values.dtype)


class LayerNorm(Layer):
    """y = weight (x - mean) / sqrt(variance + eps) + bias, over the last axes of each sample.

    J. Ba, J. Kiros, G. Hinton, "Layer normalization", 2016, eq. 4 with gain and bias; the variance
    is that of the numbers themselves (divided by their count), and the same in evaluation.

    weight, bias: (features,), one for each of the numbers in C order; 1 and 0 at the start.
    """

    noun = "layernorm"

    def __init__(self, features: int | tuple[int, ...], eps: float = 1e-5) -> None:
        """`features` is the size of the last axis, or the shape of the last axes."""
        self.shape = (features,) if isinstance(features, int) else tuple(features)
        self.features, self.eps = prod(self.shape), eps

    def shapes(self) -> Shapes:
        return {"weight": (self.features,), "bias": (self.features,)}

    def start(self, parameters: Named, rng: np.random.Generator) -> None:
        parameters["weight"][...] = 1
        parameters["bias"][...] = 0

    def outputs(self, sample: Sample) -> Sample:
        last = sample[-len(self.shape) :]
        if last != self.shape:
            _refuse("LayerNorm.features", self.shape, last, sample)
        return sample

    def forward(self, parameters: Named, inputs: Array, rng: np.random.Generator | None) -> Array:
        rows = inputs.reshape(-1, self.features)
        centred = rows - rows.mean(axis=1, keepdims=True)
        variance = (centred * centred).mean(axis=1, keepdims=True)
        self._scale = 1 / self.xp.sqrt(variance + self.eps)
        self._normal = centred * self._scale
        outputs: Array = self._normal * parameters["weight"] + parameters["bias"]
        return outputs.reshape(inputs.shape)

    def backward(self, parameters: Named, gradients: Named, delta: Array) -> Array:
        rows = delta.reshape(-1, self.features)
        gradients["bias"][...] = self.xp.sum(rows, axis=0, dtype=np.float64)
        gradients["weight"][...] = self.xp.sum(rows * self._normal, axis=0, dtype=np.float64)
        weighted = rows * parameters["weight"]
        shift = weighted.mean(axis=1, keepdims=True)
        slope = (weighted * self._normal).mean(axis=1, keepdims=True)
        source: Array = self._scale * (weighted - shift - self._normal * slope)
        return source.reshape(delta.shape)


def _refuse(key: str, value: object, last: Sample, sample: Sample) -> None:
    shown = last[0] if len(last) == 1 else last
    expected = f"{shown}, the last of a sample of shape {sample}"
    raise UserError(key, value, expected, f"write {key.partition('.')[0]}({shown})")
