"""From a job to the parts of its net: at the layers that it names, or where that evens out work.

What a user's settings or model lack is said here, in one line.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import prod
from typing import Any

from ...common.cluster import DataShape
from ...common.errors import UserError
from ...common.job import Job
from ...common.suggest import did_you_mean
from ...common.toml import literal
from ..building import build_model, guarded, shapes_of
from ..checks import check_same, check_shapes
from ..model import Model, Shapes
from ..nn.layer import Layer, Sample
from ..nn.sequential import Sequential
from .part import Cuttable, Part
from .places import Place, choose
from .stretch import Stretch

KEY = "partition.cuts"


def cut(job: Job, data: DataShape) -> list[Part]:
    """The parts of the net that the job names, the lowest first; each call makes new ones.

    Raises:
        UserError: it cannot be cut, or not there.
    """
    return cut_model(job, data, build_model(job, data))


def cut_model(job: Job, data: DataShape, model: Model) -> list[Part]:
    """The same of a model that is there already, and is not to be used for anything else."""
    if is_stack(model):
        assert isinstance(model, Sequential)
        model.check_sample(data.sample_shape)
        return list(_stretches(model, layers_of(job, model)))
    if not isinstance(model, Cuttable):
        raise _not_cuttable(job)
    return _cut_as_it_says(job, model)


def is_stack(model: Model) -> bool:
    """Whether the layers of a model are all that it is; a subclass may compute something else."""
    return isinstance(model, Sequential) and type(model).gradients is Sequential.gradients


def starts(parts: Sequence[Part]) -> list[int]:
    """The first element of each part's parameters in the flat vector of the whole model."""
    sizes = [sum(map(prod, part.shapes().values())) for part in parts]
    return [sum(sizes[:number]) for number in range(len(sizes))]


def layers_of(job: Job, model: Sequential) -> list[dict[str, Layer]]:
    """The layers of each part.

    Raises:
        UserError: no such layer, an order that is not the net's, or a part without parameters.
    """
    names, cuts = list(model.layers), list(job.partition.cuts) or _chosen(job, model)
    if cuts[-1] == names[-1]:
        fix = f"cut behind an earlier layer, one of {', '.join(names[:-1])}"
        raise UserError(KEY, cuts[-1], "layers above the last cut", fix)
    _check_known(job, cuts, names[:-1])
    borders = [0, *(names.index(name) + 1 for name in cuts), len(names)]
    found = [
        {name: model.layers[name] for name in names[begin:end]} for begin, end in pairwise(borders)
    ]
    for number, layers in enumerate(found):
        if not any(layer.shapes() for layer in layers.values()):
            raise _idle(cuts, f"part {number} would be {', '.join(layers)} alone")
    return found


def _check_known(job: Job, cuts: Sequence[str], names: Sequence[str]) -> None:
    """Whether all are there, and in their order."""
    for name in cuts:
        if name not in names:
            listed = f"a place in {job.model.ref} to cut behind: {', '.join(names)}"
            fix = did_you_mean(name, names, f'write {KEY} = ["{names[0]}"] for example')
            raise UserError(KEY, name, listed, fix)
    ordered = sorted(cuts, key=list(names).index)
    if ordered != list(cuts):
        fix = f"write {KEY} = {literal(ordered)}"
        raise UserError(KEY, literal(list(cuts)), "places in the order of the net", fix)


def _stretches(model: Sequential, pieces: Sequence[Mapping[str, Layer]]) -> Iterator[Stretch]:
    sample, last = model.sample, len(pieces) - 1
    for number, layers in enumerate(pieces):
        loss = model.loss if number == last else None
        stretch = Stretch(layers, sample, loss=loss, l2=model.l2, model=model, lowest=number == 0)
        yield stretch
        sample = stretch.outputs


def _chosen(job: Job, model: Sequential) -> list[str]:
    """Behind layers without parameters, such as activations and pools."""
    places, work, sample = list[Place](), 0.0, model.sample
    for name, layer in model.layers.items():
        sample = layer.outputs(sample)
        work += _work(layer, sample)
        if not layer.shapes():
            places.append(Place(name, work, prod(sample)))
            work = 0.0
    return _choice(job, places, work, "layers without parameters, such as activations")


def _work(layer: Layer, outputs: Sample) -> float:
    """Multiply-adds of a sample, about: each weight once for each pixel; the rest does not count,
    but that no layer with parameters is without work."""
    pixels = prod(outputs[:-1])
    weights = sum(prod(shape) for shape in layer.shapes().values() if len(shape) > 1)
    return weights * pixels + len(layer.shapes())


def _choice(job: Job, places: Sequence[Place], rest: float, what: str) -> list[str]:
    wanted = job.partition.parts
    if found := choose(places, rest, wanted):
        return found
    most = next((n for n in range(wanted - 1, 0, -1) if choose(places, rest, n) is not None), 1)
    expected = f"at most {most}: {job.model.ref} can be cut behind {what}, with some on both sides"
    fix = f"write partition.parts = {most}, or name layers in {KEY}"
    if most == 1:
        fix = f"name a layer in {KEY}, or choose another train.mode"
    raise UserError("partition.parts", wanted, expected, fix)


def _cut_as_it_says(job: Job, model: Model) -> list[Part]:
    """The parts of a user's `Cuttable`, which must be the whole of the model."""
    assert isinstance(model, Cuttable)
    points = guarded(job, "asking for its cut points", lambda: list(model.cut_points()))
    cuts = list(job.partition.cuts)
    if cuts:
        _check_known(job, cuts, points)
    else:
        cuts = _even(job, model, points)
    return _parts(job, model, cuts)


def _even(job: Job, model: Any, points: Sequence[str]) -> list[str]:
    """Points between which parts have about the same number of parameters."""
    pieces = _asked(job, model, points)
    sizes = [float(sum(map(prod, piece.shapes().values()))) for piece in pieces]
    places = [Place(name, size, 0) for name, size in zip(points, sizes, strict=False)]
    return _choice(job, places, sizes[-1], f"its cut points ({', '.join(points)})")


def _parts(job: Job, model: Any, cuts: Sequence[str]) -> list[Part]:
    parts, together = _asked(job, model, cuts), Shapes()
    for number, part in enumerate(parts):
        shapes = guarded(job, "asking a part for its shapes", part.shapes)
        if not shapes:
            raise _idle(cuts, f"part {number} has none")
        together |= check_shapes(job, shapes)
    check_same(job, shapes_of(job, model), together, "cut")
    return parts


def _asked(job: Job, model: Any, cuts: Sequence[str]) -> list[Part]:
    parts: list[Part] = guarded(job, "cutting it", lambda: list(model.cut(cuts)))
    if len(parts) != len(cuts) + 1 or not all(isinstance(part, Part) for part in parts):
        kinds = ", ".join(sorted({type(part).__name__ for part in parts}))
        expected = f"cut() to return {len(cuts) + 1} instances of Part for {len(cuts)} points"
        fix = f"it returned {len(parts)}, of type {kinds or 'none'}"
        raise UserError("model.ref", job.model.ref, expected, fix)
    return parts


def _idle(cuts: Sequence[str], held: str) -> UserError:
    return UserError(KEY, literal(list(cuts)), "a layer with parameters in each part", held)


def _not_cuttable(job: Job) -> UserError:
    return UserError(
        "model.ref",
        job.model.ref,
        "a net that can be cut: a Sequential that computes its own gradients, or a Model that is a "
        "dualshard.worker.parts.part.Cuttable, with cut_points() and cut(points)",
        "write one of these, or choose another train.mode",
    )
