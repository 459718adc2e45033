"""Consensus on two copies of a boundary layer: the formulas of ADMM.md, section B. Pure.

The lower part's copy Wx and the upper part's Wy of the layer just above a cut are to agree. To
what each part minimises comes ρ/2 ‖Wx - Wy + u‖², and u ← u + Wx - Wy after each round (Boyd et
al. 2011, equations 3.5 to 3.7). Each side keeps a u of its own, as λ = ρ u, so that it needs no
care when ρ changes.

Both sides must add up the same differences: were one to take its own copy of another round, the two
u would differ for ever by how far that has come, and the copies would settle elsewhere. A copy that
is heard before a round is of the round before, like the side's own at that moment, and counts at
once; or it is `current`, of the round that begins, when the other side goes first in it, and counts
when that is over. It counts once: a side that goes on without a new one leaves its u as it is.
"""

from collections.abc import Sequence

import numpy as np

from ...common.compiled import compiled
from ...common.errors import RemoteError
from ...common.types import Array, Float32
from .residuals import squared_distance


class Agreement:
    """One side of a boundary: its multipliers, and what it last heard of the other side.

    Whoever takes a lost worker's place begins with u = 0, while the other side keeps its own.

    Arguments:
        size: elements of the layer's parameters.
        sign: 1 in the lower part, whose copy is Wx; -1 in the upper part.
        averaged: where running averages lie, which are not pulled.
    """

    def __init__(self, size: int, sign: int, averaged: Sequence[slice] = ()) -> None:
        assert sign in (1, -1)
        self._sign, self._averaged = sign, list(averaged)
        self._multipliers = np.zeros(size, np.float32)
        self._other: Float32 | None = None
        self._open = False  # a current copy waits for the end of the round

    def hear(self, other: Array, own: Float32, rho: float, *, current: bool = False) -> None:
        """The other side's copy, (size,) float32, before a round; `own` and `rho` are those of the
        round that is over. `current`: it is of the round that begins.

        Raises:
            RemoteError: it is not of this layer.
        """
        if other.shape != self._multipliers.shape:
            size = self._multipliers.size
            raise RemoteError(f"a copy of shape {other.shape} of a layer of {size} parameters")
        self._other, self._open = np.array(other, np.float32), current
        if not current:
            self._advance(own, rho)

    def add_slope(self, own: Float32, gradient: Float32, rho: float) -> None:
        """Add the slope of the penalty at `own`, (size,), to its gradient; nothing before a copy
        of the other side has come.

        By either side's own copy W, with V the other one, it is ρ (W - V) + sign λ.
        """
        if self._other is None:
            return
        kept = [gradient[span].copy() for span in self._averaged]
        _add_slope(
            own, self._other, self._multipliers, np.float32(self._sign), np.float32(rho), gradient
        )
        for span, values in zip(self._averaged, kept, strict=True):
            gradient[span] = values

    def close(self, own: Float32, rho: float) -> float:
        """End a round; the sum of (Wx - Wy)^2, 0 before a copy has come."""
        if self._other is None:
            return 0.0
        if self._open:
            self._advance(own, rho)
        self._open = False
        return squared_distance(own, self._other)

    def _advance(self, own: Float32, rho: float) -> None:
        """u += Wx - Wy."""
        assert self._other is not None
        _advance(own, self._other, np.float32(self._sign * rho), self._multipliers)


@compiled
def _add_slope(
    own: Float32,
    other: Float32,
    multipliers: Float32,
    sign: np.float32,
    rho: np.float32,
    gradient: Float32,
) -> None:
    for i in range(own.size):
        gradient[i] += rho * (own[i] - other[i]) + sign * multipliers[i]


@compiled
def _advance(own: Float32, other: Float32, rho: np.float32, multipliers: Float32) -> None:
    for i in range(own.size):
        multipliers[i] += rho * (own[i] - other[i])
