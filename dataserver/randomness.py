"""Randomness as a function of (seed, purpose, epoch, index) alone: no hidden state, no generator.

A key is a 64-bit word. Child w of key k is output w of the SplitMix64 generator whose state is k,

    child(k, w) = mix(k + (w + 1) * gamma)    modulo 2^64

(Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, figure 1, with
the finaliser `mix` of Stafford's variant 13, as in Vigna's splitmix64.c). Being our own integer
arithmetic, it gives the same bits on every machine and with every version of NumPy.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ..common.types import Float32

Keys = NDArray[np.uint64]

GAMMA = np.uint64(0x9E3779B97F4A7C15)


class Purpose(IntEnum):
    """What a key is for: streams of different purposes share nothing."""

    ORDER = 0
    AUGMENT = 1
    HOLD_OUT = 2
    DRAW = 3
    AGAIN = 4


def mix(words: Keys) -> Keys:
    """Stafford's variant 13 of the MurmurHash3 finaliser: a bijection of 64-bit words."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def child(keys: Keys, words: Keys) -> Keys:
    """The keys below `keys` (n,) for `words` (n,); either may hold one element for all."""
    return mix(keys + (words + np.uint64(1)) * GAMMA)


def sample_keys(seed: int, purpose: Purpose, epoch: int, indices: NDArray[np.int64]) -> Keys:
    """One key per sample, (n,) uint64: the same for an index whatever stands beside it."""
    keys = child(child(_word(seed), _word(purpose)), _word(epoch))
    return child(keys, indices.astype(np.uint64))


def _word(number: int) -> Keys:
    """A Python integer modulo 2^64, as an array of one (NumPy's scalars warn when they wrap)."""
    return np.array([number % 2**64], dtype=np.uint64)


@dataclass(frozen=True, eq=False)
class Stream:
    """Independent random streams, one for each of n samples. Immutable: any thread may draw.

    A draw is named by its number, not by when it happens: the same number, the same values.
    """

    keys: Keys

    @classmethod
    def of(
        cls,
        seed: int,
        epoch: int,
        indices: NDArray[np.int64],
        occurrences: NDArray[np.int64] | None = None,
    ) -> Self:
        """The augmentation streams of the samples `indices`, (n,) int64, in one epoch.

        Arguments:
            occurrences: (n,) int64, where samples are drawn several times: which draw of its sample
                each is, counted from 0. The first one has the stream of a sample drawn once.
        """
        keys = sample_keys(seed, Purpose.AUGMENT, epoch, indices)
        if occurrences is not None and occurrences.any():
            again = child(
                sample_keys(seed, Purpose.AGAIN, epoch, indices), occurrences.astype(np.uint64)
            )
            keys = np.where(occurrences > 0, again, keys)
        return cls(keys)

    def __len__(self) -> int:
        return len(self.keys)

    def child(self, ordinal: int) -> Self:
        """Streams of their own for part `ordinal` (>= 0) of a chain of transforms."""
        return type(self)(child(self.keys, _word(2 * ordinal + 1)))

    def uniform(self, draw: int, low: float = 0.0, high: float = 1.0) -> Float32:
        """(n,) float32, uniform over [low, high) on a grid of 2^24 steps."""
        unit = (self._bits(draw) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
        values: Float32 = np.float32(low) + unit * np.float32(high - low)
        # The last step may round up to `high` itself.
        last = np.nextafter(np.float32(high), np.float32(low))
        return np.minimum(values, last, out=values)

    def normal(self, draw: int, mean: float = 0.0, std: float = 1.0) -> Float32:
        """(n,) float32, normal by Box and Muller (1958); at most 6.66 deviations from the mean."""
        bits = self._bits(draw)
        radius = ((bits >> np.uint64(32)).astype(np.float64) + 1.0) * 2.0**-32
        angle = (bits & np.uint64(0xFFFFFFFF)).astype(np.float64) * 2.0**-32
        unit = np.sqrt(-2.0 * np.log(radius)) * np.cos(2.0 * np.pi * angle)
        return (mean + std * unit).astype(np.float32)

    def _bits(self, draw: int) -> Keys:
        """Even words are draws and odd ones children, so that no draw is a child's key."""
        return child(self.keys, _word(2 * draw))
