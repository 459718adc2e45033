"""A part at work: an instance of it, where its arrays lie, what makes it random. No formulas."""

from collections.abc import Iterator

import numpy as np

from ...common.job import Job
from ...common.types import Array, Float32
from ..boundary.events import Rows, Seeds
from ..building import guarded
from ..layout import Parameters
from ..randomness import BatchStream
from ..scaling import Scaling
from .part import Judged, Part

_PASS = 32
"""Bits of a minibatch's number, beyond which its repetitions have their streams."""


def stream_of(seed: int, part: int) -> BatchStream:
    """The random stream of a part: in the lowest one that of the whole net."""
    if part:
        seed = int(np.random.SeedSequence((seed, part)).generate_state(1, np.uint64)[0])
    return BatchStream(seed)


def minibatches(rows: Rows) -> Iterator[tuple[slice, Seeds]]:
    """Where each minibatch of a round lies, and its place in the data."""
    epoch, begin, number = rows.seeds
    for first in range(0, len(rows.inputs), rows.batch):
        yield slice(first, min(first + rows.batch, len(rows.inputs))), (epoch, begin, number)
        number += 1


class Runner:
    """One instance of a part over its views of the vector and of the gradient.

    Belongs to one thread. What it returns is valid until its next `forward`.
    """

    def __init__(
        self,
        job: Job,
        part: Part,
        parameters: Parameters,
        gradients: Parameters,
        stream: BatchStream,
        scaling: Scaling | None = None,
    ) -> None:
        """`scaling` is that of the net's inputs, in the lowest part."""
        self.part, self.parameters, self.gradients = part, parameters, gradients
        self._job, self._stream, self._scaling = job, stream, scaling

    def forward(self, inputs: Array, seeds: Seeds | None, again: int = 0) -> Array:
        """Outputs of a minibatch as a training step sees them, without seeds as an evaluation does.
        `again` tells its repetitions apart: each has random numbers of its own, 0 those of the
        minibatch itself."""
        random = None
        if seeds is not None:
            epoch, begin, number = seeds
            random = self._stream.at((epoch, begin, number + (again << _PASS)))
        values = inputs if self._scaling is None else self._scaling(inputs)
        outputs: Array = guarded(
            self._job,
            "computing outputs",
            lambda: self.part.forward(self.parameters, values, random),
        )
        return outputs

    def backward(self, delta: Array) -> Array:
        """Write the gradients; d(loss)/d(inputs)."""
        source: Array = guarded(
            self._job,
            "computing gradients",
            lambda: self.part.backward(self.parameters, self.gradients, delta),
        )
        return source

    def judge(self, outputs: Array, labels: Array) -> Judged:
        """What the outputs of the part that has a loss are worth."""
        judged: Judged = guarded(
            self._job, "computing the loss", lambda: self.part.loss(outputs, labels)
        )
        return judged


def flat_of(values: Array) -> Float32:
    """Values (n, ...) as one float32 row, the last axis fastest; a copy only where it must be."""
    return np.ascontiguousarray(values, np.float32).reshape(-1)
