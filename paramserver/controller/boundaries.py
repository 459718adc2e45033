"""What a cut net, or replicas in consensus, tell of an epoch, from the sums of `Done`. Pure.

Residuals are those of Boyd et al. 2011, section 3.3: primal, the root mean square of x - y, and
dual, ρ times how far x has moved; means over the rounds. Neither tells when to stop: the accuracy
of the glued net does.
"""

from collections.abc import Mapping
from typing import Any

MEANS = ("primal", "dual", "rho", "gap", "lateness")
"""Sums over rounds that are shown as means: of the lowest boundary, and as `primal.1` of others."""
TOTALS = ("rounds", "bytes_up", "bytes_down")
"""What a run's totals are added up from."""


def boundary_row(sums: Mapping[str, float], seconds: float, replicas: int) -> dict[str, Any]:
    """Columns of the epoch's row; none where nothing passes a boundary.

    `rounds` are macro-batches (pieces of minibatches in coupling backprop, pushes in coupling
    replicas), `bytes_up` and `bytes_down` what has crossed all boundaries, `lateness` how many
    rounds a target came after its activations, `idle` the fraction of `seconds` in which the
    workers of each part computed nothing, by part.
    """
    rounds = sums.get("rounds", 0.0)
    if not rounds:
        return {}
    row: dict[str, Any] = {
        "rounds": int(rounds),
        "bytes_up": int(_over_all("boundary_up", sums)),
        "bytes_down": int(_over_all("boundary_down", sums)),
    }
    for name in sorted(sums):
        if name.partition(".")[0] in MEANS:
            row[name.removesuffix(".0")] = sums[name] / rounds
    busy = {name.partition(".")[2]: sums[name] for name in sorted(sums) if name.startswith("busy.")}
    if busy:
        time = max(seconds * replicas, 1e-9)
        row["idle"] = {part: max(0.0, 1.0 - spent / time) for part, spent in busy.items()}
    return row


def _over_all(name: str, sums: Mapping[str, float]) -> float:
    """The sum over all boundaries; where there are more, their numbers stand behind the name."""
    return sum(value for key, value in sums.items() if key.partition(".")[0] == name)
