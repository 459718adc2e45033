"""Before training: whether a part keeps its contract, and everything compiled and touched once."""

from typing import Any

import numpy as np

from ...common import partition
from ...common.cluster import DataShape
from ...common.errors import UserError
from ...common.job import Job
from ...common.types import Array, Float32
from ..boundary.events import Ahead, Back, Forward, Forwarded, Known, Rows, Train, Trained
from ..building import guarded
from ..checks import check_same, check_shapes, check_written, spoil
from ..layout import Layout
from ..step import example
from .net import CutNet
from .part import Part
from .runner import Runner
from .trainer import Trainer


def probe(
    job: Job, data: DataShape, net: CutNet, number: int, first: Float32, runner: Runner
) -> Array:
    """Whether all parts fit each other, and part `number`, which `runner` runs, can go back.

    Arguments:
        first: values of the whole vector; those of the part are where the runner looks, too.
    Returns:
        a minibatch of the part's inputs, whatever they are.
    Raises:
        UserError: what a part does that its contract does not allow.
    """
    values, _ = example(job.data.batch_size, data)
    for part, begin in list(zip(net.parts, net.starts, strict=True))[:number]:
        values = _outputs(job, part, first[begin:], values)
    part, shapes = runner.part, dict(runner.part.shapes())
    spoil(runner.gradients.flat)
    outputs = _checked(job, runner.forward(values, (0, 0, 0)), len(values))
    source = runner.backward(np.zeros_like(outputs))
    check_written(job, runner.gradients)
    again = check_shapes(job, guarded(job, "asking a part for its shapes", part.shapes))
    check_same(job, shapes, again, "after a step")
    if number and np.shape(source) != values.shape:
        found = f"it is {np.shape(source)} where they are {values.shape}"
        raise _wrong(job, "what backward() returns to have the shape of the inputs", found)
    return values


def _outputs(job: Job, part: Part, vector: Float32, inputs: Array) -> Array:
    layout = Layout(dict(part.shapes()))
    views = layout.views(vector[: layout.size])
    found = guarded(job, "computing outputs", lambda: part.forward(views, inputs, None))
    return _checked(job, found, len(inputs)).copy()


def _checked(job: Job, outputs: Any, samples: int) -> Array:
    """The outputs of a part for so many samples, if they are some."""
    kind, shape = getattr(outputs, "dtype", type(outputs).__name__), np.shape(outputs)
    if kind != np.float32 or len(shape) < 2 or len(outputs) != samples:
        expected = f"forward() of a part to return ({samples}, ...) float32 for {samples} samples"
        raise _wrong(job, expected, f"it returned {kind} of shape {shape}")
    found: Array = outputs
    return found


def warm_up(job: Job, data: DataShape, part: int, inputs: Array, trainer: Trainer) -> None:
    """One round with each kind of action, so that the first real one is like the others. It
    changes the parameters."""
    count, top = len(inputs), part == partition.parts(job) - 1
    _, labels = example(count, data)
    rows, known = Rows(inputs, count, (0, 0, 0)), Known(np.zeros(count, np.int64), labels)
    if top and job.partition.coupling == "backprop":
        trainer.perform(Back(0, 0, True, True, rows=rows, known=known, total=count), 0.0)
        return
    if top:
        trained = trainer.perform(Train(0, rows, known), 0.0)
        assert isinstance(trained, Trained)
        trainer.perform(Train(0, rows, known, other=trained.copies), 0.0)
        return
    ahead = Ahead(0, 0, rows) if job.partition.coupling == "backprop" else Forward(0, rows)
    found = trainer.perform(ahead, 0.0)
    assert isinstance(found, Forwarded)
    if job.partition.coupling == "backprop":
        trainer.perform(Back(0, 0, True, True, np.zeros_like(found.outputs)), 0.0)
        return
    weighed = Train(0, rows, known, found.outputs, found.outputs, partition.first_rho(job))
    trained = trainer.perform(weighed, 0.0)
    assert isinstance(trained, Trained)
    if trained.copies:
        trainer.perform(Train(0, rows, known, other=trained.copies), 0.0)


def _wrong(job: Job, expected: str, found: str) -> UserError:
    return UserError("model.ref", job.model.ref, expected, found)
