"""`bench data --part wait`: how long steps wait for data, two workers on one data server.

The command `dualshard train`, all roles processes of their own: the perceptron of `bench train` on
28x28 in minibatches of 32, with shift and rotate. The run tells the waits of all workers and lanes
together; all of them count here as if one worker had waited so long and the other not at all.
Waits between two epochs have a row of their own: there everyone waits for the last portion.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .delivered import CASES, write_images
from .report import Row, compare
from .runs import train_cluster

WORKERS = 2
EPOCHS = 3
LIMIT = 0.01
"""Of a step."""
LEAST = 1e-3
"""Milliseconds; a wait of 0 has no ratio."""


@dataclass(frozen=True)
class Waits:
    """Milliseconds: of a step, of the waiting in it, and of the waiting between two epochs, each as
    if all the waiting had been one worker's."""

    step: float
    within: float
    between: float


def bench_waits(rounds: int, say: Callable[[str], None]) -> list[Row]:
    """Rows of the waits of a step, against a hundredth of it, and between two epochs.

    Raises:
        RoleError: a run failed.
    """
    case, found = CASES[0], []
    settings = {
        "data.augment": ",".join(case.augment),
        "job.epochs": EPOCHS,
        "worker.count": WORKERS,
        "dataserver.count": 1,
    }
    with TemporaryDirectory(prefix="dualshard-bench-") as folder:
        data = write_images(case, Path(folder) / "images.npz")
        for turn in range(rounds + 1):
            place = Path(folder) / f"{turn}"
            train_cluster(f"npz:{data}", place, settings)
            if not turn:
                continue  # it compiles what is to be compiled
            rows = (place / "run" / "metrics.jsonl").read_text().splitlines()
            summary = json.loads((place / "run" / "summary.json").read_text())
            found.append(read_waits(summary, [json.loads(row) for row in rows]))
            say(
                f"wait, round {turn} of {rounds}: {found[-1].within:.4f} ms of a step of "
                f"{found[-1].step:.3f} ms"
            )
    return make_rows(found)


def read_waits(summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Waits:
    """From a run's summary.json and the lines of its metrics.jsonl."""
    epochs = [row for row in rows if row["kind"] == "epoch"]
    steps = sum(row["steps"] for row in epochs) / WORKERS
    within = summary["wait_seconds"] - summary["wait_between_seconds"]
    return Waits(
        1000 * summary["wall_seconds"] / steps,
        1000 * within / steps,
        1000 * summary["wait_between_seconds"] / max(1, len(epochs) - 1),
    )


def make_rows(found: Sequence[Waits]) -> list[Row]:
    """The rows of all rounds."""
    start = f"wait for data, {WORKERS} workers on one data server"
    within = [max(waits.within, LEAST) for waits in found]
    allowed = [LIMIT * waits.step for waits in found]
    name = f"{start}, a step, against {LIMIT:.0%} of it"
    return [
        compare(name, "ms", within, allowed, 1.0, less_is_better=True),
        compare(f"{start}, between two epochs", "ms", [waits.between for waits in found]),
    ]
