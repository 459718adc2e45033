"""A row of layers, named by kind and place: what a net and a residual block have in common.

No loss, no flat vector; nothing is kept but the layers.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from types import ModuleType
from typing import Self

import numpy as np

from ...common.types import Array
from ..model import Shapes
from .activations import Activation
from .convolution import Conv2D
from .dense import Dense
from .layer import Layer, Named, Sample


class Chain:
    """Layers one after the other. An empty one is the identity. Belongs to one thread."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = dict(_named(layers))

    @classmethod
    def of(cls, layers: Mapping[str, Layer]) -> Self:
        """A row of layers that have their names already."""
        made = cls(())
        made.layers = dict(layers)
        return made

    def use(self, xp: ModuleType) -> None:
        """Compute with the arrays of another module from now on."""
        for layer in self.layers.values():
            layer.use(xp)
        for layer, after in pairwise(self.layers.values()):
            if isinstance(after, Activation):
                after.applied = xp is not np and bool(after.kind) and _takes_more(layer)
                layer.behind = after.kind if after.applied else ""

    def shapes(self) -> Shapes:
        """All parameters: `dense1.weight` is the weight of the first Dense."""
        return {
            f"{name}.{part}": shape
            for name, layer in self.layers.items()
            for part, shape in layer.shapes().items()
        }

    def averaged(self) -> frozenset[str]:
        """Those of `shapes` that are running averages."""
        return frozenset(
            f"{name}.{part}" for name, layer in self.layers.items() for part in layer.averaged()
        )

    def start(self, parameters: Named, rng: np.random.Generator) -> None:
        """Fill `parameters` with their first values, in place."""
        for name, layer in self.layers.items():
            layer.start(part_of(parameters, name, layer), rng)

    def outputs(self, sample: Sample) -> Sample:
        """The shape of a sample's outputs; raises the UserError of a layer that does not fit."""
        for layer in self.layers.values():
            sample = layer.outputs(sample)
        return sample

    def forward(self, parameters: Named, values: Array, rng: np.random.Generator | None) -> Array:
        """Outputs (n, ...) of inputs (n, ...); layers draw from `rng` in their order."""
        for name, layer in self.layers.items():
            values = layer.forward(part_of(parameters, name, layer), values, rng)
        return values

    def backward(self, parameters: Named, gradients: Named, delta: Array) -> Array:
        """Fill `gradients` from the last layer to the first; return d(loss)/d(inputs)."""
        for name, layer in reversed(self.layers.items()):
            own, target = part_of(parameters, name, layer), part_of(gradients, name, layer)
            delta = layer.backward(own, target, delta)
        return delta


def part_of(arrays: Mapping[str, Array], name: str, layer: Layer) -> dict[str, Array]:
    """The arrays of one layer, by their names within it."""
    return {part: arrays[f"{name}.{part}"] for part in layer.shapes()}


def _takes_more(layer: Layer) -> bool:
    """Whether a layer can apply an activation with its bias; not so a subclass, which may do
    anything."""
    return type(layer) is Dense or (type(layer) is Conv2D and layer.bias)


def _named(layers: Sequence[Layer]) -> Iterator[tuple[str, Layer]]:
    counts: dict[str, int] = {}
    for layer in layers:
        counts[layer.noun] = counts.get(layer.noun, 0) + 1
        yield f"{layer.noun}{counts[layer.noun]}", layer
