"""A net as a list of layers and a loss: what most users train. No arithmetic of its own but L2.

Two backends give the same results to float32 rounding. The layers themselves, in NumPy, are the
plain reference: any layer, any dtype. The compiled step runs where it can: for arrays that are
views of one flat vector, as the worker's are, and layers that have a compiled form.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from math import prod
from types import ModuleType
from typing import cast

import numpy as np

from ...common.errors import UserError
from ...common.sharding import SHARD_ELEMENTS
from ...common.types import Array, Arrays, Float32, Metrics
from ..layout import Layout, Parameters
from ..model import Factors, Model, Pace, Ready, Shapes
from .activations import Activation
from .chain import Chain, part_of
from .dense import Dense
from .layer import Layer, Sample
from .losses import Loss, check_labels, classes_of, measure
from .native.program import Program
from .native.staged import Staged
from .readiness import stages

_ROWS = 256
"""Samples that `evaluate` takes at a time, so that its scratch stays as small as training's."""
_DEVICE_ROWS = 2048
"""The same on a GPU, which small pieces leave idle."""


class Sequential(Model):
    """Layers one after the other. One instance serves one thread (it keeps scratch buffers).

    Parameters are named by kind and place: `dense1.weight` (inputs, outputs), `dense1.bias`, and
    within a residual block `residual1.conv2d1.weight`.
    The loss is the mean of `loss` over the samples, plus l2 / 2 times the sum of the squares of
    all weights, biases excepted. Metrics are `loss` and `accuracy`, the fraction of samples whose
    largest output is at their label (of soft labels: at the largest number of the row).

    A subclass that replaces `gradients` gives no early word of what is ready, no factors, and no
    steps in one go: it may change what this class has written. With l2 there are no factors, for
    the gradient of a weight is then more than their product; readiness is told, as L2 is added
    layer by layer.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        loss: Loss,
        l2: float = 0.0,
        sample_shape: Sample | None = None,
    ) -> None:
        """Put layers in a row.

        Arguments:
            sample_shape: of one sample, (height, width, channels) for images; (height, width) is
                one channel. A net that begins with `Dense` needs none: it flattens what it gets.
        Raises:
            UserError: a layer does not take what the one before gives; the outputs of the last
                are no row of numbers; no layer has parameters.
        """
        self._chain = Chain(layers)
        self.layers, self.loss, self.l2 = self._chain.layers, loss, l2
        self.sample = _sample(layers) if sample_shape is None else tuple(sample_shape)
        self._fixed = sample_shape is not None
        self._classes = _classes(self._chain, self.sample)
        self._shapes, self._averaged = self._chain.shapes(), self._chain.averaged()
        self._layout = Layout(self.shapes())
        # The table of a perceptron has L2 on weights and nothing else.
        plain = not l2 or type(self).decayed is Model.decayed
        program = Program.of(self.layers, loss, l2, self._layout) if plain else None
        staged = (self.layers, loss, l2, self._layout, self.sample, self.decayed)
        self._program: Program | Staged = program or Staged(*staged)
        self._own = type(self).gradients is Sequential.gradients
        self._xp: ModuleType = np
        self._compiled = False  # whether the last gradients came from the compiled step
        self._ready: Ready | None = None
        self._stages: list[int] = []
        self._skipped: frozenset[str] = frozenset()
        self._begins = {name: begin for name, (begin, _) in self._layout.spans().items()}
        self._firsts = {  # of each layer that has parameters
            name: self._begins[f"{name}.{next(iter(layer.shapes()))}"]
            for name, layer in self.layers.items()
            if layer.shapes()
        }

    def shapes(self) -> Shapes:
        return dict(self._shapes)

    def averaged(self, name: str) -> bool:
        return name in self._averaged

    def use(self, xp: ModuleType) -> bool:
        self._xp = xp
        self._chain.use(xp)
        next(iter(self.layers.values())).unwanted = xp is not np
        self.loss.xp = xp
        return True

    def check(self, batch: Arrays) -> None:
        check_labels(self._checked(batch)[1], self._classes)

    def start(self, parameters: Mapping[str, Float32], rng: np.random.Generator) -> None:
        self._chain.start(parameters, rng)

    def gradients(
        self,
        parameters: Mapping[str, Float32],
        gradients: Mapping[str, Float32],
        batch: Arrays,
        rng: np.random.Generator,
    ) -> Metrics:
        inputs, labels = self._checked(batch)
        flat = self._is_flat(parameters) and self._is_flat(gradients)
        self._compiled = flat
        if self._compiled:
            vector, gradient = cast(Parameters, parameters).flat, cast(Parameters, gradients).flat
            return self._program.run(vector, inputs, labels, gradient, rng)
        if self._xp is np:
            check_labels(labels, self._classes)
        logits = self._forward(parameters, inputs, rng)
        self._backward(parameters, gradients, self.loss.slope(logits, labels))
        return self._measures(parameters, logits, labels)

    def descend(
        self,
        parameters: Mapping[str, Float32],
        batches: Sequence[Arrays],
        paces: Mapping[str, Pace],
        random: Callable[[int], np.random.Generator],
    ) -> list[Metrics] | None:
        if not (isinstance(self._program, Program) and self._own and self._is_flat(parameters)):
            return None
        checked = [self._checked(batch) for batch in batches]
        begins = {self._begins[name]: pace for name, pace in paces.items()}
        return self._program.descend(cast(Parameters, parameters).flat, checked, begins)

    def on_ready(self, callback: Ready | None, granule: int = SHARD_ELEMENTS) -> None:
        self._ready = callback if self._own else None
        size, begins = self._layout.size, self._firsts.values()
        self._stages = stages(begins, size, granule) if self._ready else [0]
        self._program.report(self._ready, self._stages)

    def factors(self) -> dict[str, Factors]:
        if not self._own or self.l2:
            return {}
        if self._compiled:
            found = self._program.factors()
            begins = {name: self._begins[name] for name in self._products()}
            return {name: found[begin] for name, begin in begins.items() if begin in found}
        products = self._products().items()
        return {name: layer.factors for name, layer in products if layer.factors is not None}

    def skip_products(self, names: Collection[str]) -> None:
        offered = self._products() if self._own and not self.l2 else {}
        self._skipped = frozenset(names) & offered.keys()
        self._program.skip([self._begins[name] for name in self._skipped])

    def _products(self) -> dict[str, Dense]:
        """The layers whose weight has factors. A subclass may do anything with its gradient."""
        layers = self.layers.items()
        return {f"{name}.weight": layer for name, layer in layers if type(layer) is Dense}

    def evaluate(self, parameters: Mapping[str, Float32], batch: Arrays) -> Metrics:
        inputs, labels = self._checked(batch)
        totals: Metrics = {}
        rows = _ROWS if self._xp is np else _DEVICE_ROWS
        for begin in range(0, len(labels), rows):
            part = slice(begin, begin + rows)
            measures = self._evaluate(parameters, inputs[part], labels[part])
            for name, mean in measures.items():
                totals[name] = totals.get(name, 0.0) + mean * len(labels[part])
        return {name: total / len(labels) for name, total in totals.items()}

    def _evaluate(self, parameters: Mapping[str, Array], inputs: Array, labels: Array) -> Metrics:
        if self._is_flat(parameters):
            return self._program.run(cast(Parameters, parameters).flat, inputs, labels)
        if self._xp is np:
            check_labels(labels, self._classes)
        return self._measures(parameters, self._forward(parameters, inputs, None), labels)

    def _forward(
        self, parameters: Mapping[str, Array], inputs: Array, rng: np.random.Generator | None
    ) -> Array:
        values = inputs.astype(next(iter(parameters.values())).dtype, copy=False)
        return self._chain.forward(parameters, values, rng)

    def _backward(
        self, parameters: Mapping[str, Array], gradients: Mapping[str, Array], delta: Array
    ) -> None:
        """Fill `gradients` layer by layer from the last, L2 included, and tell what is final."""
        for name, layer in reversed(self.layers.items()):
            own, target = part_of(parameters, name, layer), part_of(gradients, name, layer)
            if f"{name}.weight" in self._skipped:
                del target["weight"]
            delta = layer.backward(own, target, delta)
            for part in own:
                if self.l2 and self.decayed(f"{name}.{part}"):
                    target[part][...] += own[part].dtype.type(self.l2) * own[part]
            begin = self._firsts.get(name)
            if self._ready and begin is not None and begin in self._stages:
                self._ready(begin)

    def _measures(self, parameters: Mapping[str, Array], logits: Array, labels: Array) -> Metrics:
        loss = self.loss.value(logits, labels)
        if self.l2:
            weights = (parameters[name] for name in filter(self.decayed, parameters))
            squares = (self._xp.sum(self._xp.square(w, dtype=float)) for w in weights)
            loss += self.l2 / 2 * sum(map(measure, squares))
        right = logits.argmax(axis=1) == classes_of(labels)
        return {"loss": loss, "accuracy": measure(right.mean())}

    def _is_flat(self, arrays: Mapping[str, Array]) -> bool:
        """Whether `arrays` are views of one vector that holds this net and nothing else."""
        fits = isinstance(arrays, Parameters) and arrays.flat.size == self._layout.size
        return fits and self._xp is np

    def _checked(self, batch: Arrays) -> tuple[Array, Array]:
        """Inputs and labels of a batch, if they fit the net and each other."""
        inputs, labels = batch
        assert len(labels) >= 1, "a batch holds at least one sample"
        if len(inputs) != len(labels) or labels.ndim not in (1, 2):
            raise UserError(
                "data.source",
                f"labels of shape {labels.shape}",
                f"({len(inputs)},), one label for each sample",
                "mend the data set's read()",
            )
        self.check_sample(inputs.shape[1:])
        if self._fixed:
            inputs = inputs.reshape(len(inputs), *self.sample)
        return inputs, labels

    def check_sample(self, shape: Sample) -> None:
        """Refuse samples of another shape; a last axis of one channel may be there or not."""
        features = prod(self.sample)
        if self._fixed and _channels(shape) != _channels(self.sample):
            raise UserError(
                "model.args.sample_shape",
                self.sample,
                f"{shape}, the shape of a sample",
                f"build the model for samples of shape {shape}",
            )
        if prod(shape) != features:
            raise UserError(
                "model.args.inputs",
                features,
                f"{prod(shape)}, the numbers in a sample of shape {shape}",
                f"build the model for {prod(shape)} inputs",
            )


def _sample(layers: Sequence[Layer]) -> Sample:
    """The shape of a sample where nobody gave one: that of the first Dense."""
    for layer in layers:
        if isinstance(layer, Dense):
            return (layer.inputs,)
        if not isinstance(layer, Activation):
            fix = "pass sample_shape=(28, 28, 1) for images of 28x28 with one channel"
            raise UserError("Sequential.sample_shape", None, "the shape of one sample", fix)
    raise UserError("Sequential.layers", len(layers), "at least one Dense", "add a Dense layer")


def _classes(chain: Chain, sample: Sample) -> int:
    """The number of outputs of a row of layers that fit each other."""
    outputs = chain.outputs(sample)
    if not chain.shapes():
        fix = "add a Dense layer"
        raise UserError("Sequential.layers", len(chain.layers), "a layer with parameters", fix)
    if len(outputs) != 1:
        fix = "add a Dense layer, or GlobalAveragePool, at the end"
        raise UserError(
            "Sequential.layers", f"outputs of shape {outputs}", "one number for each class", fix
        )
    return outputs[0]


def _channels(shape: Sample) -> Sample:
    """`shape` without a last axis of one channel."""
    return shape[:-1] if len(shape) == 3 and shape[-1] == 1 else shape
