"""`bench compute`: forward, backward and a step of SGD of each net of the zoo, one thread, against
PyTorch; or one GPU.

A case is a net and a size of the minibatch. Each side of it is a process of its own that stands
still while the other is measured. PyTorch checks beforehand that it computes what we compute.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from .nets import NETS
from .peers import installed, peer
from .report import Row, compare
from .sides import Side, in_turn

OURS, THEIRS = "dualshard", "PyTorch"


def bench_compute(
    nets: Sequence[str],
    batches: Sequence[int],
    device: str,
    rounds: int,
    seconds: float,
    say: Callable[[str], None],
) -> list[Row]:
    """Rows of samples/s against PyTorch, the best of its memory formats and implementations of SGD.

    Arguments:
        nets: keys of `NETS`.
        batches: sizes of the minibatch; none: those that have goals.
        device: `cpu` or `cuda:N`.
        seconds: how long each measurement of a round takes, at least.
    Raises:
        UserError: there is no such device. RoleError: a side failed, or they compute different
            numbers.
    """
    check_device(device)
    if not installed("torch"):
        say("PyTorch is not installed: nothing to compare with (pip install torch)")
    rows = []
    for net in nets:
        for batch in batches or NETS[net].batches:
            say(f"{net}, minibatches of {batch}")
            with TemporaryDirectory(prefix="dualshard-bench-") as folder:
                rows.append(_case(net, batch, device, rounds, seconds, say, Path(folder)))
    return rows


def check_device(device: str) -> None:
    """Whether both sides can compute there.

    Raises:
        UserError: they cannot.
    """


def _case(
    net: str,
    batch: int,
    device: str,
    rounds: int,
    seconds: float,
    say: Callable[[str], None],
    folder: Path,
) -> Row:
    """The row of one net and size. Ours goes first: it leaves what the other has to repeat."""
    with peer(OURS, "peer_lane", folder, net, batch, device) as ours:
        sides = [Side(OURS, ours.variants, [ours.running])]
        if not installed("torch"):
            return make_row(net, batch, device, in_turn(sides, rounds, seconds, say)[OURS], [])
        with peer(THEIRS, "peer_torch_steps", folder, net, device) as theirs:
            sides.append(Side(THEIRS, theirs.variants, [theirs.running]))
            found = in_turn(sides, rounds, seconds, say)
    return make_row(net, batch, device, found[OURS], found[THEIRS])


def make_row(
    net: str, batch: int, device: str, ours: Sequence[float], theirs: Sequence[float]
) -> Row:
    """Samples/s of a net, a number a round, against PyTorch's."""
    name = f"{net}, minibatches of {batch}, {device}"
    goal = NETS[net].goal(batch, device) if theirs else None
    return compare(f"{name}, against {THEIRS}" if theirs else name, "samples/s", ours, theirs, goal)
