"""Consensus on what passes a cut: the formulas of ADMM.md, section A, on flat float32 arrays. Pure.

For every sample i the lower part's output x_i is to equal y_i, a free variable of the upper part:

    L = Σ_i [ loss(f2(y_i; W2), t_i) + ρ/2 ‖x_i - y_i + u_i‖² - ρ/2 ‖u_i‖² ].

The upper part goes along gradients in W2 and y, with G_i = d loss_i / d y_i of each sample alone:

    y ← x + u at first;  y ← y - [G + ρ (y - x - u)] / (ρ + c) at each pass             (A.2)
    u ← γ (u + x - y);  T = y - u                                                       (A.3)

and the lower one along those of ρ/2 ‖f1(d_i; W1) - T_i‖², the mean over a minibatch    (A.4). With
γ = 0 this is the quadratic penalty method (M. Carreira-Perpiñán, W. Wang, "Distributed optimization
of deeply nested systems", AISTATS 2014). A part in the middle has both: the loss in A.2 is its own
distance ρ/2 ‖f(y) - T‖², and the step is 1 / (ρ (1 + c_m)). Its γ is 0 by itself, and what it sends
up is f of the real x. With the γ of the top part its y begins where the last sweep's error put it,
beyond x, and a few steps do not bring it back: nets of three and four parts lost 1 to 1.5 points
(12,000 images of MNIST, four sweeps, c = 0.1: 93.7 instead of 95.2 with four). c = 0.5 instead of
0.1, steps of y a fifth as long, is as good or better in all that was tried on held-out images: two
parts 96.3 for 96.0, three 95.1 for 93.7, sigmoids 95.0 for 93.4, momentum 96.1 for 94.3.

Multipliers are kept as λ = ρ u: when ρ changes u is λ / ρ by itself, as Boyd et al. 2011, section
3.4.1, ask for.
"""

import numpy as np

from ...common.compiled import compiled
from ...common.errors import RemoteError
from ...common.partition_sections import AdmmSection
from ...common.types import Array, Float32
from ..nn.native.program import readable
from .residuals import rms


def weight_of_distance(admm: AdmmSection, rho: float, below_top: int) -> float:
    """What the squared distance to the targets is multiplied by in a lower part, for ρ in A.4.

    A.4 as it stands has gradients of ρ (1 + γ) / (ρ + c) times those of backprop: with plain SGD
    each part would need a rate of its own. Divided by that, the first gradient after one pass is
    backprop's; one pass more adds another. Below a part in the middle it is divided by
    (1 + γ) / (1 + c_m) for each such part between here and the top. The minimiser is the same, and
    Adam does not see a constant factor. At γ = 0, with one pass over one minibatch, it makes

        (ρ + c) (x - T) = G, the gradient that backprop would have sent.

    Arguments:
        below_top: how many cuts lie between this part and the top one, 1 or more.
    """
    middle = (1 + admm.c_middle) / (1 + admm.gamma_middle)
    return (rho + admm.c) / (1 + admm.gamma) * float(middle ** (below_top - 1))


class Multipliers:
    """λ = ρ u of every sample of the data set, by its number.

    float32 (samples, width), made when first needed, where γ > 0: without, all are zero and none
    are kept. Pages that no sample has touched take no memory.
    """

    def __init__(self, samples: int, gamma: float) -> None:
        self._samples, self._kept = samples, gamma > 0
        self._rows: Float32 = np.empty((0, 0), np.float32)

    def take(self, indices: Array, width: int) -> Float32:
        """Those of samples (n,), as a flat array (n * width,) of the caller's own.

        Raises:
            RemoteError: a number is not that of a sample.
        """
        count = len(indices)
        if not self._kept:
            return np.zeros(count * width, np.float32)
        if count and (indices.min() < 0 or indices.max() >= self._samples):
            least, most = int(indices.min()), int(indices.max())
            raise RemoteError(f"samples {least} to {most} of a data set of {self._samples}")
        if not self._rows.size:
            self._rows = np.zeros((self._samples, width), np.float32)
        return self._rows[indices].reshape(-1)

    def put(self, indices: Array, values: Float32) -> None:
        """Keep new ones, flat (n * width,); of a sample that comes twice the last."""
        if self._kept and len(indices):
            self._rows[indices] = values.reshape(len(indices), -1)


class Free:
    """y of one round: inputs that the part may change, n samples of `width` numbers."""

    def __init__(
        self, inputs: Array, indices: Array, multipliers: Multipliers, gamma: float, rho: float
    ) -> None:
        """`inputs` are x, (n, ...); `indices` (n,) says whose they are; `rho` holds for the round.

        Raises:
            RemoteError: a number is not that of a sample.
        """
        self._shape, self._indices, self._kept = inputs.shape, indices, multipliers
        self._width = inputs.size // len(inputs)
        self._x = readable(inputs, np.float32).reshape(-1)
        self._gamma, self._rho = np.float32(gamma), np.float32(rho)
        self._inverse = np.float32(1 / rho)
        self._multipliers = multipliers.take(indices, self._width)
        self._y = np.empty_like(self._x)
        begin(self._x, self._multipliers, self._inverse, self._y)

    def of(self, rows: slice) -> Float32:
        """y of some samples, in the shape of the inputs."""
        return self._y.reshape(self._shape)[rows]

    def step(self, rows: slice, slopes: Float32, gain: float, damping: float) -> None:
        """y -= [gain slopes + ρ (y - x - u)] / (ρ + damping) of some samples. (A.2)

        Arguments:
            slopes: d(what the part minimises) / dy, whatever it was divided by, flat.
            gain: makes them G: for a mean over n samples n.
            damping: c in the top part, ρ c_m in one in the middle.
        """
        span = slice(rows.start * self._width, rows.stop * self._width)
        y, x, multipliers = self._y[span], self._x[span], self._multipliers[span]
        rate = np.float32(1 / (float(self._rho) + damping))
        step(y, x, multipliers, slopes, np.float32(gain), self._rho, rate)

    def finish(self) -> tuple[Float32, float]:
        """New multipliers; T, (n, ...), and the primal residual. (A.3)"""
        targets = np.empty_like(self._y)
        numbers = self._gamma, self._rho, self._inverse
        squares = finish(self._x, self._y, self._multipliers, *numbers, targets)
        self._kept.put(self._indices, self._multipliers)
        return targets.reshape(self._shape), rms(squares, targets.size)


@compiled
def begin(x: Float32, multipliers: Float32, inverse: np.float32, y: Float32) -> None:
    """y = x + u; `inverse` is 1 / ρ."""
    for i in range(x.size):
        y[i] = x[i] + multipliers[i] * inverse


@compiled
def step(
    y: Float32,
    x: Float32,
    multipliers: Float32,
    slopes: Float32,
    gain: np.float32,
    rho: np.float32,
    rate: np.float32,
) -> None:
    """y -= rate [gain slopes + ρ (y - x - u)], in place."""
    for i in range(y.size):
        y[i] -= rate * (gain * slopes[i] + rho * (y[i] - x[i]) - multipliers[i])


@compiled
def finish(
    x: Float32,
    y: Float32,
    multipliers: Float32,
    gamma: np.float32,
    rho: np.float32,
    inverse: np.float32,
    targets: Float32,
) -> float:
    """New multipliers in place, T into `targets`; the sum of (x - y)^2."""
    squares = 0.0
    for i in range(x.size):
        difference = x[i] - y[i]
        squares += difference * difference
        multipliers[i] = gamma * (multipliers[i] + rho * difference)
        targets[i] = y[i] - multipliers[i] * inverse
    return squares


@compiled
def pull(
    outputs: Float32, targets: Float32, sent: Float32, weight: np.float32, slopes: Float32
) -> tuple[float, float]:
    """slopes = weight (outputs - T); the sums of (outputs - T)^2 and (outputs - sent)^2. (A.4)"""
    left, moved = 0.0, 0.0
    for i in range(outputs.size):
        difference, motion = outputs[i] - targets[i], outputs[i] - sent[i]
        slopes[i] = weight * difference
        left += difference * difference
        moved += motion * motion
    return left, moved
