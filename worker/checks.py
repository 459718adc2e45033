"""Whether a model keeps its contract: names, shapes, first values, gradients and measures.

A model is looked at when it is built and in the first step, where time is no matter; of a later
step only the measures are. Each error is one line that names the model and the parameter.
"""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from ..common.errors import UserError
from ..common.job import Job
from ..common.types import Float32, Metrics
from .model import Shapes

UNWRITTEN = np.uint32(0x7FE5C0DE)
"""The bits of a NaN that no arithmetic makes: where they still stand, nothing was written."""


def check_shapes(job: Job, shapes: Any) -> Shapes:
    """A model's parameter names and shapes, as they must be to be laid out.

    Raises:
        UserError: no parameters, a name that is no text, or an empty dimension.
    """
    if not isinstance(shapes, dict):
        found = f"it returned one of type {type(shapes).__name__}"
        raise _wrong(job, "shapes() to return a dictionary", found)
    if not shapes:
        raise _wrong(job, "a model with parameters", "its shapes() is empty")
    for name, shape in shapes.items():
        if not isinstance(name, str) or not _is_shape(shape):
            found = f"shapes()[{name!r}] is {shape!r}"
            raise _wrong(job, "parameter shapes of positive integers", found)
    return {name: tuple(int(size) for size in shape) for name, shape in shapes.items()}


def _is_shape(shape: object) -> bool:
    return isinstance(shape, tuple | list) and all(
        isinstance(size, int | np.integer) and size >= 1 for size in shape
    )


def check_same(job: Job, first: Shapes, again: Shapes, when: str) -> None:
    """Raise a UserError if the parameters are not those that the model had at first.

    `when` is where they were looked at again: `after a step`.
    """
    if list(first.items()) == list(again.items()):
        return
    names = [name for name in (*first, *again) if first.get(name) != again.get(name)]
    if not names:
        raise _wrong(job, f"parameters in the order {', '.join(first)}", f"{when} it changed")
    then, now = (shapes.get(names[0], "not there") for shapes in (first, again))
    raise _wrong(job, f"{names[0]} to be {then} as at first", f"{when} it is {now}")


def check_start(job: Job, parameters: Mapping[str, Float32]) -> None:
    """Raise a UserError if a first value is NaN or infinite."""
    for name, values in parameters.items():
        if not bool(np.isfinite(values).all()):
            raise _wrong(job, "finite first values", f"start() leaves NaN or infinity in {name}")


def spoil(gradient: Float32) -> None:
    """Fill a flat gradient (n,) with what `check_written` looks for."""
    gradient.view(np.uint32)[...] = UNWRITTEN


def check_written(job: Job, gradients: Mapping[str, Float32]) -> None:
    """Raise a UserError if a gradient, of a model that has computed since `spoil`, is as it was."""
    for name, values in gradients.items():
        left = int((values.view(np.uint32) == UNWRITTEN).sum())
        if left:
            found = f"{left} of the {values.size} elements of gradients[{name!r}] were not"
            raise _wrong(job, "every gradient to be written at each call", found)


def check_measures(job: Job, measures: Any, method: str) -> Metrics:
    """What `gradients` or `evaluate` returned, as numbers.

    Raises:
        UserError: it is no dictionary, has no `loss`, or holds what is no number.
    """
    if not isinstance(measures, dict):
        found = f"it returned one of type {type(measures).__name__}"
        raise _wrong(job, f"{method}() to return a dictionary of measures", found)
    if "loss" not in measures:
        found = f"it returned {', '.join(map(str, measures)) or 'an empty one'}"
        raise _wrong(job, f"{method}() to return a dictionary with loss", found)
    return {name: _number(job, name, value, method) for name, value in measures.items()}


def _number(job: Job, name: str, value: Any, method: str) -> float:
    if type(value) is float:
        return value
    if isinstance(value, Real) or getattr(value, "shape", None) == ():
        return float(value)
    shape = getattr(value, "shape", None)
    kind = type(value).__name__ + ("" if shape is None else f" of shape {tuple(shape)}")
    raise _wrong(job, f"{method}() to return numbers", f"{name} is of type {kind}")


def _wrong(job: Job, expected: str, found: str) -> UserError:
    return UserError("model.ref", job.model.ref, expected, found)
