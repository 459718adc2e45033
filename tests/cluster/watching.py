"""A simulated cluster that notes what its workers compute on and are tested on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from simulation import Simulation

from dualshard.common.node import Action
from dualshard.common.types import Array, Arrays
from dualshard.dataserver.events import Prepared
from dualshard.dataserver.state import DataServer
from dualshard.worker.events import Compute, Measure, Measured


@dataclass(frozen=True)
class Batch:
    """A minibatch that a worker has begun to compute on."""

    worker: str
    epoch: int
    portion: int
    number: int
    inputs: Array
    labels: Array


class Watching(Simulation):
    """Notes every minibatch in the order in which they are begun, the test samples of every
    evaluation, and the most bytes and leases that a data server has held at once."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self.batches: list[Batch] = []
        self.tests: list[Arrays] = []
        self.most_bytes, self.most_leases, self.most_ahead = 0, 0, 0
        super().__init__(*arguments, **settings)

    def _worker_does(self, actor: Any, action: Action) -> None:
        for one in action.batches if isinstance(action, Compute) else ():
            arrays = one.inputs.copy(), one.labels.copy()
            epoch = one.lease.portion.epoch
            self.batches.append(Batch(actor.name, epoch, *one.key[1:], *arrays))
        super()._worker_does(actor, action)

    def _measure(self, name: str, action: Measure) -> Measured:
        parts = zip(*action.portions, strict=True)
        self.tests.append(tuple(np.concatenate(arrays) for arrays in parts))
        return super()._measure(name, action)

    def _dataserver_does(self, actor: Any, action: Action) -> None:
        self.look()
        super()._dataserver_does(actor, action)

    def look(self) -> None:
        """Note what the data servers hold."""
        for server in self.dataservers():
            self.most_bytes = max(self.most_bytes, held_bytes(server))
            self.most_ahead = max(self.most_ahead, len(server._ready) + len(server._preparing))
            self.most_leases = max(self.most_leases, int(server.report()["leases"]))

    def epoch(self, number: int) -> list[Batch]:
        """The minibatches of an epoch."""
        return [batch for batch in self.batches if batch.epoch == number]


def held_bytes(server: DataServer) -> int:
    """Bytes of all arrays of samples that a data server keeps, wherever it keeps them."""
    found = [part for value in vars(server).values() for part in _prepared(value)]
    return sum(array.nbytes for prepared in found for array in prepared.arrays)


def _prepared(value: object) -> list[Prepared]:
    if isinstance(value, Prepared):
        return [value]
    values = value.values() if isinstance(value, dict) else value
    if isinstance(value, dict | list | tuple | set) or type(value).__name__ == "deque":
        return [part for one in values for part in _prepared(one)]
    return []
