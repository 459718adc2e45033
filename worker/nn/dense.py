"""The fully connected layer. Nothing else."""

from math import prod

import numpy as np

from ...common.errors import UserError
from ...common.types import Array
from ..model import Factors, Shapes
from .fused import LINEAR, fused
from .initialisers import Initialiser, he_normal
from .layer import Layer, Named, Sample


class Dense(Layer):
    """y = x W + b, with weight W (inputs, outputs) and bias b (outputs,).

    Inputs of any shape (n, ...) are flattened to (n, inputs). Biases start at zero. The gradient of
    the weight is x^T d(loss)/dy; `backward` leaves it out where `gradients` holds no `weight`.
    From `backward` to the next `forward`, `factors` are x and d(loss)/dy.
    """

    noun = "dense"

    def __init__(self, inputs: int, outputs: int, initialiser: Initialiser = he_normal) -> None:
        self.inputs, self.units, self.initialiser = inputs, outputs, initialiser
        self.factors: Factors | None = None

    def shapes(self) -> Shapes:
        return {"weight": (self.inputs, self.units), "bias": (self.units,)}

    def start(self, parameters: Named, rng: np.random.Generator) -> None:
        parameters["weight"][...] = self.initialiser((self.inputs, self.units), rng)
        parameters["bias"][...] = 0

    def outputs(self, sample: Sample) -> Sample:
        inputs = prod(sample)
        if inputs != self.inputs:
            raise UserError(
                "Dense.inputs",
                self.inputs,
                f"{inputs}, the outputs of the layer before",
                f"write Dense({inputs}, {self.units})",
            )
        return (self.units,)

    def forward(self, parameters: Named, inputs: Array, rng: np.random.Generator | None) -> Array:
        self._shape, self.factors = inputs.shape, None
        self._inputs = inputs.reshape(len(inputs), -1)
        outputs: Array = self._inputs @ parameters["weight"]
        if self.xp is np:
            return outputs + parameters["bias"]
        fused(self.xp).activate(self.behind or LINEAR, outputs, parameters["bias"])
        return outputs

    def backward(self, parameters: Named, gradients: Named, delta: Array) -> Array:
        self.factors = self._inputs, delta
        if "weight" in gradients:
            self.xp.matmul(self._inputs.T, delta, out=gradients["weight"])
        self.xp.sum(delta, axis=0, out=gradients["bias"])
        if self.unwanted:
            return delta
        return (delta @ parameters["weight"].T).reshape(self._shape)
