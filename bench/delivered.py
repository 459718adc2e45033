"""`bench data --part end-to-end`: images/s from a data server's process to a worker's end.

One data server, the whole command, prepares and serves; one process takes portions as a worker does
and scales each minibatch to float32; a thread of the benchmark lets one epoch follow the other. The
other side is PyTorch's DataLoader in batch mode, whose data set runs the same transform of whole
batches, and whose consumer scales each batch to float32 too. Counted is what has been scaled.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np

from ..common.job import Job
from .governor import Governed
from .peers import descendants, installed, peer
from .processes import module_command, pause, running, started
from .report import Row, compare
from .sides import Side, in_turn
from .usage import cpu_seconds

BATCH = 128
PORTION = 16
"""Minibatches that travel at once: the default."""
THREADS = 2
"""Of the data server; the DataLoader has as many processes."""
LANE, TCP, SMALL = "same-host lane", "tcp", "same-host lane, portions of one minibatch"
LOADER, LARGE = "PyTorch's DataLoader", "PyTorch's DataLoader, batches of 2,048"
PROCESSOR = "processor time an image: "
"""Before the name of a side: what `processor` says of it."""
GOAL = 8.0


Awake = Callable[[], AbstractContextManager[None]]
"""The context in which a process runs."""


@dataclass(frozen=True)
class Case:
    """Images that are delivered: how many, their shape, and what is done with them."""

    name: str
    samples: int
    shape: tuple[int, ...]
    augment: tuple[str, ...]


CASES = (
    Case("28x28", 60_000, (28, 28), ("shift:2", "rotate:15")),
    Case("32x32x3", 50_000, (32, 32, 3), ("crop:4", "reflect", "cutout:8")),
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
    start, unit = f"{case.name} end to end, ", "images/s"
    theirs = found.get(LOADER, ())
    versus = "against PyTorch's DataLoader" if theirs else "PyTorch is not installed"
    rows = []
    for way in WAYS:
        goal = GOAL if theirs and way == LANE else None
        rows.append(compare(f"{start}{way}, {versus}", unit, found[way], theirs, goal))
    if LARGE in found:
        name = f"{start}{LANE}, against its batches of 2,048"
        rows.append(compare(name, unit, found[LANE], found[LARGE]))
    rows.append(compare(f"{start}{LANE}, against tcp", unit, found[LANE], found[TCP]))
    ours, times = found.get(PROCESSOR + LANE, ()), found.get(PROCESSOR + LOADER, ())
    name = f"{start}{LANE}, processor time an image, {versus}"
    return [*rows, compare(name, "µs", ours, times, less_is_better=True)]


def _measure(
    case: Case, rounds: int, seconds: float, say: Callable[[str], None], folder: Path
) -> dict[str, list[float]]:
    """Images/s by side, a number a round, and the processor time of an image."""
    data = write_images(case, folder / "images.npz")
    pids: dict[str, list[int]] = {}
    with ExitStack() as stack:
        sides = []
        for name, way in WAYS.items():
            side, pids[name] = _side(stack, name, make_job(case, data, *way), folder)
            sides.append(side)
        for name, batch in LOADERS.items() if installed("torch") else ():
            augment, place = ",".join(case.augment), folder / str(batch)
            place.mkdir()
            arguments = (f"npz:{data}", augment, batch, THREADS)
            theirs = stack.enter_context(peer(name, "peer_loader", place, *arguments))
            pids[name] = [theirs.pid]
            sides.append(Side(name, theirs.variants, [theirs.running]))
        found = in_turn(sides, rounds, seconds, say)
        for side in sides:
            found[PROCESSOR + side.name] = [processor(side, seconds, pids[side.name])]
    return found


def processor(side: Side, seconds: float, pids: Sequence[int]) -> float:
    """Microseconds of processor time for an image, of this process, those of `pids` and their
    children: unlike speed it hardly depends on what else the machine does."""
    tree = [os.getpid(), *(one for pid in pids for one in descendants(pid))]
    before, begin = sum(map(cpu_seconds, tree)), perf_counter()
    rate = side.measure(next(iter(side.variants)), seconds)
    used = sum(map(cpu_seconds, tree)) - before
    return 1e6 * used / (rate * (perf_counter() - begin))


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


def _side(stack: ExitStack, name: str, job: Job, folder: Path) -> tuple[Side, list[int]]:
    """One data server and one receiver, which stand still; their processes."""
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
    awake: list[Awake] = [partial(running, server), receiver.running]
    return Side(name, receiver.variants, awake), [server.pid, receiver.pid]


def write_images(case: Case, path: Path) -> Path:
    """An archive with random images and ten classes of labels."""
    random = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, count in (("train", case.samples), ("test", BATCH)):
        arrays[f"x_{part}"] = random.integers(0, 256, (count, *case.shape), np.uint8)
        arrays[f"y_{part}"] = np.arange(count) % 10
    np.savez(path, **arrays)
    return path
