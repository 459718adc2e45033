"""The contract of a layer. A new kind of layer is a subclass, in a file of its own family.

A layer is written once, against NumPy, as the plain reference; the compiled step (`program.py`)
must agree with it. It owns no parameters: they are handed in by their names within the layer.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from ...common.types import Array
from ..model import Shapes

Named = Mapping[str, Array]
"""The parameters (or gradients) of one layer: `weight`, `bias`."""


class Layer(ABC):
    """One step of a net, forward and backward side by side.

    `forward` keeps what `backward` needs in the layer, so that one layer belongs to one thread, and
    each `backward` follows its own `forward`. All arrays of a call share one dtype: float32 in
    training, float64 where a test compares with numeric gradients.
    """

    noun: ClassVar[str]
    """What parameters and cuts are named after: `dense` gives `dense1`, `dense2`."""

    def shapes(self) -> Shapes:
        """The layer's own parameters: name within the layer, and shape."""
        return {}

    def start(self, parameters: Named, rng: np.random.Generator) -> None:
        """Fill `parameters` with their first values, in place."""
        return

    @abstractmethod
    def width(self, inputs: int | None) -> int | None:
        """The number of outputs of a sample that has `inputs`; None where any number would do.

        Raises:
            UserError: `inputs` is not what this layer takes.
        """

    @abstractmethod
    def forward(self, parameters: Named, inputs: Array) -> Array:
        """Outputs (n, ...) of inputs (n, ...)."""

    @abstractmethod
    def backward(self, parameters: Named, gradients: Named, delta: Array) -> Array:
        """Write d(loss)/d(parameter) into `gradients`; return d(loss)/d(inputs).

        `delta` is d(loss)/d(outputs), in the shape of the outputs.
        """
