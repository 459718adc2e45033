"""The sections of the job file that say where a net is cut between machines, and how its parts are
made to agree: `[partition]`, `[admm]`. Pure.

What the formulas are stands in `worker/admm`, what a cut means for each role in `partition`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import UserError
from .section import Section
from .settings import Kind, setting
from .toml import literal

MOST_PARTS = 8


@dataclass(frozen=True)
class PartitionSection(Section):
    """Where the net is cut, and what couples its parts, in mode admm."""

    name_in_file = "partition"
    cuts: tuple[str, ...] = setting(
        Kind.TEXTS,
        [],
        "layers behind which the net is cut, by name, like relu1; empty: into partition.parts "
        "parts, where it evens out their work",
    )
    parts: int = setting(
        Kind.INTEGER, 2, "parts of the net where no cuts are named", minimum=2, maximum=MOST_PARTS
    )
    coupling: str = setting(
        Kind.TEXT,
        "activations",
        "what ties the parts: activations: consensus on what passes the cut, by ADMM; weights: "
        "consensus on two copies of the boundary layer; backprop: exact gradients; replicas: no "
        "cut, consensus between whole nets",
        choices=("activations", "weights", "backprop", "replicas"),
    )
    encoding: str = setting(
        Kind.TEXT,
        "f32",
        "how activations, targets and gradients travel between parts",
        choices=("f32", "f16", "bf16", "int8"),
    )
    micro_batches: int = setting(
        Kind.INTEGER,
        1,
        "backprop: pieces of a minibatch that are under way between parts at once",
        minimum=1,
    )

    @property
    def count(self) -> int:
        """Parts of the net."""
        return len(self.cuts) + 1 if self.cuts else self.parts


@dataclass(frozen=True)
class AdmmSection(Section):
    """The alternating direction method of multipliers."""

    name_in_file = "admm"
    rho: float = setting(
        Kind.NUMBER,
        0.0,
        "ρ, the weight of the penalty, or what it begins with; 0: as the schedule likes it, 1e-4 "
        "where it grows and 0.01 else; 0.1 for weights and replicas",
        minimum=0,
    )
    cap: float = setting(
        Kind.NUMBER,
        0.0,
        "what ρ grows to, in schedule capped; 0: 0.01, for weights and replicas 0.1",
        minimum=0,
    )
    schedule: str = setting(
        Kind.TEXT,
        "capped",
        "capped: ρ times 10 every round up to admm.cap; x10: without end; fixed; residual: "
        "doubled or halved as the residuals differ",
        choices=("capped", "x10", "fixed", "residual"),
    )
    gamma: float = setting(
        Kind.NUMBER,
        0.5,
        "γ, what is kept of the multipliers each round; 0: the quadratic penalty method",
        minimum=0,
        maximum=1,
    )
    gamma_middle: float = setting(
        Kind.NUMBER, 0.0, "activations: the same in middle parts", minimum=0, maximum=1
    )
    c: float = setting(
        Kind.NUMBER, 0.5, "activations: damping of the step of y in the top part", above=0
    )
    c_middle: float = setting(
        Kind.NUMBER, 1.0, "activations: the same in middle parts, as a multiple of ρ", above=0
    )
    macro_batch: int = setting(
        Kind.INTEGER, 1024, "samples that pass the cut at once, at most", minimum=1
    )
    passes: int = setting(Kind.INTEGER, 3, "how often each part trains on a macro-batch", minimum=1)
    wait: bool = setting(
        Kind.FLAG, True, "whether a part waits for the targets of a macro-batch before the next one"
    )
    ahead: int = setting(
        Kind.INTEGER, 4, "macro-batches under way at once where it does not wait", minimum=1
    )
    head: bool = setting(
        Kind.FLAG, True, "weights: whether lower parts learn from labels by a head of their own"
    )
    quorum: float = setting(
        Kind.NUMBER,
        0.75,
        "replicas: the fraction of them whose answers close a round",
        above=0,
        maximum=1,
    )


def check_cut(
    partition: PartitionSection,
    mode: str,
    workers: int,
    hand_in_hand: Mapping[str, tuple[Any, Any]],
) -> None:
    """Refuse settings of a cut net that contradict each other, or those of the rest of the job.

    Arguments:
        hand_in_hand: by dotted key the value, and the one that a cut net needs.
    Raises:
        UserError: which one, and what to write.
    """
    cuts, shown = partition.cuts, literal(list(partition.cuts))
    if cuts and mode != "admm":
        fix = "write train.mode = admm, with partition.coupling = backprop for exact gradients"
        raise UserError("partition.cuts", shown, f"none in mode {mode}", fix)
    if mode != "admm":
        return
    if partition.coupling == "replicas":
        if cuts:
            fix = "leave them out, or choose another partition.coupling"
            raise UserError("partition.cuts", shown, "none with coupling replicas", fix)
        return
    if len(set(cuts)) < len(cuts) or len(cuts) >= MOST_PARTS:
        expected = f"different layers, at most {MOST_PARTS - 1}"
        raise UserError("partition.cuts", shown, expected, "leave the others out")
    if workers % partition.count:
        fix = f"write worker.count = {-(-workers // partition.count) * partition.count}"
        expected = f"a multiple of {partition.count}, the parts of the net"
        raise UserError("worker.count", workers, expected, fix)
    for key, (value, wanted) in hand_in_hand.items():
        if value != wanted:
            fix = "parts of one net work hand in hand: leave it out, or choose another train.mode"
            raise UserError(key, literal(value), f"{literal(wanted)} with a cut net", fix)


def check_replicas(schedule: str, device: str, compression: str) -> None:
    """Refuse settings that consensus between whole nets has no use for.

    Arguments:
        schedule, device, compression: of `[admm]`, `[worker]` and `[train]`.
    Raises:
        UserError: which one, and what to write.
    """
    if schedule == "residual":
        fix = "each replica would come to a ρ of its own, and their multipliers not to zero"
        expected = "capped, x10 or fixed with coupling replicas"
        raise UserError("admm.schedule", schedule, expected, fix)
    if device != "cpu":
        fix = "leave it out: only the CPU's steps know of the penalty"
        raise UserError("worker.device", device, "cpu with coupling replicas", fix)
    if compression == "topk":
        fix = "they push where they are, not gradients: write train.compression = int8"
        expected = "one that keeps every element with coupling replicas"
        raise UserError("train.compression", compression, expected, fix)
