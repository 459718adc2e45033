"""Averaging between workers' parameters and the servers': the loops over arrays. Pure.

The elastic average of EASGD (Zhang, Choromanska and LeCun 2015, "Deep learning with elastic
averaging SGD", equations 5 and 6), and weighted means of gradients or pseudo-gradients.
"""

from collections.abc import Sequence

import numpy as np

from ..common.compiled import compiled
from ..common.rule_kernels import read_only
from ..common.types import Float32


def elastic(centre: Float32, worker: Float32, alpha: float, out: Float32 | None = None) -> Float32:
    """Move the centre z towards a worker's x, and x towards z, by the same difference.

    z += α (x - z) in place; returns x - α (x - z), where both differences are of the old z: float32
    (n,) each, written to `out` where that is given. None of them may overlap another.
    """
    fresh = np.empty_like(centre) if out is None else out
    _elastic(centre, read_only(worker), fresh, np.float32(alpha))
    return fresh


@compiled
def _elastic(centre: Float32, worker: Float32, fresh: Float32, alpha: np.float32) -> None:
    for i in range(centre.size):
        difference = alpha * (worker[i] - centre[i])
        fresh[i] = worker[i] - difference
        centre[i] += difference


def weighted_mean(parts: Sequence[Float32], weights: Sequence[int], out: Float32) -> Float32:
    """Σ weight · part / Σ weight, summed in the order given; float32 (n,) into `out`.

    A single part is returned as it is.
    """
    if len(parts) == 1:
        return parts[0]
    total = sum(weights)
    np.multiply(parts[0], np.float32(weights[0] / total), out=out)
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        _add(out, read_only(part), np.float32(weight / total))
    return out


@compiled
def _add(out: Float32, part: Float32, weight: np.float32) -> None:
    for i in range(out.size):
        out[i] += weight * part[i]
