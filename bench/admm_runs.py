"""What the parts of `bench admm` share: the data they train on, one run, and rows of many runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from ..common.data_sections import DataSection
from ..dataserver.source import open_source
from .report import Row, compare
from .runs import run_job
from .slowed import slower

HELD_OUT = 10_000
"""Training images that a validation split tests on: the last ones."""
SMALL, ALL = 12_000, 60_000
"""Training images: the first ones, of a validation split at most those that are not held out."""
SLOWER = 3.0
"""Times as slow as the others is a machine that is slow."""


@dataclass(frozen=True)
class Outcome:
    """What one run came to. Accuracies are fractions; `evaluations` holds (seconds, accuracy).

    Of what passes between workers, or between them and the servers where the net is not cut,
    `traffic` is the bytes both ways and `rounds` how often. `server_traffic` is what passes between
    workers and servers. `copy_accuracy` is that of the net glued with the lower parts' copies, and
    `lateness` the mean number of rounds by which targets came late; both 0 where there are none.
    """

    seconds: float
    evaluations: tuple[tuple[float, float], ...]
    traffic: float
    rounds: float
    server_traffic: float
    copy_accuracy: float = 0.0
    lateness: float = 0.0

    @property
    def accuracy(self) -> float:
        """The last one."""
        return self.evaluations[-1][1]

    def seconds_to(self, accuracy: float) -> float:
        """Seconds of training until an evaluation first showed this accuracy; infinity if none."""
        return next((seconds for seconds, reached in self.evaluations if reached >= accuracy), inf)


def read_outcome(summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Outcome:
    """From a run's summary.json and the lines of its metrics.jsonl."""
    evaluations = [row for row in rows if row["kind"] == "evaluation"]
    crossed = [row for row in rows if row["kind"] == "epoch" and row.get("rounds")]
    servers = float(summary["bytes_pushed"] + summary["bytes_pulled"])
    cut = "bytes_up" in summary and summary["bytes_up"] > 0
    rounds = sum(row["rounds"] for row in crossed)
    late = sum(row["rounds"] * row.get("lateness", 0.0) for row in crossed)
    return Outcome(
        summary["wall_seconds"],
        tuple((row["seconds"], row["accuracy"]) for row in evaluations),
        float(summary["bytes_up"] + summary["bytes_down"]) if cut else servers,
        float(summary["rounds"] if cut else summary["pushes"]),
        servers,
        evaluations[-1].get("copy_accuracy", 0.0) if evaluations else 0.0,
        late / rounds if rounds else 0.0,
    )


@dataclass(frozen=True)
class Side:
    """One of those that are compared: keys of its job file, the rank of the worker whose machine is
    slow, if one is, and how many times slower."""

    settings: Mapping[str, object]
    slow: int | None = None
    times: float = SLOWER


Found = Mapping[str, Sequence[Outcome]]
"""Outcomes by side, one a seed."""


@dataclass(frozen=True)
class Ground:
    """Where a part measures.

    Arguments:
        mnist: the folder with MNIST's IDX files.
        folder: for data and runs; whoever made it removes it.
        seeds: runs of each side, with seeds 0, 1, ..., interleaved.
        validation: test on images held out from training instead of the test set.
    """

    mnist: Path
    folder: Path
    seeds: int
    validation: bool
    say: Callable[[str], None]

    def source(self, images: int) -> str:
        """`data.source` of the first training images; the archive is written once."""
        path = self.folder / f"{images}.npz"
        if not path.exists():
            write_data(self.mnist, images, path, validation=self.validation)
        return f"npz:{path}"

    def run(self, sides: Mapping[str, Side], part: str) -> dict[str, list[Outcome]]:
        """Run each side once with each seed."""
        found: dict[str, list[Outcome]] = {name: [] for name in sides}
        for seed in range(self.seeds):
            for index, (name, side) in enumerate(sides.items()):
                folder = self.folder / f"{part}-{seed}-{index}"
                outcome = run_side(side, folder, seed)
                found[name].append(outcome)
                self.say(f"{part}, seed {seed}: {name}: {told(outcome)}")
        return found


def write_data(mnist: Path, images: int, path: Path, *, validation: bool) -> None:
    """An archive (`npz:`) of the first training images, and of what they are tested on."""
    split = open_source(DataSection(f"idx:{mnist}"), seed=0)
    everything = np.arange(len(split.train))
    first, last = everything[:-HELD_OUT], everything[-HELD_OUT:]
    if validation:
        x, y = split.train.read(first[:images])
        x_test, y_test = split.train.read(last)
    else:
        x, y = split.train.read(everything[:images])
        x_test, y_test = split.test.read(np.arange(len(split.test)))
    np.savez(path, x_train=x, y_train=y, x_test=x_test, y_test=y_test)


def run_side(side: Side, folder: Path, seed: int) -> Outcome:
    """Train once in a new folder.

    Raises:
        RoleError: it failed.
    """
    settings = {**side.settings, "job.seed": seed}
    if side.slow is None:
        return read_outcome(*run_job(folder, settings))
    beside = partial(slower, rank=side.slow, times=side.times)
    return read_outcome(*run_job(folder, settings, beside))


def told(outcome: Outcome) -> str:
    """One run in a few words."""
    copies = f", {outcome.copy_accuracy:.2%} with the copies" if outcome.copy_accuracy else ""
    late = f", {outcome.lateness:.1f} rounds late" if outcome.lateness else ""
    crossed = f"{outcome.traffic / 1e6:,.0f} MB in {outcome.rounds:,.0f} rounds"
    servers = f"{outcome.server_traffic / 1e6:,.0f} MB with servers"
    return f"{outcome.accuracy:.2%}{copies}, {crossed} ({servers}){late}, {outcome.seconds:.1f} s"


# Rows.


def percent(runs: Sequence[Outcome]) -> list[float]:
    """Their accuracies in per cent."""
    return [100 * run.accuracy for run in runs]


def accuracy_row(name: str, runs: Sequence[Outcome], against: Sequence[Outcome] = ()) -> Row:
    """Medians of accuracy, of another side too; no goal."""
    return compare(f"{name}: accuracy", "%", percent(runs), percent(against))


def promise_row(name: str, runs: Sequence[Outcome], promise: float) -> Row:
    """The worst seed against what is promised, in per cent."""
    what = f"{name}: accuracy, worst of {counted(len(runs), 'seed')}, against the promise"
    return compare(what, "%", [min(percent(runs))], [promise], 1.0)


def ceiling_row(name: str, runs: Sequence[Outcome], ceiling: float) -> Row:
    """That even the best seed stays below an accuracy in per cent."""
    what = f"{name}: accuracy, best of {counted(len(runs), 'seed')}, which is to stay below"
    return compare(what, "%", [max(percent(runs))], [ceiling], 1.0, less_is_better=True)


def within_row(
    name: str, ours: Sequence[float], theirs: Sequence[float], points: float, what: str
) -> Row:
    """That the median of ours lacks no more than so many points of that of theirs."""
    lowered = [number - points for number in theirs]
    return compare(f"{name}: accuracy, against {what} less {points:g}", "%", ours, lowered, 1.0)


def less_row(
    name: str,
    unit: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    goal: float | None = None,
) -> Row:
    """Of bytes, rounds or seconds: how many times fewer ours are."""
    return compare(name, unit, ours, theirs, goal, less_is_better=True)


def traffic_rows(
    name: str, ours: Sequence[Outcome], other: str, theirs: Sequence[Outcome], goal: float | None
) -> list[Row]:
    """Bytes and rounds against another side; the goal is for the bytes."""
    megabytes = [[run.traffic / 1e6 for run in side] for side in (ours, theirs)]
    rounds = [[run.rounds for run in side] for side in (ours, theirs)]
    return [
        less_row(f"{name}: bytes, against {other}", "MB", megabytes[0], megabytes[1], goal),
        less_row(f"{name}: rounds, against {other}", "rounds", rounds[0], rounds[1]),
    ]


def counted(count: int, noun: str) -> str:
    """`3 seeds`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
