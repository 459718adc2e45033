"""Activations: functions of one number, applied to each. No parameters, no other layers.

Derivatives are written in terms of the output, which is all that `backward` needs to keep, but for
GELU's: it falls and rises, so that the output does not tell.
"""

from abc import abstractmethod
from importlib import import_module
from math import pi, sqrt
from types import ModuleType
from typing import ClassVar

import numpy as np

from ...common.errors import UserError
from ...common.types import Array
from .fused import RELU, SIGMOID, TANH, fused
from .layer import Layer, Named, Sample


class Activation(Layer):
    """A layer that maps each number by itself; outputs have the shape of the inputs."""

    kind: ClassVar[str] = ""
    """Its name in `fused`, where a GPU has a kernel for it."""

    applied: bool = False
    """On a GPU: the layer before has applied it already (`Layer.behind`)."""

    def outputs(self, sample: Sample) -> Sample:
        return sample

    def forward(self, parameters: Named, inputs: Array, rng: np.random.Generator | None) -> Array:
        self._outputs = inputs if self.applied else self.value(inputs)
        return self._outputs

    def backward(self, parameters: Named, gradients: Named, delta: Array) -> Array:
        if self.kind and self.xp is not np:
            return fused(self.xp).slope(self.kind, self._outputs, delta)
        return delta * self.slope(self._outputs)

    @abstractmethod
    def value(self, z: Array) -> Array:
        """y = f(z)."""

    @abstractmethod
    def slope(self, y: Array) -> Array:
        """f'(z), given y = f(z)."""


class ReLU(Activation):
    """y = max(z, 0); the slope at zero is taken to be zero. NaN stays NaN."""

    noun = "relu"
    kind = RELU

    def value(self, z: Array) -> Array:
        outputs: Array = self.xp.maximum(z, 0)
        return outputs

    def slope(self, y: Array) -> Array:
        return (~(y <= 0)).astype(y.dtype)  # NaN passes its delta on, so that it is noticed


class LeakyReLU(Activation):
    """y = z where z > 0, else leak z (A. Maas, A. Hannun, A. Ng, ICML 2013, eq. 3)."""

    noun = "leakyrelu"

    def __init__(self, leak: float = 0.01) -> None:
        """Raises UserError: `leak` is negative, so that the output would not tell the slope."""
        if isinstance(leak, bool) or not isinstance(leak, int | float) or not 0 <= leak < 1:
            fix = "give the slope below zero, 0.01 for example"
            raise UserError("LeakyReLU.leak", leak, "a number from 0 to below 1", fix)
        self.leak = leak

    def value(self, z: Array) -> Array:
        outputs: Array = self.xp.where(z > 0, z, z * self.leak)
        return outputs

    def slope(self, y: Array) -> Array:
        return self.leak + (1 - self.leak) * (y > 0).astype(y.dtype)


class Sigmoid(Activation):
    """y = 1 / (1 + e^-z), as (1 + tanh(z / 2)) / 2, which cannot overflow."""

    noun = "sigmoid"
    kind = SIGMOID

    def value(self, z: Array) -> Array:
        outputs: Array = (1 + self.xp.tanh(z / 2)) / 2
        return outputs

    def slope(self, y: Array) -> Array:
        slope: Array = y * (1 - y)
        return slope


class Tanh(Activation):
    """y = tanh(z)."""

    noun = "tanh"
    kind = TANH

    def value(self, z: Array) -> Array:
        outputs: Array = self.xp.tanh(z)
        return outputs

    def slope(self, y: Array) -> Array:
        return 1 - y * y


class GELU(Activation):
    """y = z P(z), P the distribution function of the standard Gaussian: (1 + erf(z / sqrt 2)) / 2.

    The exact form (D. Hendrycks, K. Gimpel, "Gaussian error linear units", 2016, section 2), which
    is PyTorch's default. The slope is P(z) + z p(z) with the density p.
    """

    noun = "gelu"

    def value(self, z: Array) -> Array:
        self._inputs, self._below = z, (1 + _erf(self.xp)(z * sqrt(0.5))) / 2
        outputs: Array = z * self._below
        return outputs

    def slope(self, y: Array) -> Array:
        z = self._inputs
        slope: Array = self._below + z * self.xp.exp(z * z / -2) / sqrt(2 * pi)
        return slope


def _erf(xp: ModuleType) -> np.ufunc:
    """The error function for arrays of `xp`: neither NumPy nor CuPy has it in its main module."""
    special = import_module("scipy.special" if xp is np else "cupyx.scipy.special")
    erf: np.ufunc = special.erf
    return erf
