"""Mixup (Zhang, Cisse, Dauphin, Lopez-Paz, "mixup: Beyond empirical risk minimization", ICLR 2018).

Sample i becomes λ x_i + (1 - λ) x_j, and its label the row λ y_i + (1 - λ) y_j of probabilities,
with λ ~ Beta(α, α) and a partner j that is drawn from the whole training set. The paper pairs the
samples of a minibatch; here a pair must not depend on what else is in the batch, so that a sample
that is served again is the same.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...common.errors import UserError
from ...common.types import Arrays, Float32
from ..dataset import Transform
from ..randomness import Stream


@dataclass(frozen=True, slots=True)
class Mixup:
    """Mixes each sample with a partner, which `Pipeline` reads and changes likewise."""

    alpha: float

    def __call__(self, arrays: Arrays, random: Stream) -> Arrays:
        """Never called: a mixture needs partners (see `Pipeline`)."""
        raise AssertionError("the pipeline mixes")

    def partners(self, random: Stream, samples: int) -> NDArray[np.int64]:
        """(n,) int64, a number in [0, samples) for each stream."""
        drawn = np.floor(random.uniform(0).astype(np.float64) * samples).astype(np.int64)
        # A uniform draw has 24 bits; what is below them comes from a second one.
        fine = np.floor(random.uniform(1).astype(np.float64) * samples * 2.0**-24)
        return np.minimum(drawn + fine.astype(np.int64), samples - 1)

    def shares(self, random: Stream) -> Float32:
        """(n,) float32, λ ~ Beta(α, α), by the inverse of its distribution function."""
        # scipy.special takes a while to import, which only this transform should cost.
        from scipy.special import betaincinv

        uniform = random.uniform(2).astype(np.float64)
        return np.asarray(betaincinv(self.alpha, self.alpha, uniform), np.float32)

    def mix(self, own: Arrays, others: Arrays, random: Stream, classes: int) -> Arrays:
        """The mixtures: inputs of the dtype of `own` (uint8 rounded to the nearest), labels
        (n, classes) float32, whose rows sum to 1; further arrays are the samples' own."""
        # numba is slow to import, and a role that only reads the settings has no use for it.
        from .blend import blend

        shares = self.shares(random)
        inputs = blend(own[0], others[0], shares)
        rows = np.arange(len(shares))
        labels = np.zeros((len(shares), classes), np.float32)
        np.add.at(labels, (rows, own[1]), shares)
        np.add.at(labels, (rows, others[1]), np.float32(1) - shares)
        return (inputs, labels, *own[2:])


def check_mixups(transforms: list[Transform]) -> bool:
    """Whether there is a mixup among `transforms`.

    Raises:
        UserError: there are several: the labels of one are not what the next could mix.
    """
    count = sum(isinstance(transform, Mixup) for transform in transforms)
    if count > 1:
        raise UserError("data.augment", "mixup", f"it once, and not {count} times", "leave one")
    return count == 1
