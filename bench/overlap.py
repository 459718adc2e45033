"""The overlap row of `bench train`: how much of a step an exchange over tcp still costs.

A net of 12 million parameters whose step takes at least twice as long as its 48 MB travel there and
back: one worker pushes what is ready while backpropagation goes on. Against it the same steps with
nothing exchanged, in a process of their own.

`python -m dualshard.bench.overlap JOB.json` is that process: it prints the seconds of a step.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from ..common.cluster import DataShape
from ..common.data_sections import DataSection
from ..common.job import Job
from ..common.messages import Portion
from ..dataserver.source import open_source
from ..worker.batches import Lease, Minibatch
from ..worker.events import Compute
from ..worker.step import Stepper
from .processes import finish, module_command, started
from .report import Row, compare
from .runs import train_cluster

HIDDEN = [2500, 2000, 1500, 1000, 500]
BATCH = 128
STEPS = 40
"""In an epoch, the only one."""
GOAL = 0.9
LIMIT = 120.0
"""Seconds that the steps without an exchange may take in all."""


def bench_overlap(
    mnist: Path,
    folder: Path,
    rounds: int,
    say: Callable[[str], None],
    hidden: list[int] = HIDDEN,
    steps: int = STEPS,
) -> list[Row]:
    """The row of a pure step against a whole one: the goal is an exchange of at most a tenth.

    Raises:
        RoleError: a side failed.
    """
    data = write_part(mnist, folder / "part.npz", steps * BATCH)
    settings = make_settings(hidden)
    whole, pure = [], []
    for turn in range(rounds):
        run = train_cluster(f"npz:{data}", folder / f"overlap-{turn}", settings)
        whole.append(BATCH / run.samples_per_second)
        pure.append(pure_step(settings, folder, steps))
        say(
            f"round {turn + 1} of {rounds}: a step of {1e3 * whole[-1]:.0f} ms with its exchange, "
            f"{1e3 * pure[-1]:.0f} ms without"
        )
    return [make_row(whole, pure)]


def make_row(whole: list[float], pure: list[float]) -> Row:
    """Milliseconds of a step with its exchange, against the same without; 1 is perfect overlap."""
    ours, theirs = ([1e3 * seconds for seconds in side] for side in (whole, pure))
    name = "a step of 12 million parameters over tcp, against the same without an exchange"
    return compare(name, "ms", ours, theirs, GOAL, less_is_better=True)


def make_settings(hidden: list[int]) -> dict[str, Any]:
    """Of the job file."""
    return {
        "job.epochs": 1,
        "job.evaluate_every": 1.0,
        "data.batch_size": BATCH,
        "model.args": f"{{hidden={hidden}}}",
        "train.transport": "tcp",
        "train.factors": "off",
        "optimizer.rule": "sgd",
        "optimizer.lr": 0.01,
        "worker.count": 1,
        "paramserver.count": 1,
        "dataserver.portion": 4,
    }


def write_part(mnist: Path, path: Path, samples: int) -> Path:
    """An archive with some samples of MNIST to train and a few to test."""
    split = open_source(DataSection(f"idx:{mnist}"), seed=0)
    arrays: dict[str, Any] = {}
    for part, dataset, count in (("train", split.train, samples), ("test", split.test, BATCH)):
        chosen = np.arange(min(count, len(dataset)))
        arrays[f"x_{part}"], arrays[f"y_{part}"] = dataset.read(chosen)
    np.savez(path, **arrays)
    return path


def pure_step(settings: Mapping[str, Any], folder: Path, steps: int) -> float:
    """Seconds of a step without any exchange, the median of many in a process of their own."""
    hidden = json.loads(settings["model.args"].partition("=")[2].rstrip("}"))
    file = folder / "step.json"
    file.write_text(json.dumps({"hidden": hidden, "steps": steps}))
    command = module_command("bench.overlap", file)
    with started(command, folder, output=subprocess.PIPE) as process:
        return float(finish(process, "the steps without an exchange", LIMIT))


def main() -> None:
    """Time the steps of a worker's stepper."""
    told = json.loads(Path(sys.argv[1]).read_text())
    job = Job.from_dict(
        {
            "model": {"args": {"hidden": told["hidden"]}},
            "data": {"batch_size": BATCH},
            "worker": {"count": 1},
        }
    )
    random = np.random.default_rng(0)
    inputs = random.integers(0, 256, (BATCH, 28, 28)).astype(np.uint8)
    portion = Portion(0, 0, False, inputs, np.arange(BATCH) % 10)
    batch = Minibatch(Lease("", portion, 1), 0, portion.inputs, portion.labels)
    with threadpool_limits(1, "blas"):
        stepper = Stepper(job, DataShape(60_000, 10_000, 10, (28, 28), 1))
        times = []
        for _ in range(told["steps"]):
            begin = perf_counter()
            stepper.compute(Compute(0, [batch], False))
            times.append(perf_counter() - begin)
    print(median(times))


if __name__ == "__main__":
    main()
