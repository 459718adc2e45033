"""Consensus between whole nets (coupling `replicas`): what one worker keeps of it. Arrays only.

Global variable consensus by ADMM (Boyd et al. 2011, section 7.1, scaled form). Worker k has
parameters w_k and a scaled multiplier u_k of its own, and knows the consensus z:

    minimise Σ_k f_k(w_k)  subject to  w_k = z
    w_k:  some steps down the gradient of f_k(w) + ρ/2 ‖w - z + u_k‖²
    z   = mean_k(w_k + u_k)                          the parameter servers' update
    u_k = u_k + w_k - z

A round may close without some (the partial barrier of Zhang and Kwok 2014, "Asynchronous
distributed ADMM for consensus optimization", section 3): z is the mean over those that were in
time, and only their u_k take the step, so that the multipliers that a round was made with add up to
zero when it is over. That of one whose answer was dropped stays: it would move away from z in each
such round, and take z along when it is in time again.

Where Boyd's first step is exact, here its own optimizer makes a few steps and goes on from where it
is in the next round: w_k never becomes z. Averaged state (running statistics) has no multiplier and
no penalty: it becomes the mean of all, as in mode `local`.

The worker's loop and its lanes take turns with an object: lanes read it while they compute, the
loop changes it between two rounds, when none does.
"""

from collections.abc import Iterator, Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np

from ...common.compiled import compiled, compiled_exactly
from ...common.types import Float32
from .penalty import Penalty


class Residuals(NamedTuple):
    """Of one round, root mean squares over the elements that are trained (Boyd et al. 2011, section
    3.3): primal, of w - z; dual, ρ times that of how far z has moved; and the ρ of that round."""

    primal: float
    dual: float
    rho: float


class Consensus:
    """w, u and z of one worker: float32 (n,) each, changed in place.

    z is what the servers said last; all begins as zeros, until `take`.

    Arguments:
        size: n.
        penalty: ρ and its schedule; its residuals do not count, lest each worker come to a ρ of
            its own. It goes on with each round that the servers have closed, with this worker or
            without, so that it is the same for all.
        averaged: where averaged state lies, ascending.
    """

    def __init__(self, size: int, penalty: Penalty, averaged: Sequence[slice] = ()) -> None:
        self.w, self.u, self.z = np.zeros((3, size), np.float32)
        self._penalty, self._closed = penalty, 0
        self._averaged = list(averaged)
        self._trained = list(_between(averaged, size))
        self._elements = sum(span.stop - span.start for span in self._trained)
        self._left_out: list[slice] = []
        self._takes_part = False

    @property
    def rho(self) -> float:
        """ρ of this round."""
        return self._penalty.rho

    @property
    def takes_part(self) -> bool:
        """Whether its steps have been pushed, and went on from there."""
        return self._takes_part

    def penalty_gradient(self, gradient: Float32, w: Float32) -> None:
        """Add ρ (w - z + u) to a gradient (n,) at `w` (n,): this one, or a lane's copy of it."""
        rho = np.float32(self.rho)
        for span in self._trained:
            _add_penalty(gradient[span], w[span], self.z[span], self.u[span], rho)

    def outgoing(self, out: Float32) -> None:
        """Write z - (w + u) to `out` (n,): the mean of these over workers, taken off z, leaves the
        mean of w + u."""
        self._takes_part = True
        _outgoing(self.w, self.u, self.z, out)

    def leave_out(self, begin: int, end: int) -> None:
        """The servers have dropped the elements [begin, end) of what it sent: they came late."""
        self._left_out.append(slice(begin, end))

    def answered(self, z: Float32, closed: int) -> Residuals:
        """A round is over, and this (n,) is what came of it; the servers have closed so many."""
        primal = dual = 0.0
        for span in self._trained:
            apart, moved = _squares(self.w[span], z[span], self.z[span])
            primal, dual = primal + apart, dual + moved
        for span in _between(self._untouched(), self.u.size):
            _step_multiplier(self.w[span], self.u[span], z[span])
        self._left_out.clear()
        count, rho = max(self._elements, 1), self.rho
        self.take(z, closed)
        return Residuals(sqrt(primal / count), rho * sqrt(dual / count), rho)

    def _untouched(self) -> list[slice]:
        return sorted([*self._averaged, *self._left_out], key=lambda span: span.start)

    def take(self, z: Float32, closed: int) -> None:
        """This (n,) is z after so many rounds, though none of this worker may have ended with it:
        others have gone on while it had no data. One that takes no part yet begins there, without
        a multiplier."""
        self._follow(closed)
        np.copyto(self.z, z)
        if not self._takes_part:
            np.copyto(self.w, z)
            self.u[:] = 0
        for span in self._averaged:
            self.w[span] = z[span]

    def begin_anew(self) -> None:
        """What it has computed is worth nothing: w becomes z with the next `take`."""
        self._takes_part = False
        self._left_out.clear()

    def _follow(self, closed: int) -> None:
        """ρ of the round that is open after so many; u changes with it, so that the multiplier ρu
        stays as it is (Boyd et al. 2011, section 3.4.1)."""
        before = self.rho
        for _ in range(self._closed, closed):
            self._penalty.advance(0.0, 0.0)
        self._closed = max(self._closed, closed)
        if self.rho != before:
            np.multiply(self.u, np.float32(before / self.rho), out=self.u)


def _between(spans: Sequence[slice], size: int) -> Iterator[slice]:
    """What no slice of a vector covers, none empty; they ascend, and may overlap."""
    begin = 0
    for span in (*spans, slice(size, size)):
        if begin < span.start:
            yield slice(begin, span.start)
        begin = max(begin, span.stop)


@compiled_exactly
def _add_penalty(gradient: Float32, w: Float32, z: Float32, u: Float32, rho: np.float32) -> None:
    for i in range(gradient.size):
        gradient[i] += rho * ((w[i] - z[i]) + u[i])


@compiled_exactly
def _outgoing(w: Float32, u: Float32, z: Float32, out: Float32) -> None:
    for i in range(out.size):
        out[i] = z[i] - (w[i] + u[i])


@compiled_exactly
def _step_multiplier(w: Float32, u: Float32, z: Float32) -> None:
    for i in range(w.size):
        u[i] += w[i] - z[i]


@compiled
def _squares(w: Float32, fresh: Float32, z: Float32) -> tuple[float, float]:
    """The sums of squares of w - fresh and fresh - z, in float64."""
    apart = moved = 0.0
    for i in range(w.size):
        one, other = np.float64(w[i] - fresh[i]), np.float64(fresh[i] - z[i])
        apart += one * one
        moved += other * other
    return apart, moved
