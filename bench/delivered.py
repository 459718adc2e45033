"""`bench data --part end-to-end`: images/s from a data server's process to a worker's end.

One data server, the whole command, prepares and serves; one process takes portions as a worker does
and scales each minibatch to float32; a thread of the benchmark lets one epoch follow the other. The
other side is PyTorch's DataLoader in batch mode, whose data set runs the same transform of whole
batches, and whose consumer scales each batch to float32 too. Counted is what has been scaled.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..common.job import Job
from .governor import Governed
from .peers import installed, peer
from .processes import module_command, pause, running, started
from .report import Row, compare
from .sides import Side, in_turn

BATCH = 128
PORTION = 16
"""Minibatches that travel at once: the default."""
THREADS = 2
"""Of the data server; the DataLoader has as many processes."""
LANE, TCP, SMALL = "same-host lane", "tcp", "same-host lane, portions of one minibatch"
LOADER, LARGE = "PyTorch's DataLoader", "PyTorch's DataLoader, batches of 2,048"
GOAL = 8.0


@dataclass(frozen=True)
class Case:
    """Images that are delivered: how many, their shape, and what is done with them."""

    name: str
    samples: int
    shape: tuple[int, ...]
    augment: tuple[str, ...]


CASES = (
    Case("28x28, shift and rotate", 60_000, (28, 28), ("shift:2", "rotate:15")),
    Case("32x32x3, crop, flip and cutout", 50_000, (32, 32, 3), ("crop:4", "reflect", "cutout:8")),
)
WAYS = {LANE: ("auto", PORTION), TCP: ("tcp", PORTION), SMALL: ("auto", 1)}
"""`train.transport` and `dataserver.portion`."""
LOADERS = {LOADER: BATCH, LARGE: BATCH * PORTION}
"""Indices of a batch."""


def bench_delivered(
    cases: Sequence[Case], rounds: int, seconds: float, say: Callable[[str], None]
) -> list[Row]:
    """Rows of images/s over each way, against the DataLoader.

    Raises:
        RoleError: a side failed.
    """
    if not installed("torch"):
        say("PyTorch is not installed: nothing to compare with (pip install torch)")
    rows = []
    for case in cases:
        say(f"end to end, {case.name}")
        with TemporaryDirectory(prefix="dualshard-bench-") as folder:
            rows += make_rows(case, _measure(case, rounds, seconds, say, Path(folder)))
    return rows


def make_rows(case: Case, found: Mapping[str, Sequence[float]]) -> list[Row]:
    """The rows of one case."""
    rows, start, unit = [], f"end to end, {case.name}", "images/s"
    theirs = found.get(LOADER, ())
    versus = "against PyTorch's DataLoader" if theirs else "PyTorch is not installed"
    for way in WAYS:
        goal = GOAL if theirs and way == LANE else None
        rows.append(compare(f"{start}, {way}, {versus}", unit, found[way], theirs, goal))
    if LARGE in found:
        name = f"{start}, {LANE}, against batches of 2,048 from PyTorch's DataLoader"
        rows.append(compare(name, unit, found[LANE], found[LARGE]))
    return [*rows, compare(f"{start}, {LANE}, against tcp", unit, found[LANE], found[TCP])]


def _measure(
    case: Case, rounds: int, seconds: float, say: Callable[[str], None], folder: Path
) -> dict[str, list[float]]:
    """Images/s by side, a number a round."""
    data = write_images(case, folder / "images.npz")
    with ExitStack() as stack:
        sides = [
            _side(stack, name, make_job(case, data, *way), folder) for name, way in WAYS.items()
        ]
        if installed("torch"):
            for name, batch in LOADERS.items():
                augment, place = ",".join(case.augment), folder / str(batch)
                place.mkdir()
                arguments = (f"npz:{data}", augment, batch, THREADS)
                theirs = stack.enter_context(peer(name, "peer_loader", place, *arguments))
                sides.append(Side(name, theirs.variants, [theirs.running]))
        return in_turn(sides, rounds, seconds, say)


def make_job(case: Case, data: Path, transport: str, portion: int) -> Job:
    """The job that the governor hands out."""
    return Job.from_dict(
        {
            "data": {
                "source": f"npz:{data}",
                "batch_size": BATCH,
                "augment": list(case.augment),
            },
            "train": {"transport": transport},
            "dataserver": {"portion": portion, "threads": THREADS},
            "worker": {"count": 1},
        }
    )


def _side(stack: ExitStack, name: str, job: Job, folder: Path) -> Side:
    """One data server and one receiver, which stand still."""
    governed = stack.enter_context(Governed(job))
    place = folder / f"{job.train.transport}-{job.dataserver.portion}"
    place.mkdir()
    command = module_command("deploy", "dataserver", "--controller", governed.address)
    command.append("--end-with-stdin")
    server = stack.enter_context(started(command, folder, patience=0))
    receiver = stack.enter_context(peer(name, "peer_receiver", place, governed.address))
    with receiver.running():
        (measure,) = receiver.variants.values()
        measure(0.01)  # it joins as soon as it is asked
        governed.wait(lambda: server.poll() is None)
    pause(server)
    return Side(name, receiver.variants, [partial(running, server), receiver.running])


def write_images(case: Case, path: Path) -> Path:
    """An archive with random images and ten classes of labels."""
    random = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, count in (("train", case.samples), ("test", BATCH)):
        arrays[f"x_{part}"] = random.integers(0, 256, (count, *case.shape), np.uint8)
        arrays[f"y_{part}"] = np.arange(count) % 10
    np.savez(path, **arrays)
    return path
