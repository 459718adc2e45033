"""The contract of what trains a part in one coupling: actions in, events out. One thread."""

from abc import ABC, abstractmethod

import numpy as np

from ...common.errors import RemoteError
from ..boundary.events import (
    NONE,
    Ahead,
    Back,
    Backed,
    Forward,
    Forwarded,
    Known,
    Rows,
    Train,
    Trained,
)
from .runner import Runner, minibatches

Action = Forward | Train | Ahead | Back
Event = Forwarded | Trained | Backed


class Trainer(ABC):
    """One coupling's way to compute a part. Keeps what it must from round to round."""

    @abstractmethod
    def perform(self, action: Action, progress: float) -> Event:
        """Compute; the rates are those of `progress`, the fraction of the job that is done."""


def known_of(rows: Rows, known: Known | None) -> Known:
    """What is known of the samples of a round, if it is of all of them.

    Raises:
        RemoteError: it is of fewer, or of more.
    """
    assert known is not None
    count = len(rows.inputs)
    if not (len(known.indices) == len(known.labels) == count):
        said = f"{len(known.indices)} numbers and {len(known.labels)} labels"
        raise RemoteError(f"{said} for {count} samples")
    return known


def go_forward(runner: Runner, action: Action) -> Forwarded:
    """A part's outputs, minibatch by minibatch."""
    assert isinstance(action, Forward)
    outputs, rows = NONE, action.rows
    for part, seeds in minibatches(rows):
        found = runner.forward(rows.inputs[part], seeds)
        if not outputs.size:
            outputs = np.empty((len(rows.inputs), *found.shape[1:]), np.float32)
        outputs[part] = found
    return Forwarded(action.round, outputs)
