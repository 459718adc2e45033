"""From images to rows of numbers. Nothing else."""

from math import prod

import numpy as np

from ...common.types import Array
from .layer import Layer, Named, Sample


class Flatten(Layer):
    """(n, ...) becomes (n, features), the last axis fastest. `Dense` does it by itself."""

    noun = "flatten"

    def outputs(self, sample: Sample) -> Sample:
        return (prod(sample),)

    def forward(self, parameters: Named, inputs: Array, rng: np.random.Generator | None) -> Array:
        self._shape = inputs.shape
        return inputs.reshape(len(inputs), -1)

    def backward(self, parameters: Named, gradients: Named, delta: Array) -> Array:
        return delta.reshape(self._shape)
