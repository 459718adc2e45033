"""`bench train`: the local cluster on MNIST against PyTorch in one process, and DDP in two."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory

from .recipes import DDP, OURS, PLAIN
from .report import Row, compare, number
from .runs import Run, find_mnist, train_cluster, train_torch

EPOCHS = 3
WORKERS = 2
TARGETS = (0.970, 0.975)
CLUSTER = "dualshard, 2 workers"
TWO_PROCESSES = f"DDP, {DDP}"
PLAIN_PEER = "plain PyTorch"
PEERS = {
    PLAIN_PEER: tuple(PLAIN),
    "PyTorch with our recipe": (OURS,),
    "PyTorch DDP": (TWO_PROCESSES,),
}
"""Whom the rows are against, and the sides that count as it."""


@dataclass(frozen=True)
class Quantity:
    """Something that is read off a run; `goal` is the ratio wanted against plain PyTorch."""

    name: str
    unit: str
    of: Callable[[Run], float]
    goal: float | None = None


QUANTITIES = (
    Quantity("speed of training", "samples/s", lambda run: run.samples_per_second, 2.5),
    Quantity("time to 97.0 %", "s", lambda run: run.seconds_to(TARGETS[0])),
    Quantity("time to 97.5 %", "s", lambda run: run.seconds_to(TARGETS[1]), 2.0),
)

Side = Callable[[Path, int], Run]
"""Trains once in a new folder with a seed."""


def bench_train(data: Path | None, rounds: int, say: Callable[[str], None]) -> list[Row]:
    """Rows of samples/s and of seconds to each accuracy.

    Arguments:
        data: the folder with MNIST; None: where it lies beside the project.
        rounds: interleaved rounds, each with a seed of its own; a run of our cluster, which
            compiles its kernels if need be, goes before them and does not count.
    Raises:
        UserError: there is no MNIST. RoleError: a side failed.
    """
    sides = _sides(find_mnist(data))
    if len(sides) == 1:
        say("PyTorch is not installed: nothing to compare with (pip install torch)")
    found: dict[str, list[Run]] = {name: [] for name in sides}
    with TemporaryDirectory(prefix="dualshard-bench-") as folder:
        for turn in range(rounds + 1):
            for index, (name, train) in enumerate(sides.items()):
                if turn or name == CLUSTER:
                    run = train(Path(folder) / f"{turn}-{index}", turn)
                    when = f"round {turn} of {rounds}" if turn else "warm-up"
                    say(f"{when}: {name}: {told(run)}")
                    if turn:
                        found[name].append(run)
    return make_rows(found)


def _sides(mnist: Path) -> dict[str, Side]:
    """Who trains in each round, in this order."""

    def cluster(folder: Path, seed: int) -> Run:
        settings = {"job.epochs": EPOCHS, "job.evaluate_every": 0.25}
        workers = {"worker.count": WORKERS, "job.seed": seed}
        return train_cluster(f"idx:{mnist}", folder, {**settings, **workers})

    def torch(recipe: str, processes: int) -> Side:
        return lambda folder, seed: train_torch(folder, mnist, recipe, seed, processes=processes)

    if find_spec("torch") is None:
        return {CLUSTER: cluster}
    plain = {recipe: torch(recipe, 1) for recipe in (*PLAIN, OURS)}
    return {CLUSTER: cluster, **plain, TWO_PROCESSES: torch(DDP, 2)}


def told(run: Run) -> str:
    """One run in a few words."""
    times = (f"{number(run.seconds_to(target))} s to {target:.1%}" for target in TARGETS)
    return f"{run.samples_per_second:,.0f} samples/s, {', '.join(times)}, last {run.accuracy:.2%}"


def make_rows(found: Mapping[str, list[Run]]) -> list[Row]:
    """The rows of all rounds, by side. Of several recipes of a peer, each row takes the one that
    does best in it."""
    ours = found[CLUSTER]
    peers = {name: recipes for name, recipes in PEERS.items() if recipes[0] in found}
    rows = []
    for peer, recipes in peers.items() or [("", ())]:
        for quantity in QUANTITIES:
            theirs = [found[recipe] for recipe in recipes] or [[]]
            candidates = [_row(quantity, peer, ours, runs) for runs in theirs]
            rows.append(min(candidates, key=lambda row: inf if row.ratio is None else row.ratio))
    accuracy = [100 * run.accuracy for run in ours]
    return [*rows, compare(f"test accuracy after {EPOCHS} epochs", "%", accuracy)]


def _row(quantity: Quantity, peer: str, ours: list[Run], theirs: list[Run]) -> Row:
    return compare(
        f"{quantity.name}, against {peer}" if peer else quantity.name,
        quantity.unit,
        [quantity.of(run) for run in ours],
        [quantity.of(run) for run in theirs],
        quantity.goal if peer == PLAIN_PEER else None,
        less_is_better=quantity.unit == "s",
    )
