"""Nets with convolutions, normalisation or anything else, compiled stage by stage.

Perceptrons run in a single compiled call (`program`); here each stage is a call or a few of them,
which costs a few microseconds and lets layers be put together at will. Layers that nobody has
compiled run their own NumPy code in between.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from math import prod
from typing import NamedTuple

import numpy as np

from ....common.types import Array, Float32, Metrics
from ...layout import Layout
from ...model import Factors, Ready
from ..activations import ReLU, Sigmoid, Tanh
from ..convolution import Conv2D
from ..dense import Dense
from ..flatten import Flatten
from ..layer import Layer, Sample
from ..losses import Loss
from ..norm import BatchNorm
from ..pooling import MaxPool
from ..residual import Residual
from ..windows import image_of
from .conv_stage import ConvStage, can_convolve, make_plan
from .dense_stage import DenseStage
from .interpreter import LINEAR, RELU, SIGMOID, TANH
from .judge import Judge
from .norm_stage import Normaliser, NormStage
from .other_stages import LayerStage, ResidualStage, Row, can_add
from .program import readable
from .stage import EMPTY, Buffer, Pass, Span, Stage

_ACTIVATIONS: dict[type[Layer], int] = {ReLU: RELU, Sigmoid: SIGMOID, Tanh: TANH}

Named = Sequence[tuple[str, Layer]]


class Staged:
    """A net as a row of stages, with the interface of `Program`. Belongs to one thread."""

    def __init__(
        self,
        layers: Mapping[str, Layer],
        loss: Loss,
        l2: float,
        layout: Layout,
        sample: Sample,
        decays: Callable[[str], bool],
    ) -> None:
        """`sample` is the shape of one sample of the inputs; `decays` says whether L2 is on a
        parameter, and is asked at the first step."""
        self._l2, self._spans = l2, layout.spans()
        self._row, outputs = row_of(layers, self._spans, sample)
        self._judge = Judge(loss, outputs[0])
        self._inputs = Buffer(prod(sample))
        self._decays = decays
        self._ready: Ready | None = None
        self._stops: list[int] = [0]

    def run(
        self,
        parameters: Float32,
        inputs: Array,
        labels: Array,
        gradients: Float32 | None = None,
        rng: np.random.Generator | None = None,
    ) -> Metrics:
        """Loss and accuracy of a batch; with `gradients`, a flat vector, fill that too.

        Raises:
            UserError: a label is not a class.
        """
        self._judge.check(labels)
        n, parameters = len(labels), readable(parameters, np.float32)
        target = EMPTY if gradients is None else gradients
        work = Pass(n, parameters, target, None if gradients is None else rng)
        x = self._inputs.take(n)
        x.reshape(inputs.shape)[...] = inputs
        logits, slopes = self._row.forward(work, x), self._row.errors(n)
        metrics = self._judge(logits, labels, slopes)
        if self._l2:
            weights = (parameters[begin:end] for begin, end in self._decayed)
            squares = sum(float(np.sum(np.square(w, dtype=float))) for w in weights)
            metrics["loss"] += self._l2 / 2 * squares
        if gradients is not None:
            self._back(work, slopes)
        return metrics

    @cached_property
    def _decayed(self) -> list[Span]:
        """Where the parameters with L2 lie."""
        return [span for name, span in self._spans.items() if self._decays(name)]

    def _back(self, work: Pass, slopes: Float32) -> None:
        stops, end = sorted(self._stops), work.gradients.size
        for stage in self._row.each_backward(work, slopes, EMPTY):
            if stage.begin is None:
                continue
            self._add_decay(work, stage.begin, end)
            end = stage.begin
            final = [stop for stop in stops if stop >= end]
            if final and self._ready:
                self._ready(final[0])
            stops = stops[: len(stops) - len(final)]

    def _add_decay(self, work: Pass, begin: int, end: int) -> None:
        """L2 of the weights in [begin, end)."""
        if self._l2:
            for first, last in self._decayed:
                if begin <= first < end:
                    part = slice(first, last)
                    work.gradients[part] += np.float32(self._l2) * work.parameters[part]

    def report(self, ready: Ready | None, stages: Sequence[int]) -> None:
        """Call `ready` when the elements from each of `stages` on are final, 0 included."""
        self._ready, self._stops = ready, list(stages)

    def skip(self, weights: Collection[int]) -> None:
        """Leave the gradients of the weights that begin at these elements unwritten."""
        for stage in self._row.stages:
            stage.skip(weights)

    def factors(self) -> dict[int, Factors]:
        """Inputs and error vectors of dense layers, by the first element of their weight."""
        return {
            begin: pair for stage in self._row.stages for begin, pair in stage.factors().items()
        }


def row_of(
    layers: Mapping[str, Layer], spans: Mapping[str, Span], sample: Sample
) -> tuple[Row, Sample]:
    """Named layers as stages, and the shape of a sample behind the last one.

    Arguments:
        spans: where each parameter lies in the flat vector.
        sample: the shape of a sample before the first.
    """
    return _Translation(spans).row(list(layers.items()), sample)


class _Taken(NamedTuple):
    """A stage, how many layers it takes, and the shape of a sample behind it."""

    stage: Stage | None
    layers: int
    sample: Sample


class _Translation:
    """From layers to stages, the longest run of layers first."""

    def __init__(self, spans: Mapping[str, Span]) -> None:
        self._spans = spans

    def row(self, layers: Named, sample: Sample) -> tuple[Row, Sample]:
        """The stages of some layers, and the shape of a sample behind the last."""
        found: list[tuple[Stage, Sample]] = []
        while layers:
            stage, count, sample = self._next(layers, sample)
            if stage is not None:
                found.append((stage, sample))
            layers = layers[count:]
        return Row([stage for stage, _ in found], [prod(shape) for _, shape in found]), sample

    def _next(self, layers: Named, sample: Sample) -> _Taken:
        name, layer = layers[0]
        behind = layer.outputs(sample)
        if type(layer) is Conv2D and can_convolve(layer):
            return self._convolution(layers, sample)
        if type(layer) is Dense:
            kind = _kind_of(layers[1:])
            stage = DenseStage(layer, self._spans[f"{name}.weight"][0], kind)
            return _Taken(stage, 1 + (kind != LINEAR), behind)
        if type(layer) is BatchNorm:
            kind = _kind_of(layers[1:])
            norm = NormStage(layer, self._spans[f"{name}.weight"][0], prod(sample), kind)
            return _Taken(norm, 1 + (kind != LINEAR), behind)
        if type(layer) is Residual:
            return self._residual(layers, sample)
        if type(layer) is Flatten:
            return _Taken(None, 1, behind)
        spans = {part: self._spans[f"{name}.{part}"] for part in layer.shapes()}
        return _Taken(LayerStage(layer, sample, spans), 1, behind)

    def _convolution(self, layers: Named, sample: Sample) -> _Taken:
        (name, layer), taken = layers[0], 1
        assert isinstance(layer, Conv2D)
        image = image_of("Conv2D", sample)
        behind, norm, kind, pool = layer.outputs(image), None, LINEAR, 1
        for following, other in layers[1:]:
            if type(other) is BatchNorm and norm is None and kind == LINEAR and pool == 1:
                norm = Normaliser(other, self._spans[f"{following}.weight"][0])
            elif kind == LINEAR and type(other) in _ACTIVATIONS:
                kind = _ACTIVATIONS[type(other)]
            elif pool == 1 and _pool_of(other):
                pool = _pool_of(other)
                behind = other.outputs(behind)
            else:
                break
            taken += 1
        bias = self._spans[f"{name}.bias"] if layer.bias else None
        plan = make_plan(layer, image, kind, pool)
        return _Taken(ConvStage(plan, self._spans[f"{name}.weight"], bias, norm), taken, behind)

    def _residual(self, layers: Named, sample: Sample) -> _Taken:
        name, block = layers[0]
        assert isinstance(block, Residual)
        behind = block.outputs(sample)
        body = [(f"{name}.{part}", layer) for part, layer in block.body.layers.items()]
        beside = [
            (f"{name}.shortcut.{part}", layer) for part, layer in block.shortcut.layers.items()
        ]
        row, _ = self.row(body, sample)
        kind = _kind_of(layers[1:])
        fused = can_add(row)
        closed = fused and kind != LINEAR
        if closed:
            row, _ = self.row([*body, layers[1]], sample)
        shortcut, _ = self.row(beside, sample)
        begins = [self._spans[f"{name}.{part}"][0] for part in block.shapes()]
        stage = ResidualStage(row, shortcut, fused, min(begins, default=None), prod(behind))
        return _Taken(stage, 1 + closed, behind)


def _kind_of(layers: Named) -> int:
    """The activation that comes first, LINEAR if it is none that is compiled."""
    return _ACTIVATIONS.get(type(layers[0][1]), LINEAR) if layers else LINEAR


def _pool_of(layer: Layer) -> int:
    """The size of a MaxPool of square windows side by side whose choice fits in a byte, else 0."""
    if type(layer) is not MaxPool or layer.size != layer.stride:
        return 0
    high, wide = layer.size
    return high if high == wide <= 15 else 0
