"""From the reference in the job to a model, and the words for what is wrong with it.

What a user's code returns or raises is judged here: each error is one line that names the model.
"""

import inspect
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from ..common.cluster import DataShape
from ..common.errors import DualshardError, UserError, describe
from ..common.job import Job
from ..common.references import load
from ..common.suggest import did_you_mean
from .model import Model
from .zoo import ZOO


def build_model(job: Job, data: DataShape) -> Model:
    """The model that the job names, built for this data.

    A builder is called with `model.args`, and with `inputs` (numbers per sample), `classes` and
    `sample_shape` where it takes parameters of these names.

    Raises:
        UserError: no such model, arguments that it does not take, or it returns no `Model`.
    """
    reference = job.model.ref
    builder = _builder(reference)
    if not callable(builder):
        raise UserError(
            "model.ref",
            reference,
            "a function or class that returns a Model",
            f"this is a {type(builder).__name__}",
        )
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
            f"arguments of {reference}",
            f"{wrong}: it takes {', '.join(taken)}",
        ) from None
    model = guarded(job, "building it", lambda: builder(**arguments))
    if not isinstance(model, Model):
        raise UserError(
            "model.ref",
            reference,
            "a builder that returns a dualshard.worker.model.Model",
            f"it returned a {type(model).__name__}",
        )
    return model


def _builder(reference: str) -> object:
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


def _as_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def check_shapes(job: Job, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """A model's parameter names and shapes, as they must be to be laid out.

    Raises:
        UserError: no parameters, a name that is no text, or an empty dimension.
    """
    if not shapes:
        raise UserError(
            "model.ref", job.model.ref, "a model with parameters", "its shapes() is empty"
        )
    for name, shape in shapes.items():
        if not isinstance(name, str) or not all(
            isinstance(size, int | np.integer) and size >= 1 for size in shape
        ):
            raise UserError(
                "model.ref",
                job.model.ref,
                "parameter shapes of positive integers",
                f"shapes()[{name!r}] is {shape!r}",
            )
    return {name: tuple(int(size) for size in shape) for name, shape in shapes.items()}
