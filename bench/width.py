"""`bench width`: asynchronous training with default settings converges at any width."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from .report import Row, compare
from .runs import find_mnist, train_cluster

EPOCHS = 3
PROMISED = {1: 97.5, 2: 97.5, 4: 97.3, 8: 97.3, 16: 97.0}
"""Test accuracy in per cent by number of workers."""


def bench_width(data: Path | None, seeds: int, say: Callable[[str], None]) -> list[Row]:
    """Rows of the test accuracy of each width against what is promised for it.

    Arguments:
        data: the folder with MNIST; None: where it lies beside the project.
        seeds: runs of each width, with seeds 0, 1, ...
    Raises:
        UserError: there is no MNIST. RoleError: a run failed.
    """
    source = f"idx:{find_mnist(data)}"
    found: dict[int, list[float]] = {workers: [] for workers in PROMISED}
    with TemporaryDirectory(prefix="dualshard-bench-") as folder:
        for seed in range(seeds):
            for workers in PROMISED:
                settings = {
                    "worker.count": workers,
                    "job.epochs": EPOCHS,
                    "job.seed": seed,
                    "job.start_timeout": "300s",  # many processes on few cores come up slowly
                }
                run = train_cluster(source, Path(folder) / f"{seed}-{workers}", settings)
                found[workers].append(100 * run.accuracy)
                speed = f"{run.samples_per_second:,.0f} samples/s"
                say(f"seed {seed}, width {workers}: {100 * run.accuracy:.2f} %, {speed}")
    return make_rows(found)


def make_rows(found: Mapping[int, Sequence[float]]) -> list[Row]:
    """For each width the worst of its seeds against the promise, and the median where it has more
    than one. `found` holds accuracies in per cent by number of workers."""
    rows = []
    for workers, accuracies in found.items():
        noun = "worker" if workers == 1 else "workers"
        name = f"test accuracy after {EPOCHS} epochs, {workers} {noun}"
        promised = [PROMISED[workers]]
        if len(accuracies) > 1:
            rows.append(compare(f"{name}, median", "%", accuracies, promised))
            name += f", worst of {len(accuracies)} seeds"
        rows.append(compare(f"{name}, against the promise", "%", [min(accuracies)], promised, 1.0))
    return rows
