"""What lower parts hold beside their own layers in coupling `weights`: a copy of the boundary
layer, and a head that learns from labels.

The boundary layer is the first one above the cut that has parameters. What lies between it and the
next such layer has none, as activations, and stands behind the copy too; there the head is one
Dense layer with softmax cross-entropy. Where nothing with parameters is left, the copy's outputs
are the net's already, and the net's own loss judges them: no head is added. Without `admm.head`
there is the copy alone.
"""

from collections.abc import Sequence
from math import prod

from ...common.cluster import DataShape
from ...common.errors import UserError
from ...common.job import Job
from ..building import build_model
from ..nn.dense import Dense
from ..nn.initialisers import xavier_uniform
from ..nn.layer import Layer, Sample
from ..nn.losses import SoftmaxCrossEntropy
from ..nn.sequential import Sequential
from .cutting import is_stack, layers_of
from .stretch import Stretch

COPY, HEAD = "copy", "head"


class Side(Stretch):
    """A lower part's copy of the boundary layer, called `copy`, and what follows. `boundary` is the
    name of the layer in the net."""

    boundary: str

    def twins(self) -> dict[str, str]:
        """The names of the copy's parameters, and what they are called in the net."""
        return {
            name: self.boundary + name.removeprefix(COPY)
            for name in self.shapes()
            if name.startswith(f"{COPY}.")
        }


def make_sides(job: Job, data: DataShape) -> list[Side]:
    """One for each part but the top one, of layers that nobody else has.

    Raises:
        UserError: the net is none whose layers are known.
    """
    model = build_model(job, data)
    if not is_stack(model):
        expected = "a Sequential that computes its own gradients, for coupling weights"
        fix = "write partition.coupling = activations"
        raise UserError("model.ref", job.model.ref, expected, fix)
    assert isinstance(model, Sequential)
    pieces, sample, sides = layers_of(job, model), model.sample, []
    for number in range(len(pieces) - 1):
        for layer in pieces[number].values():
            sample = layer.outputs(sample)
        above = [each for piece in pieces[number + 1 :] for each in piece.items()]
        fresh = build_model(job, data)
        assert isinstance(fresh, Sequential)
        sides.append(_side(job, fresh, [name for name, _ in above], sample, data.classes))
    return sides


def _side(job: Job, model: Sequential, above: Sequence[str], sample: Sample, classes: int) -> Side:
    """The side below the layers `above` of a model that it may take them from."""
    layers, boundary = dict[str, Layer](), ""
    for name in above:
        layer = model.layers[name]
        if layer.shapes() and boundary:
            break
        boundary = boundary or (name if layer.shapes() else "")
        layers[COPY if name == boundary else name] = layer
    loss = model.loss
    if not job.admm.head:
        layers = {name: layers[name] for name in list(layers)[: list(layers).index(COPY) + 1]}
    elif len(layers) < len(above):
        outputs = Stretch(layers, sample).outputs
        layers[HEAD] = Dense(prod(outputs), classes, xavier_uniform)
        loss = SoftmaxCrossEntropy()
    side = Side(layers, sample, loss=loss)
    side.boundary = boundary
    return side
