"""The map between a model's named parameters and one flat float32 vector. Pure.

Layers and users see names and shapes; everything that moves (threads, exchange, shards) sees one
contiguous vector.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from ..common.types import Float32


class Parameters(Mapping[str, Float32]):
    """Named views of one flat vector: `parameters["dense1.weight"]` and `parameters.flat`.

    Writing through a view writes the vector. No locks: any thread may read and write.
    """

    def __init__(self, flat: Float32, views: dict[str, Float32]) -> None:
        self.flat = flat
        self._views = views

    def __getitem__(self, name: str) -> Float32:
        return self._views[name]

    def __setitem__(self, name: str, values: object) -> None:
        """What `parameters[name] += ...` ends with. The arrays cannot be exchanged for others."""
        if values is not self._views[name]:
            raise TypeError(f"write into the array: parameters[{name!r}][...] = values")

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)


@dataclass(frozen=True)
class Layout:
    """Where each named parameter lies in the flat vector, in the order of `shapes`."""

    shapes: dict[str, tuple[int, ...]]

    @property
    def size(self) -> int:
        """The number of float32 elements of the flat vector."""
        return sum(prod(shape) for shape in self.shapes.values())

    def spans(self) -> dict[str, tuple[int, int]]:
        """The half-open range [begin, end) of elements that each parameter takes."""
        spans, begin = {}, 0
        for name, shape in self.shapes.items():
            spans[name] = (begin, begin + prod(shape))
            begin += prod(shape)
        return spans

    def views(self, flat: Float32) -> Parameters:
        """Named views into `flat`, a float32 vector of `size` elements."""
        assert flat.dtype == np.float32
        assert flat.shape == (self.size,)
        named = {
            name: flat[begin:end].reshape(self.shapes[name])
            for name, (begin, end) in self.spans().items()
        }
        return Parameters(flat, named)


def nonfinite(shapes: Mapping[str, tuple[int, ...]], flat: Float32) -> list[str]:
    """The names of the parameters in whose part of a flat vector (n,) there is NaN or infinity."""
    spans = Layout(dict(shapes)).spans().items()
    return [name for name, (begin, end) in spans if not np.isfinite(flat[begin:end]).all()]
