"""Models that say where they can be cut, and some that do it wrong."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from part_cases import dense

from dualshard.common.types import Array, Arrays, Float32, Metrics
from dualshard.worker.model import Model, Shapes
from dualshard.worker.nn.sequential import Sequential
from dualshard.worker.parts.part import Cuttable, Judged, Named, Part

SIZE = 64


class Scales(Part):
    """y = w x, elementwise, for one w after the other."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def shapes(self) -> Shapes:
        return dict.fromkeys(self.names, (SIZE,))

    def forward(self, parameters: Named, inputs: Array, rng: Any) -> Array:
        self.inputs = [inputs.reshape(len(inputs), -1)]
        for name in self.names:
            self.inputs.append(self.inputs[-1] * parameters[name])
        return self.inputs[-1]

    def backward(self, parameters: Named, gradients: Named, delta: Array) -> Array:
        for number, name in reversed(list(enumerate(self.names))):
            gradients[name][:] = (self.inputs[number] * delta).sum(axis=0)
            delta = delta * parameters[name]
        return delta

    def loss(self, outputs: Array, labels: Array) -> Judged:
        return Judged({"loss": float((outputs**2).mean() / 2)}, outputs / outputs.size)


class Plain(Model):
    """Half the mean of the squares of w1 w2 w3 x. It cannot be cut."""

    names = ("w1", "w2", "w3")

    def shapes(self) -> Shapes:
        return Scales(self.names).shapes()

    def start(self, parameters: Mapping[str, Float32], rng: np.random.Generator) -> None:
        for name in self.names:
            parameters[name][:] = rng.normal(size=SIZE)

    def gradients(
        self,
        parameters: Mapping[str, Float32],
        gradients: Mapping[str, Float32],
        batch: Arrays,
        rng: np.random.Generator,
    ) -> Metrics:
        whole = Scales(self.names)
        judged = whole.loss(whole.forward(parameters, batch[0], rng), batch[1])
        whole.backward(parameters, gradients, judged.slope)
        return judged.metrics

    def evaluate(self, parameters: Mapping[str, Float32], batch: Arrays) -> Metrics:
        whole = Scales(self.names)
        return whole.loss(whole.forward(parameters, batch[0], None), batch[1]).metrics


class Lines(Plain, Cuttable):
    """The same, which can."""

    def cut_points(self) -> Sequence[str]:
        return ["one", "two"]

    def cut(self, points: Sequence[str]) -> Sequence[Part]:
        borders = [0, *(self.cut_points().index(point) + 1 for point in points), 3]
        return [self.part(self.names[a:b]) for a, b in pairwise(borders)]

    def part(self, names: Sequence[str]) -> Part:
        return Scales(names)


class TooFew(Lines):
    def cut(self, points: Sequence[str]) -> Sequence[Part]:
        return super().cut(points)[:-1]


class Turned(Lines):
    def cut(self, points: Sequence[str]) -> Sequence[Part]:
        return super().cut(points)[::-1]


class Whole(Lines):
    cut_points: Any = None


class Narrow(Lines):
    class _Part(Scales):
        def backward(self, parameters: Named, gradients: Named, delta: Array) -> Array:
            return super().backward(parameters, gradients, delta)[:, :1]

    def part(self, names: Sequence[str]) -> Part:
        return self._Part(names)


class Lazy(Lines):
    class _Part(Scales):
        def backward(self, parameters: Named, gradients: Named, delta: Array) -> Array:
            return delta

    def part(self, names: Sequence[str]) -> Part:
        return self._Part(names)


class Wide(Lines):
    class _Part(Scales):
        def forward(self, parameters: Named, inputs: Array, rng: Any) -> Array:
            return super().forward(parameters, inputs, rng).astype(np.float64)

    def part(self, names: Sequence[str]) -> Part:
        return self._Part(names)


class _Own(Sequential):
    def gradients(self, *arguments: Any) -> Metrics:
        return super().gradients(*arguments)


def own() -> Sequential:
    """A Sequential that may do anything in its gradients."""
    plain = dense()
    return _Own(list(plain.layers.values()), plain.loss, sample_shape=plain.sample)
