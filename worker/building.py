"""From the reference in the job to a model, and the words for what is wrong with it.

What a user's code returns or raises is judged here: each error is one line that names the model.
"""

import inspect
from collections.abc import Callable
from math import prod
from typing import Any

from ..common.cluster import DataShape
from ..common.errors import DualshardError, UserError, describe
from ..common.job import Job
from ..common.references import load
from ..common.suggest import did_you_mean
from ..common.types import Array
from .adapters.forms import EXPECTED, ONE_OF, adapt, copy_of, is_model, seed
from .checks import check_shapes
from .model import Model, Shapes
from .zoo import ZOO


def build_model(job: Job, data: DataShape) -> Model:
    """The model that the job names, built for this data, for one lane.

    A reference names a builder or a model itself (`adapters.forms`). A builder is called with
    `model.args`, and with `inputs` (numbers per sample), `classes` and `sample_shape` where it
    takes parameters of these names; a model itself is copied.

    Raises:
        UserError: no such model, arguments that it does not take, or it returns no model.
    """
    reference = job.model.ref
    found = _named(reference)
    if is_model(found):
        if job.model.args:
            fix = f"{reference} is a {type(found).__name__} already: name a function that builds it"
            raise UserError("model.args", dict(job.model.args), "no arguments", fix)
        made = guarded(job, "copying it for a lane", lambda: copy_of(found))
    elif callable(found):
        made = _call(found, job, data)
    else:
        fix = f"this is of type {type(found).__name__}"
        raise UserError("model.ref", reference, EXPECTED, fix)
    model = guarded(job, "taking it over", lambda: adapt(made, reference, data.classes))
    if model is None:
        fix = f"it returned one of type {type(made).__name__}"
        raise UserError("model.ref", reference, f"a builder of {ONE_OF}", fix)
    assert isinstance(model, Model)
    return model


def _named(reference: str) -> object:
    """What a reference names: a recipe of the zoo, or a user's attribute."""
    if ":" in reference:
        return load(reference, "model.ref")
    if reference in ZOO:
        return ZOO[reference]
    raise UserError(
        "model.ref",
        reference,
        f"{', '.join(ZOO)}, module:attribute or file.py:attribute",
        did_you_mean(reference, ZOO, "for example --model file.py:build"),
    )


def _call(builder: Callable[..., object], job: Job, data: DataShape) -> object:
    """What a builder returns for the job's arguments and the data's facts."""
    facts = {
        "inputs": prod(data.sample_shape),
        "classes": data.classes,
        "sample_shape": data.sample_shape,
    }
    taken = inspect.signature(builder).parameters
    arguments = {name: fact for name, fact in facts.items() if name in taken}
    arguments |= {name: _as_list(value) for name, value in job.model.args.items()}
    try:
        inspect.signature(builder).bind(**arguments)
    except TypeError as wrong:
        raise UserError(
            "model.args",
            dict(job.model.args),
            f"arguments of {job.model.ref}",
            f"{wrong}: it takes {', '.join(taken)}",
        ) from None
    seed(job.job.seed)
    return guarded(job, "building it", lambda: builder(**arguments))


def guarded(job: Job, doing: str, work: Callable[[], Any]) -> Any:
    """Run a user's code; what it raises becomes a one-line error that names the model."""
    try:
        return work()
    except DualshardError:
        raise
    except Exception as error:
        raise UserError(
            "model.ref", job.model.ref, f"no error while {doing}", f"it raised {describe(error)}"
        ) from error


def learning(job: Job, labels: Array, work: Callable[[], Any]) -> Any:
    """`guarded`, for a step on a minibatch with these labels. Not every loss takes soft ones."""
    if labels.ndim == 1:
        return guarded(job, "computing gradients", work)
    try:
        return work()
    except DualshardError:
        raise
    except Exception as error:
        raise UserError(
            "model.ref",
            job.model.ref,
            "a loss that takes soft labels, a row of probabilities for each sample, which mixup in "
            "data.augment makes",
            f"it raised {describe(error)}",
        ) from error


def _as_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def shapes_of(job: Job, model: Model) -> Shapes:
    """The parameters of a model.

    Raises:
        UserError: they cannot be laid out, or the model raises.
    """
    return check_shapes(job, guarded(job, "asking for its shapes", model.shapes))
