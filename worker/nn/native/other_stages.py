"""Stages that have no kernels of their own: any layer as it is, and blocks of stages."""

from collections.abc import Iterator, Sequence

import numpy as np

from ....common.types import Array, Float32
from ..layer import Layer, Sample
from .stage import EMPTY, Buffer, Pass, Span, Stage


class LayerStage(Stage):
    """A layer's own NumPy code, for layers that nobody has compiled."""

    def __init__(self, layer: Layer, sample: Sample, spans: dict[str, Span]) -> None:
        """`spans` are where its parameters lie in the flat vector, by their name in the layer."""
        self._layer, self._sample, self._spans = layer, sample, spans
        self._shapes = layer.shapes()
        self.begin = min((begin for begin, _ in spans.values()), default=None)
        self._outputs: Sample = layer.outputs(sample)

    def forward(self, work: Pass, x: Float32, addend: Float32 = EMPTY) -> Float32:
        inputs = x.reshape(work.samples, *self._sample)
        y = self._layer.forward(self._named(work.parameters), inputs, work.rng)
        return np.ascontiguousarray(y, np.float32).reshape(-1)

    def backward(
        self, work: Pass, delta: Float32, source: Float32, add: bool, keep: bool = False
    ) -> None:
        shaped = delta.reshape(work.samples, *self._outputs)
        found = self._layer.backward(
            self._named(work.parameters), self._named(work.gradients), shaped
        )
        if source.size and add:
            source += found.reshape(-1)
        elif source.size:
            source[:] = found.reshape(-1)

    def _named(self, flat: Float32) -> dict[str, Array]:
        return {
            name: flat[begin:end].reshape(self._shapes[name])
            for name, (begin, end) in self._spans.items()
        }


class Row:
    """Stages one after the other, with a buffer of errors behind each; none are the identity."""

    def __init__(self, stages: Sequence[Stage], widths: Sequence[int]) -> None:
        """`widths` are the values of a sample behind each stage."""
        self.stages = list(stages)
        self._errors = [Buffer(width) for width in widths]

    def forward(self, work: Pass, x: Float32, addend: Float32 = EMPTY) -> Float32:
        """The outputs of the last stage, which gets the addend; x itself where there is none."""
        last = len(self.stages) - 1
        for number, stage in enumerate(self.stages):
            x = stage.forward(work, x, addend if number == last else EMPTY)
        return x

    def errors(self, samples: int) -> Float32:
        """Where the derivative by the outputs of the last stage goes."""
        return self._errors[-1].take(samples)

    def backward(
        self, work: Pass, delta: Float32, source: Float32, add: bool = False, keep: bool = False
    ) -> None:
        """All stages, from `delta` behind the last one."""
        for _ in self.each_backward(work, delta, source, add, keep):
            pass

    def each_backward(
        self, work: Pass, delta: Float32, source: Float32, add: bool = False, keep: bool = False
    ) -> Iterator[Stage]:
        """`backward`, with each stage once its gradients are final."""
        last = len(self.stages) - 1
        if last < 0 and source.size:
            np.add(source, delta, out=source) if add else np.copyto(source, delta)
        for number in range(last, -1, -1):
            target = self._errors[number - 1].take(work.samples) if number else source
            stage = self.stages[number]
            stage.backward(work, delta, target, add and not number, keep and number == last)
            yield stage
            delta = target


class ResidualStage(Stage):
    """f(body(x) + shortcut(x)): the last stage of the body adds, if it can, and applies f."""

    def __init__(
        self, body: Row, shortcut: Row, fused: bool, begin: int | None, width: int
    ) -> None:
        """`fused`: the body's last stage adds. `width`: values of a sample behind the block."""
        self._body, self._shortcut, self.begin = body, shortcut, begin
        self._fused = fused
        self._y = Buffer(width)

    def forward(self, work: Pass, x: Float32, addend: Float32 = EMPTY) -> Float32:
        if self._fused:
            *inner, last = self._body.stages
            between = Row(inner, ()).forward(work, x)  # draws from `rng` before the shortcut does
            return last.forward(work, between, self._shortcut.forward(work, x))
        y = self._y.take(work.samples)
        np.add(self._body.forward(work, x), self._shortcut.forward(work, x), out=y)
        return y

    def backward(
        self, work: Pass, delta: Float32, source: Float32, add: bool, keep: bool = False
    ) -> None:
        self._body.backward(work, delta, source, add, keep=self._fused)
        self._shortcut.backward(work, delta, source, add=True)


def can_add(body: Row) -> bool:
    """Whether the last stage of a residual block's body takes the shortcut as its addend."""
    return bool(body.stages) and body.stages[-1].adds and body.stages[-1].linear
