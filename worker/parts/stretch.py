"""A stretch of the layers of a `Sequential` as a part: compiled stages, or the layers themselves.

As a whole net does, it runs compiled where its arrays are views of one flat vector, and in NumPy
where they are not, in any dtype.
"""

from collections.abc import Mapping
from functools import cached_property
from math import prod

import numpy as np

from ...common.types import Array, Float32
from ..layout import Layout, Parameters
from ..model import Model, Shapes
from ..nn.chain import Chain
from ..nn.layer import Layer, Sample
from ..nn.losses import Loss
from ..nn.native.judge import Judge
from ..nn.native.program import readable
from ..nn.native.stage import EMPTY, Buffer, Pass
from ..nn.native.staged import row_of
from .part import Judged, Named, Part


class Stretch(Part):
    """Named layers one after the other. `backward` adds the slope of L2, l2 / 2 times the sum of
    squares of what decays; `loss` is without it."""

    def __init__(
        self,
        layers: Mapping[str, Layer],
        sample: Sample,
        *,
        loss: Loss | None = None,
        l2: float = 0.0,
        model: Model | None = None,
        lowest: bool = False,
    ) -> None:
        """Arguments (all but the first two by name):
        sample: the shape of a sample of the inputs.
        loss: in the top part.
        model: says which of its parameters decay and which are averaged; None: as layers do.
        lowest: nobody needs the derivative by the inputs.
        """
        self._chain, self._l2, self._lowest = Chain.of(layers), l2, lowest
        self._shapes, self._averaged = self._chain.shapes(), self._chain.averaged()
        self._layout, self._model = Layout(self._shapes), model
        self.sample, self.outputs = sample, self._chain.outputs(sample)
        self._row, _ = row_of(layers, self._layout.spans(), sample)
        self._inputs, self._source = Buffer(prod(sample)), Buffer(prod(sample))
        self._judge = None if loss is None else Judge(loss, self.outputs[-1])
        self._slope = Buffer(prod(self.outputs))
        self._work: Pass | None = None

    def shapes(self) -> Shapes:
        return dict(self._shapes)

    def decayed(self, name: str) -> bool:
        return super().decayed(name) if self._model is None else self._model.decayed(name)

    def averaged(self, name: str) -> bool:
        return name in self._averaged if self._model is None else self._model.averaged(name)

    def start(self, parameters: Named, rng: np.random.Generator) -> None:
        """Fill `parameters` with first values, in place."""
        self._chain.start(parameters, rng)

    def forward(self, parameters: Named, inputs: Array, rng: np.random.Generator | None) -> Array:
        n, flat = len(inputs), self._flat(parameters)
        if flat is None:
            return self._chain.forward(parameters, inputs.reshape(n, *self.sample), rng)
        x = self._inputs.take(n)
        x.reshape(inputs.shape)[...] = inputs
        work = self._work = Pass(n, readable(flat, np.float32), EMPTY, rng)
        return self._row.forward(work, x).reshape(n, *self.outputs)

    def backward(self, parameters: Named, gradients: Named, delta: Array) -> Array:
        flat, source = self._flat(gradients), EMPTY
        if flat is None:
            source = self._chain.backward(parameters, gradients, delta)
        else:
            assert self._work is not None
            work = self._work._replace(gradients=flat)
            errors = self._row.errors(work.samples)
            errors.reshape(delta.shape)[...] = delta
            if not self._lowest:
                source = self._source.take(work.samples).reshape(-1, *self.sample)
            self._row.backward(work, errors, source.reshape(-1))
        for name in self._decaying:
            gradients[name][...] += gradients[name].dtype.type(self._l2) * parameters[name]
        return source

    def loss(self, outputs: Array, labels: Array) -> Judged:
        assert self._judge is not None
        self._judge.check(labels)
        slope = self._slope.take(len(labels))
        logits = np.ascontiguousarray(outputs, np.float32).reshape(-1)
        return Judged(self._judge(logits, labels, slope), slope.reshape(outputs.shape))

    @cached_property
    def _decaying(self) -> list[str]:
        """The parameters with L2."""
        return [name for name in self._shapes if self._l2 and self.decayed(name)]

    def _flat(self, arrays: Named) -> Float32 | None:
        """The vector that `arrays` are views of, if it holds this part and nothing else."""
        if isinstance(arrays, Parameters) and arrays.flat.size == self._layout.size:
            return arrays.flat
        return None
