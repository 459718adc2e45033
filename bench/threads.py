"""`bench threads`: lock-free training steps of one worker, two threads against one, and against
PyTorch's Hogwild with two processes.

A case is a net and a size of the minibatch, without servers: what a worker does between two
exchanges. Each side is a process of its own that stands still while the other is measured.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from .peers import Peer, installed, peer
from .report import Row, compare
from .sides import Side, in_turn

NETS = ("mlp", "lenet", "cifar")
BATCHES = (8, 32, 128)
ONE, TWO, HOGWILD = "1 thread", "2 threads", "PyTorch, 2 processes"
GOAL = 1.9
"""Times one thread."""
HOGWILD_GOAL = 1.5
"""Times PyTorch's Hogwild."""


def bench_threads(
    nets: Sequence[str],
    batches: Sequence[int],
    merge_every: int,
    rounds: int,
    seconds: float,
    say: Callable[[str], None],
) -> list[Row]:
    """Rows of samples/s of two threads against one, and against PyTorch with two processes.

    Arguments:
        nets: of the zoo.
        batches: sizes of the minibatch.
        merge_every: as the setting `worker.merge_every`.
        seconds: how long each measurement of a round takes.
    Raises:
        RoleError: a side failed.
    """
    if not installed("torch"):
        say("PyTorch is not installed: nothing to compare with (pip install torch)")
    rows = []
    for net in nets:
        for batch in batches:
            say(f"{net}, minibatches of {batch}")
            with TemporaryDirectory(prefix="dualshard-bench-") as folder:
                found = _case(net, batch, merge_every, rounds, seconds, say, Path(folder))
            rows += make_rows(net, batch, found)
    return rows


def _case(
    net: str,
    batch: int,
    merge_every: int,
    rounds: int,
    seconds: float,
    say: Callable[[str], None],
    folder: Path,
) -> dict[str, list[float]]:
    """Samples/s by side, a number a round."""
    with peer("dualshard", "peer_lanes", folder, net, batch, merge_every) as ours:
        sides = [_threads(ours, 0, ONE), _threads(ours, 1, TWO)]
        if not installed("torch"):
            return in_turn(sides, rounds, seconds, say)
        with peer(HOGWILD, "peer_hogwild", folder, net, batch) as theirs:
            sides.append(Side(HOGWILD, theirs.variants, [theirs.running]))
            return in_turn(sides, rounds, seconds, say)


def _threads(ours: Peer, number: int, name: str) -> Side:
    """One of the variants of our process, as a side of its own."""
    return Side(name, {name: list(ours.variants.values())[number]}, [ours.running])


def make_rows(net: str, batch: int, found: Mapping[str, Sequence[float]]) -> list[Row]:
    """The rows of a case."""
    name = f"{net}, minibatches of {batch}, {TWO}, against"
    rows = [compare(f"{name} 1", "samples/s", found[TWO], found[ONE], GOAL)]
    if HOGWILD in found:
        sides = found[TWO], found[HOGWILD]
        rows.append(compare(f"{name} {HOGWILD}", "samples/s", *sides, HOGWILD_GOAL))
    return rows
