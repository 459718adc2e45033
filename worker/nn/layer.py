"""The contract of a layer. A new kind of layer is a subclass, in a file of its own family.

A layer is written once, against the array module `xp`, as the plain reference; the compiled step
(`native/`) must agree with it. It owns no parameters: they are handed in by their names within
the layer. Images are (n, height, width, channels); (n, height, width) counts as one channel.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import ModuleType
from typing import ClassVar

import numpy as np

from ...common.types import Array
from ..model import Shapes

Named = Mapping[str, Array]
"""The parameters (or gradients) of one layer: `weight`, `bias`."""

Sample = tuple[int, ...]
"""The shape of one sample, without the batch axis."""


class Layer(ABC):
    """One step of a net, forward and backward side by side.

    `forward` keeps what `backward` needs in the layer, so that one layer belongs to one thread, and
    each `backward` follows its own `forward`. All arrays of a call share one dtype: float32 in
    training, float64 where a test compares with numeric gradients. Arrays that are handed in are
    left as they are, except for `gradients`; what `forward` returns may be kept, not written.
    """

    noun: ClassVar[str]
    """What parameters and cuts are named after: `dense` gives `dense1`, `dense2`."""

    xp: ModuleType = np
    """The module of the arrays that the layer is handed, numpy or cupy."""

    behind: str = ""
    """On a GPU: the activation behind this layer, where the layer applies it with its bias."""

    unwanted: bool = False
    """On a GPU: nobody needs d(loss)/d(inputs), so that `backward` may return anything."""

    def use(self, xp: ModuleType) -> None:
        """Compute with the arrays of another module from now on."""
        self.xp = xp

    def shapes(self) -> Shapes:
        """The layer's own parameters: name within the layer, and shape."""
        return {}

    def averaged(self) -> frozenset[str]:
        """Those of `shapes` that are running averages, not learnt (see `Model.averaged`)."""
        return frozenset()

    def start(self, parameters: Named, rng: np.random.Generator) -> None:
        """Fill `parameters` with their first values, in place."""
        return

    @abstractmethod
    def outputs(self, sample: Sample) -> Sample:
        """The shape of one sample's outputs, given the shape of its inputs; no batch axis.

        Raises:
            UserError: `sample` is not what this layer takes.
        """

    @abstractmethod
    def forward(self, parameters: Named, inputs: Array, rng: np.random.Generator | None) -> Array:
        """Outputs (n, ...) of inputs (n, ...).

        `rng` is the random stream of a training step; None in evaluation, which is a function of
        parameters and inputs alone. Only a forward with `rng` is followed by `backward`.
        """

    @abstractmethod
    def backward(self, parameters: Named, gradients: Named, delta: Array) -> Array:
        """Write d(loss)/d(parameter) into `gradients`; return d(loss)/d(inputs).

        `delta` is d(loss)/d(outputs), in the shape of the outputs.
        """
