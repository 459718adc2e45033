"""`bench lockfree`: what lock-free threads do to the result. One worker, a small net on MNIST's raw
pixels, and the errors on the test set with 2 and 4 threads beside those of a serial run.

A run is the command `dualshard train` in mode `local` with plain SGD: between two exchanges all
threads step on the worker's parameters without locks.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from .report import Row, compare
from .runs import find_mnist, train_cluster

THREADS = (1, 2, 4)
TESTS = 10_000
"""Images in MNIST's test set."""
WITHIN = 0.2
"""Points of accuracy that the mean over the seeds may differ by."""
SETTINGS: Mapping[str, object] = {
    "model.args": "{hidden=[256]}",
    "train.mode": "local",
    "optimizer.rule": "sgd",
    "optimizer.lr": 0.3,
    "optimizer.schedule": "linear",
    "worker.count": 1,
    "paramserver.count": 1,
}


def bench_lockfree(
    data: Path | None, seeds: int, epochs: int, say: Callable[[str], None]
) -> list[Row]:
    """Rows of accuracies and of errors by number of threads, against one thread.

    Arguments:
        data: the folder with MNIST; None: where it lies beside the project.
        seeds: runs of each number of threads, with seeds 0, 1, ...
    Raises:
        UserError: there is no MNIST. RoleError: a run failed.
    """
    source = f"idx:{find_mnist(data)}"
    found: dict[int, list[float]] = {threads: [] for threads in THREADS}
    with TemporaryDirectory(prefix="dualshard-bench-") as folder:
        for seed in range(seeds):
            for threads in THREADS:
                settings = {
                    **SETTINGS,
                    "worker.threads": threads,
                    "job.seed": seed,
                    "job.epochs": epochs,
                }
                run = train_cluster(source, Path(folder) / f"{seed}-{threads}", settings)
                found[threads].append(100 * run.accuracy)
                speed = f"{run.samples_per_second:,.0f} samples/s"
                say(f"seed {seed}, {noun(threads)}: {errors(found[threads][-1])} errors, {speed}")
    return make_rows(found)


def make_rows(found: Mapping[int, Sequence[float]]) -> list[Row]:
    """For each number of threads the mean number of errors beside that of one, and the mean
    accuracy plus `WITHIN` against it. `found` holds accuracies in per cent."""
    rows = []
    serial = sum(found[1]) / len(found[1])
    for threads, accuracies in found.items():
        mean = sum(accuracies) / len(accuracies)
        against = [errors(serial)] if threads > 1 else []
        name = f"errors on the test set, {noun(threads)}, mean of {len(accuracies)} seeds"
        rows.append(compare(name, "errors", [errors(mean)], against, less_is_better=True))
        if threads > 1:
            name = f"accuracy plus {WITHIN} points, {noun(threads)}, against serial"
            rows.append(compare(name, "%", [mean + WITHIN], [serial], 1.0))
    return rows


def errors(accuracy: float) -> int:
    """Images of the test set that are wrong at an accuracy in per cent."""
    return round((100 - accuracy) / 100 * TESTS)


def noun(threads: int) -> str:
    """`1 thread`, `2 threads`."""
    return f"{threads} thread" if threads == 1 else f"{threads} threads"
