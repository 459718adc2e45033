"""The contract of what trains a part in one coupling: actions in, events out. One thread."""

from abc import ABC, abstractmethod

import numpy as np

from ..boundary.events import NONE, Ahead, Back, Backed, Forward, Forwarded, Train, Trained
from .runner import Runner, minibatches

Action = Forward | Train | Ahead | Back
Event = Forwarded | Trained | Backed


class Trainer(ABC):
    """One coupling's way to compute a part. Keeps what it must from round to round."""

    @abstractmethod
    def perform(self, action: Action, progress: float) -> Event:
        """Compute; the rates are those of `progress`, the fraction of the job that is done."""


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
