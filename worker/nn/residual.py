"""The residual block. Nothing else."""

from collections.abc import Sequence
from types import ModuleType

import numpy as np

from ...common.errors import UserError
from ...common.types import Array
from ..model import Shapes
from .chain import Chain
from .layer import Layer, Named, Sample

_SHORTCUT = "shortcut."


class Residual(Layer):
    """y = body(x) + shortcut(x); the shortcut is x itself where no layers are given.

    K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016,
    eq. 1 and 2, without the rectifier after the sum: put a `ReLU` behind the block.

    Parameters are those of the layers: `conv2d1.weight` of the body, `shortcut.conv2d1.weight`.
    Random draws come in the order body, shortcut.
    """

    noun = "residual"

    def __init__(self, body: Sequence[Layer], shortcut: Sequence[Layer] = ()) -> None:
        self.body, self.shortcut = Chain(body), Chain(shortcut)

    def use(self, xp: ModuleType) -> None:
        super().use(xp)
        self.body.use(xp)
        self.shortcut.use(xp)

    def shapes(self) -> Shapes:
        shortcut = {_SHORTCUT + name: shape for name, shape in self.shortcut.shapes().items()}
        return self.body.shapes() | shortcut

    def averaged(self) -> frozenset[str]:
        return self.body.averaged() | {_SHORTCUT + name for name in self.shortcut.averaged()}

    def start(self, parameters: Named, rng: np.random.Generator) -> None:
        self.body.start(parameters, rng)
        self.shortcut.start(_shortcut(parameters), rng)

    def outputs(self, sample: Sample) -> Sample:
        body, shortcut = self.body.outputs(sample), self.shortcut.outputs(sample)
        if body != shortcut:
            raise UserError(
                "Residual.shortcut",
                f"outputs of shape {shortcut}",
                f"{body}, as those of the body",
                "give a shortcut that ends alike, for example a Conv2D with a kernel of 1",
            )
        return body

    def forward(self, parameters: Named, inputs: Array, rng: np.random.Generator | None) -> Array:
        body = self.body.forward(parameters, inputs, rng)
        return body + self.shortcut.forward(_shortcut(parameters), inputs, rng)

    def backward(self, parameters: Named, gradients: Named, delta: Array) -> Array:
        body = self.body.backward(parameters, gradients, delta)
        return body + self.shortcut.backward(_shortcut(parameters), _shortcut(gradients), delta)


def _shortcut(arrays: Named) -> dict[str, Array]:
    """The arrays of the shortcut, by their names within it."""
    return {
        name.removeprefix(_SHORTCUT): value
        for name, value in arrays.items()
        if name.startswith(_SHORTCUT)
    }
