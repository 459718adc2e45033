"""Activations: functions of one number, applied to each. No parameters, no other layers.

Each derivative is written in terms of the output, which is all that `backward` needs to keep.
"""

from abc import abstractmethod

import numpy as np

from ...common.types import Array
from .layer import Layer, Named, Sample


class Activation(Layer):
    """A layer that maps each number by itself; outputs have the shape of the inputs."""

    def outputs(self, sample: Sample) -> Sample:
        return sample

    def forward(self, parameters: Named, inputs: Array, rng: np.random.Generator | None) -> Array:
        self._outputs = self.value(inputs)
        return self._outputs

    def backward(self, parameters: Named, gradients: Named, delta: Array) -> Array:
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

    def value(self, z: Array) -> Array:
        outputs: Array = self.xp.maximum(z, 0)
        return outputs

    def slope(self, y: Array) -> Array:
        return (~(y <= 0)).astype(y.dtype)  # NaN passes its delta on, so that it is noticed


class Sigmoid(Activation):
    """y = 1 / (1 + e^-z), as (1 + tanh(z / 2)) / 2, which cannot overflow."""

    noun = "sigmoid"

    def value(self, z: Array) -> Array:
        outputs: Array = (1 + self.xp.tanh(z / 2)) / 2
        return outputs

    def slope(self, y: Array) -> Array:
        slope: Array = y * (1 - y)
        return slope


class Tanh(Activation):
    """y = tanh(z)."""

    noun = "tanh"

    def value(self, z: Array) -> Array:
        outputs: Array = self.xp.tanh(z)
        return outputs

    def slope(self, y: Array) -> Array:
        return 1 - y * y
