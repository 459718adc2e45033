"""`bench train`: the local cluster on MNIST against PyTorch in one process, and DDP in two; our
modes against each other; and what an exchange costs a large step (`overlap`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory

from .overlap import bench_overlap
from .recipes import DDP, OURS, PLAIN, RECIPES
from .report import Row, compare, number
from .runs import Run, find_mnist, train_cluster, train_torch

EPOCHS = 3
WORKERS = 2
TARGETS = (0.970, 0.975)
CLUSTER = "dualshard, 2 workers"
BSP = f"{CLUSTER}, bsp"
LOCAL = f"{CLUSTER}, local"
OUR_SIDES: Mapping[str, Mapping[str, object]] = {
    CLUSTER: {},
    BSP: {"train.mode": "bsp"},
    # The worker's own rule is the default, the outer one averages: sgd with rate 1.
    LOCAL: {"train.mode": "local", "train.n_push": 64},
}
"""The settings in which they differ."""
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
    """Something that is read off a run; `goal` is the ratio wanted against plain PyTorch, and
    `local_goal` that of mode local."""

    name: str
    unit: str
    of: Callable[[Run], float]
    goal: float | None = None
    local_goal: float | None = None


SPEED = Quantity("speed of training", "samples/s", lambda run: run.samples_per_second, 2.5, 4.0)
QUANTITIES = (
    SPEED,
    Quantity("time to 97.0 %", "s", lambda run: run.seconds_to(TARGETS[0])),
    Quantity("time to 97.5 %", "s", lambda run: run.seconds_to(TARGETS[1]), 2.0, 2.0),
)

Side = Callable[[Path, int], Run]
"""Trains once in a new folder with a seed."""


def bench_train(data: Path | None, rounds: int, say: Callable[[str], None]) -> list[Row]:
    """Rows of samples/s and of seconds to each accuracy, and of what an exchange costs a step.

    Arguments:
        data: the folder with MNIST; None: where it lies beside the project.
        rounds: interleaved rounds, each with a seed of its own; a run of our cluster, which
            compiles its kernels if need be, goes before them and does not count.
    Raises:
        UserError: there is no MNIST. RoleError: a side failed.
    """
    mnist = find_mnist(data)
    sides = _sides(mnist)
    if len(sides) == len(OUR_SIDES):
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
        overlap = bench_overlap(mnist, Path(folder), rounds, say)
    return [*make_rows(found), *overlap]


def _sides(mnist: Path) -> dict[str, Side]:
    """Who trains in each round, in this order."""

    def cluster(more: Mapping[str, object]) -> Side:
        settings = {"job.epochs": EPOCHS, "job.evaluate_every": 0.25, "worker.count": WORKERS}
        source = f"idx:{mnist}"
        return lambda folder, seed: train_cluster(
            source, folder, {**settings, "job.seed": seed, **more}
        )

    def torch(recipe: str, processes: int) -> Side:
        return lambda folder, seed: train_torch(
            folder, mnist, RECIPES[recipe], seed, processes=processes
        )

    ours = {name: cluster(more) for name, more in OUR_SIDES.items()}
    if find_spec("torch") is None:
        return ours
    plain = {recipe: torch(recipe, 1) for recipe in (*PLAIN, OURS)}
    return {**ours, **plain, TWO_PROCESSES: torch(DDP, 2)}


def told(run: Run) -> str:
    """One run in a few words."""
    times = (f"{number(run.seconds_to(target))} s to {target:.1%}" for target in TARGETS)
    return f"{run.samples_per_second:,.0f} samples/s, {', '.join(times)}, last {run.accuracy:.2%}"


def make_rows(found: Mapping[str, list[Run]]) -> list[Row]:
    """The rows of all rounds, by side. Of several recipes of a peer, each row takes the one that
    does best in it."""
    peers = {name: recipes for name, recipes in PEERS.items() if recipes[0] in found}
    rows = []
    for side, against in ((CLUSTER, peers or {"": ()}), (LOCAL, _only_plain(peers) or {"": ()})):
        for peer, recipes in against.items():
            for quantity in QUANTITIES:
                theirs = [found[recipe] for recipe in recipes] or [[]]
                made = [_row(quantity, side, peer, found[side], runs) for runs in theirs]
                rows.append(min(made, key=lambda row: inf if row.ratio is None else row.ratio))
    fast, slow = ([SPEED.of(run) for run in found[side]] for side in (CLUSTER, BSP))
    rows.append(compare("speed of training, async, against bsp", "samples/s", fast, slow, 1.0))
    for side in OUR_SIDES:
        accuracy = [100 * run.accuracy for run in found[side]]
        name = f"test accuracy after {EPOCHS} epochs{_mode(side)}"
        rows.append(compare(name, "%", accuracy))
    return rows


def _only_plain(peers: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {name: recipes for name, recipes in peers.items() if name == PLAIN_PEER}


def _mode(side: str) -> str:
    """`, local` of the side in this mode."""
    return side.removeprefix(CLUSTER)


def _row(quantity: Quantity, side: str, peer: str, ours: list[Run], theirs: list[Run]) -> Row:
    name = f"{quantity.name}{_mode(side)}"
    goal = quantity.local_goal if side == LOCAL else quantity.goal
    return compare(
        f"{name}, against {peer}" if peer else name,
        quantity.unit,
        [quantity.of(run) for run in ours],
        [quantity.of(run) for run in theirs],
        goal if peer == PLAIN_PEER else None,
        less_is_better=quantity.unit == "s",
    )
