"""A cut net trained in one process: what the ways of coupling its parts reach, and how fast.

No sockets: the parts call each other, one after the other, so that what is seen is the arithmetic
alone. `python -m dualshard.bench.cut_nets` compares them on the first 12,000 images of MNIST; each
is measured on the next 10,000, which nothing is trained on, for choices must not be made on the
test split.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..common.cluster import DataShape
from ..common.errors import UserError
from ..common.job import Job
from ..common.types import Array, Arrays, Float32, Metrics
from ..dataserver.sources.idx import read_idx
from ..dataserver.sources.samples import Origin
from ..worker.boundary.events import (
    Ahead,
    Back,
    Backed,
    Forward,
    Forwarded,
    Known,
    Rows,
    Seeds,
    Train,
    Trained,
)
from ..worker.parts.stepper import PartStepper
from ..worker.parts.trainer import Action, Event
from .runs import find_mnist

TRAINED, HELD_OUT = 12_000, 10_000
HIDDEN = [256, 128, 64]
PORTION = 32
"""Minibatches of a portion in coupling `backprop`."""


@dataclass
class Wired:
    """The parts of one net, the lowest first, and what has passed between them.

    `bytes` counts float32 both ways, `rounds` what went up to be answered, `events` are those of
    the last portion, by part.
    """

    job: Job
    steppers: list[PartStepper]
    bytes: int = 0
    rounds: int = 0
    events: dict[int, Trained] = field(default_factory=dict)
    copies: dict[int, dict[int, Float32]] = field(default_factory=dict)
    duals: dict[int, float] = field(default_factory=dict)

    @classmethod
    def of(cls, job: Job, data: DataShape) -> "Wired":
        """The parts that the job names. Raises UserError: the net cannot be cut so."""
        first = PartStepper(job, data, 0)
        others = [PartStepper(job, data, part) for part in range(1, len(first.starts))]
        return cls(job, [first, *others])

    def vector(self) -> Float32:
        """The whole net's parameters, as servers would hold them."""
        return np.concatenate([stepper.vector for stepper in self.steppers])

    def evaluate(self, portions: list[Arrays]) -> Metrics:
        """Measures of the net glued together."""
        return self.steppers[0].evaluate(self.vector(), portions)[1]

    def portion_size(self) -> int:
        """Samples that are trained on at once."""
        batch, macro = self.job.data.batch_size, self.job.admm.macro_batch
        minibatches = PORTION
        if self.job.partition.coupling != "backprop":
            minibatches = max(1, macro // batch)
        return batch * minibatches

    def epoch(self, arrays: Arrays, epoch: int, epochs: int) -> None:
        """A sweep over samples (n, ...) and labels (n,), in an order of the epoch's own."""
        inputs, labels = arrays
        order = np.random.default_rng((self.job.job.seed, 1, epoch)).permutation(len(labels))
        size = self.portion_size()
        for begin in range(0, len(order), size):
            progress = (epoch + begin / len(order)) / epochs
            taken = order[begin : begin + size]
            known = Known(taken, labels[taken])
            self.portion(inputs[taken], known, (epoch, begin, 0), progress)

    def portion(self, inputs: Array, known: Known, seeds: Seeds, progress: float) -> None:
        """All that is trained on some samples."""
        rows = Rows(inputs, self.job.data.batch_size, seeds)
        match self.job.partition.coupling:
            case "activations":
                self._by_activations(rows, known, progress)
            case "weights":
                self._by_weights(rows, known, progress)
            case _:
                self._by_backprop(rows, known, progress)

    def _do(self, part: int, action: Action, progress: float) -> Any:
        event: Event = self.steppers[part].perform(action, progress)
        if isinstance(event, Trained):
            self.events[part] = event
        return event

    def _up(self, rows: Rows, progress: float) -> list[Rows]:
        """The inputs of each part."""
        passed = [rows]
        for part in range(len(self.steppers) - 1):
            found: Forwarded = self._do(part, Forward(0, passed[-1]), progress)
            dual = self.duals.get(part, 0.0)
            passed.append(Rows(found.outputs, rows.batch, rows.seeds, dual))
            self.bytes, self.rounds = self.bytes + found.outputs.nbytes, self.rounds + 1
        return passed

    def _by_activations(self, rows: Rows, known: Known, progress: float) -> None:
        passed, top = self._up(rows, progress), len(self.steppers) - 1
        above: Trained = self._do(top, Train(0, passed[top], known), progress)
        for part in range(top - 1, -1, -1):
            self.bytes += above.targets.nbytes
            outputs = passed[part + 1].inputs
            action = Train(0, passed[part], known, outputs, above.targets, above.rho)
            above = self._do(part, action, progress)
            self.duals[part] = above.dual

    def _by_weights(self, rows: Rows, known: Known, progress: float) -> None:
        for part, own in enumerate(self._up(rows, progress)):
            others = {
                boundary: copy
                for neighbour in (part - 1, part + 1)
                for boundary, copy in self.copies.get(neighbour, {}).items()
                if boundary in (part - 1, part)
            }
            self.bytes += sum(copy.nbytes for copy in others.values())
            action = Train(0, own, known, other=others, current=frozenset({part - 1}))
            trained: Trained = self._do(part, action, progress)
            self.copies[part] = dict(trained.copies)

    def _by_backprop(self, rows: Rows, known: Known, progress: float) -> None:
        epoch, begin, number = rows.seeds
        for first in range(0, len(rows.inputs), rows.batch):
            part = slice(first, first + rows.batch)
            piece = Rows(rows.inputs[part], rows.batch, (epoch, begin, number))
            self._minibatch(piece, Known(known.indices[part], known.labels[part]), progress)
            number += 1

    def _minibatch(self, rows: Rows, known: Known, progress: float) -> None:
        top = len(self.steppers) - 1
        for part in range(top):
            found: Forwarded = self._do(part, Ahead(0, 0, rows), progress)
            self.bytes, self.rounds = self.bytes + found.outputs.nbytes, self.rounds + 1
            rows = Rows(found.outputs, rows.batch, rows.seeds)
        total = len(rows.inputs)
        action = Back(0, 0, True, True, rows=rows, known=known, total=total)
        back: Backed = self._do(top, action, progress)
        for part in range(top - 1, -1, -1):
            self.bytes += back.gradient.nbytes
            back = self._do(part, Back(0, 0, True, True, back.gradient), progress)


def make_job(coupling: str, cuts: Sequence[str], epochs: int, **sections: Mapping[str, Any]) -> Job:
    """A job on the net of ADMM.md, 784-256-128-64-10, with Adam at 1e-3 and the rate constant."""
    tables: dict[str, Any] = {
        "job": {"epochs": epochs},
        "model": {"ref": "mlp", "args": {"hidden": HIDDEN}},
        "data": {"batch_size": 128},
        "train": {"mode": "admm"},
        "optimizer": {"rule": "adam", "lr": 1e-3, "schedule": "constant"},
        "partition": {"cuts": list(cuts), "coupling": coupling},
        "worker": {"count": len(cuts) + 1},
    }
    for name, section in sections.items():
        tables[name] = {**tables.get(name, {}), **section}
    return Job.from_dict(tables)


def read_mnist(folder: Path | None, trained: int = TRAINED) -> tuple[Arrays, list[Arrays]]:
    """The first images of MNIST's training split, and portions of its next ones.

    Raises:
        UserError: it is not there.
    """
    source = str(find_mnist(folder))
    samples = read_idx(Origin("data.source", f"idx:{source}"), source, "train")
    assert samples is not None
    inputs: Array = samples.inputs
    labels: Array = samples.labels.astype(np.int64)
    held: list[Arrays] = [
        (inputs[begin : begin + 1000], labels[begin : begin + 1000])
        for begin in range(trained, trained + HELD_OUT, 1000)
    ]
    return (inputs[:trained], labels[:trained]), held


def train(job: Job, arrays: Arrays, held: list[Arrays]) -> dict[str, float]:
    """Train on arrays; measures on the held-out portions at the end, and what it took."""
    inputs, labels = arrays
    data = DataShape(len(labels), 1, 10, inputs.shape[1:], 1)
    wired, epochs = Wired.of(job, data), job.job.epochs
    begin = time.perf_counter()
    for epoch in range(epochs):
        wired.epoch(arrays, epoch, epochs)
    seconds = time.perf_counter() - begin
    found = dict(wired.evaluate(held))
    steps = epochs * (1 if job.partition.coupling == "backprop" else job.admm.passes)
    rate = steps * len(labels) / seconds
    cuts = len(wired.steppers) - 1
    return {**found, "steps/s": rate, "MB": wired.bytes / 1e6, "rounds": wired.rounds / cuts}


def main(arguments: Sequence[str]) -> int:
    """Print a line for each way; `arguments` are the folder of MNIST, where it is not the usual."""
    try:
        arrays, held = read_mnist(Path(arguments[0]) if arguments else None)
    except UserError as missing:
        print(missing, file=sys.stderr)
        return missing.exit_status
    two, four = ["relu2"], ["relu1", "relu2", "relu3"]
    sigmoid = {"ref": "mlp", "args": {"hidden": HIDDEN, "activation": "sigmoid"}}
    jobs = {
        "activations, 2 parts": make_job("activations", two, 4),
        "activations, 4 parts": make_job("activations", four, 4),
        "activations, 2 parts, sigmoid": make_job(
            "activations", ["sigmoid2"], 4, model=sigmoid, optimizer={"lr": 3e-3}
        ),
        "backprop, 2 parts": make_job("backprop", two, 12),
        "weights with a head": make_job("weights", two, 4),
        "weights without": make_job("weights", two, 4, admm={"head": False}),
    }
    for name, job in jobs.items():
        found = train(job, arrays, held)
        shown = ", ".join(f"{key} {value:.4g}" for key, value in found.items())
        print(f"{name}: {shown}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
