"""`bench compute`: forward, backward and a step of SGD of each net of the zoo, against PyTorch: on
one thread of the processor, or on the same GPU.

A case is a net and a size of the minibatch. Each side of it is a process of its own that stands
still while another is measured. PyTorch checks beforehand that it computes what we compute.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ..common.errors import UserError
from .nets import NETS
from .peers import installed, peer
from .report import Row, compare
from .sides import Side, in_turn

OURS, THEIRS = "dualshard", "PyTorch"
KEPT = "PyTorch that keeps freed memory"
"""What one gets from it by a setting of glibc that our roles make by themselves."""


@dataclass(frozen=True)
class Case:
    """What is measured: a net of `NETS`, the samples of a minibatch, `cpu` or `cuda:N`."""

    net: str
    batch: int
    device: str

    def __str__(self) -> str:
        return f"{self.net}, minibatches of {self.batch}, {self.device}"

    @property
    def goal(self) -> float | None:
        """The ratio wanted against PyTorch as it comes."""
        return NETS[self.net].goal(self.batch, self.device)


def bench_compute(
    nets: Sequence[str],
    batches: Sequence[int],
    device: str,
    rounds: int,
    seconds: float,
    say: Callable[[str], None],
) -> list[Row]:
    """Rows of samples/s against PyTorch, in the memory format and with the SGD that suit it best.

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
            case = Case(net, batch, device)
            say(str(case))
            with TemporaryDirectory(prefix="dualshard-bench-") as folder:
                rows += make_rows(case, measure(case, rounds, seconds, say, Path(folder)))
    return rows


def check_device(device: str) -> None:
    """Whether ours, and PyTorch where it is installed, can compute there.

    Raises:
        UserError: they cannot.
    """
    if device == "cpu":
        return
    kind, _, number = device.partition(":")
    if kind != "cuda" or not (number.isascii() and number.isdigit()):
        raise UserError("--device", device, "cpu or cuda:N", "for example --device cuda:0")
    from ..worker.device import find  # CuPy, if it is there

    try:
        find(device)
    except UserError as absent:
        fix = "measure on the processor: --device cpu"
        raise UserError("--device", device, absent.expected, fix) from None
    if not installed("torch"):
        return
    import torch  # slow, and only wanted here

    if int(number) >= torch.cuda.device_count():
        expected = f"a GPU that PyTorch finds too, and it finds {torch.cuda.device_count()}"
        raise UserError("--device", device, expected, "install a build of PyTorch for CUDA")


def measure(
    case: Case, rounds: int, seconds: float, say: Callable[[str], None], folder: Path
) -> dict[str, list[float]]:
    """Samples/s by side, a number a round. Ours goes first: it leaves what others must repeat."""
    with ExitStack() as stack:
        sides = []

        def start(name: str, module: str, *arguments: object) -> None:
            one = stack.enter_context(peer(name, module, folder, *arguments))
            sides.append(Side(name, one.variants, [one.running]))

        start(OURS, "peer_lane", case.net, case.batch, case.device)
        if installed("torch"):
            start(THEIRS, "peer_torch_steps", case.net, case.device, "plain")
            if case.device == "cpu":
                start(KEPT, "peer_torch_steps", case.net, case.device, "kept")
        return in_turn(sides, rounds, seconds, say)


def make_rows(case: Case, found: Mapping[str, Sequence[float]]) -> list[Row]:
    """A row against each side of PyTorch, or one of ours alone. The goal is for the first."""
    ours = found[OURS]
    others = {name: theirs for name, theirs in found.items() if name != OURS}
    if not others:
        return [compare(str(case), "samples/s", ours)]
    return [
        compare(
            f"{case}, against {name}",
            "samples/s",
            ours,
            theirs,
            case.goal if name == THEIRS else None,
        )
        for name, theirs in others.items()
    ]
