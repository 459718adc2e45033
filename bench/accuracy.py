"""`bench accuracy`: how soon a batch-normalised LeNet knows MNIST, beside PyTorch's DDP.

Two workers of `dualshard train` in mode bsp, images shifted at random by the data server, against
two processes of DistributedDataParallel over gloo, which shift theirs by themselves: the same net,
minibatches, rule and schedule. A job of so many epochs is another job than one of fewer, because
its schedule is longer.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .peers import installed
from .recipes import one_cycle
from .report import Row, compare, number
from .runs import Run, find_mnist, train_cluster, train_torch

RATE, RISE, SHIFT, BATCH, WORKERS = 0.1, 0.15, 1.5, 32, 2
"""The highest rate, the fraction of the job in which it rises, pixels, and samples of a worker's
minibatch."""
TARGETS = (0.98, 0.99, 0.993)
PROMISED = {2: 99.3, 10: 99.5}
"""Test accuracy in per cent by number of epochs."""
OURS, DDP = "dualshard, 2 workers", "PyTorch DDP, 2 processes"
LIMIT = 600.0
"""Seconds that PyTorch may train."""

Found = Mapping[str, Sequence[Run]]
"""Runs by side."""


def bench_accuracy(
    data: Path | None, epochs: Sequence[int], rounds: int, say: Callable[[str], None]
) -> list[Row]:
    """Rows of seconds to each accuracy against DDP, and of the accuracy at the end.

    Arguments:
        data: the folder with MNIST; None: where it lies beside the project.
        epochs: lengths of jobs.
        rounds: interleaved rounds, each with a seed of its own.
    Raises:
        UserError: there is no MNIST. RoleError: a side failed.
    """
    mnist = find_mnist(data)
    if not installed("torch"):
        say("PyTorch is not installed: nothing to compare with (pip install torch)")
    rows = []
    with TemporaryDirectory(prefix="dualshard-bench-") as folder:
        for length in epochs:
            sides = _sides(mnist, length)
            found: dict[str, list[Run]] = {name: [] for name in sides}
            for turn in range(rounds):
                for index, (name, train) in enumerate(sides.items()):
                    run = train(Path(folder) / f"{length}-{turn}-{index}", turn)
                    found[name].append(run)
                    when = f"{_counted(length, 'epoch')}, round {turn + 1} of {rounds}"
                    say(f"{when}: {name}: {told(run)}")
            rows += make_rows(length, found)
    return rows


def make_settings(epochs: int, seed: int) -> dict[str, Any]:
    """Of our job, by keys of the job file."""
    return {
        "job.epochs": epochs,
        "job.evaluate_every": 0.25,
        "job.seed": seed,
        "model.ref": "lenet_bn",
        "data.batch_size": BATCH,
        "data.augment": f'["shift:{SHIFT:g}"]',
        "train.mode": "bsp",
        "optimizer.rule": "nesterov",
        "optimizer.lr": RATE,
        "optimizer.schedule": "onecycle",
        "optimizer.warmup": RISE,
        "worker.count": WORKERS,
    }


def _sides(mnist: Path, epochs: int) -> dict[str, Callable[[Path, int], Run]]:
    """Who trains in each round, in a new folder with a seed."""

    def ours(folder: Path, seed: int) -> Run:
        return train_cluster(f"idx:{mnist}", folder, make_settings(epochs, seed))

    def theirs(folder: Path, seed: int) -> Run:
        recipe = one_cycle(RATE, RISE, SHIFT, BATCH, epochs)
        return train_torch(folder, mnist, recipe, seed, processes=WORKERS, limit=LIMIT)

    return {OURS: ours, DDP: theirs} if installed("torch") else {OURS: ours}


def told(run: Run) -> str:
    """One run in a few words."""
    times = (f"{number(run.seconds_to(target))} s to {target:.1%}" for target in TARGETS)
    return f"{run.samples_per_second:,.0f} samples/s, {', '.join(times)}, last {run.accuracy:.2%}"


def make_rows(epochs: int, found: Found) -> list[Row]:
    """The rows of jobs of one length. The worst seed must keep what is promised for it."""
    ours, theirs = found[OURS], found.get(DDP, [])
    against, job = (f", against {DDP}" if theirs else ""), f"job of {_counted(epochs, 'epoch')}"
    rows = [
        compare(
            f"time to {100 * target:.1f} %, {job}{against}",
            "s",
            [run.seconds_to(target) for run in ours],
            [run.seconds_to(target) for run in theirs],
            less_is_better=True,
        )
        for target in TARGETS
    ]
    accuracies, others = ([100 * run.accuracy for run in runs] for runs in (ours, theirs))
    rows.append(compare(f"test accuracy, {job}{against}", "%", accuracies, others))
    if epochs in PROMISED:
        name = f"test accuracy, {job}, worst of {_counted(len(ours), 'seed')}, against the promise"
        rows.append(compare(name, "%", [min(accuracies)], [PROMISED[epochs]], 1.0))
    return rows


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
