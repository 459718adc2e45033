"""Which samples an epoch visits, how often, and in which order. Pure.

An epoch has as many draws as there are samples, whatever `data.sampling` says. Where classes are
drawn by weight, chance decides as little as possible: a class is drawn floor or ceil of its share
of the n draws (systematic sampling, Madow 1949: one random offset, steps of 1 along the row of
shares, so that each class has exactly its share on average), and of a class no sample is drawn
twice more often than another. Everything is a function of (seed, epoch).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..common.data_sections import DataSection
from ..common.errors import UserError
from .randomness import Purpose, sample_keys

Indices = NDArray[np.int64]


def epoch_order(seed: int, epoch: int, n: int) -> Indices:
    """A permutation of 0..n-1, (n,) int64: the order in which an epoch visits its samples.

    Sorting by random keys is a uniform shuffle, and the same one with every version of NumPy.
    """
    return _shuffled(seed, Purpose.ORDER, epoch, n)


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """An epoch's draws in order: sample numbers (n,) int64, and which of a sample's draws each is,
    (n,) int64 counted from 0; None where no sample is drawn twice."""

    indices: Indices
    occurrences: Indices | None = None

    def span(self, begin: int, end: int) -> "Order":
        """The draws at positions [begin, end)."""
        again = self.occurrences
        return Order(self.indices[begin:end], None if again is None else again[begin:end])


@dataclass(frozen=True, slots=True, eq=False)
class Sampling:
    """How epochs are drawn: each of `n` samples once, or classes by `shares`.

    `labels` are (n,) int64, `shares` (classes,) float64, how often each class is drawn, adding up
    to 1, and 0 for a class without samples. Immutable; any thread may call it.
    """

    n: int
    labels: Indices | None = None
    shares: NDArray[np.float64] | None = None

    def order(self, seed: int, epoch: int) -> Order:
        """The draws of an epoch."""
        if self.labels is None or self.shares is None:
            return Order(epoch_order(seed, epoch, self.n))
        return drawn_order(seed, epoch, self.labels, self.shares)


def make_sampling(data: DataSection, n: int, labels: Indices | None) -> Sampling:
    """What `data.sampling` and `data.weights` say of `n` training samples with these labels, (n,)
    int64; None, where they are not known, is for `once` alone.

    Raises:
        UserError: weights that are no `CLASS:WEIGHT`, name a class twice or one without samples,
            are all zero, or are given where nothing is weighted.
    """
    if data.sampling != "weighted" and data.weights:
        fix = "write data.sampling = weighted, or leave the weights out"
        expected = f"none where data.sampling = {data.sampling}"
        raise UserError("data.weights", ",".join(data.weights), expected, fix)
    if data.sampling == "once":
        return Sampling(n)
    assert labels is not None, "the source knows of data.sampling"
    sizes = np.bincount(labels)
    weights = (sizes > 0).astype(np.float64)
    if data.sampling == "weighted":
        _weigh(weights, data.weights)
    return Sampling(n, labels, weights / weights.sum())


def _weigh(weights: NDArray[np.float64], texts: Sequence[str]) -> None:
    """Write the weights that the texts name; those of classes with samples are 1 before."""
    present = np.flatnonzero(weights)
    seen: set[int] = set()
    for text in texts:
        number, weight = _parse(text)
        if number not in present:
            classes = f"{present[0]} to {present[-1]}"
            expected = f"classes that training samples have, {classes}, class {number} has none"
            raise UserError("data.weights", text, expected, "leave it out")
        if number in seen:
            expected = f"a class once, class {number} comes twice"
            raise UserError("data.weights", text, expected, "leave one of them out")
        seen.add(number)
        weights[number] = weight
    if not texts or not weights.any():
        found = "all are zero" if texts else "there is none"
        fix = "write for example 3:2.5, to draw class 3 that much more often than the others"
        expected = f"at least one CLASS:WEIGHT above 0, {found}"
        raise UserError("data.weights", ",".join(texts), expected, fix)
    with np.errstate(over="ignore"):
        total = weights.sum()
    if not np.isfinite(total):
        raise UserError(
            "data.weights", ",".join(texts), "a finite sum", "write smaller weights: ratios count"
        )


def _parse(text: str) -> tuple[int, float]:
    """A class number and its weight."""
    name, _, amount = text.partition(":")
    try:
        weight = float(amount)
    except ValueError:
        weight = math.nan
    digits = name.isascii() and name.isdigit() and len(name) < 10
    if not (digits and math.isfinite(weight) and weight >= 0):
        expected = "CLASS:WEIGHT, a class number and a number from 0"
        raise UserError("data.weights", text, expected, "write for example 3:2.5")
    return int(name), weight


def drawn_order(seed: int, epoch: int, labels: Indices, shares: NDArray[np.float64]) -> Order:
    """n draws, shuffled, in which each class has its share.

    Arguments:
        labels: (n,) int64, each below the number of classes.
        shares: (classes,) float64 of sum 1, 0 for a class without samples.
    """
    n = len(labels)
    sizes = np.bincount(labels, minlength=len(shares))
    wanted = class_draws(seed, epoch, n, shares)
    shuffled = _shuffled(seed, Purpose.DRAW, epoch, n)
    # Of each class in random order: the first ones are those drawn once more than the rest.
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    of = labels[by_class]
    place = np.arange(n) - (np.cumsum(sizes) - sizes)[of]
    times = wanted[of] // sizes[of] + (place < wanted[of] % sizes[of])
    drawn = np.repeat(by_class, times)
    again = np.arange(n) - np.repeat(np.cumsum(times) - times, times)
    mixed = epoch_order(seed, epoch, n)
    return Order(drawn[mixed], again[mixed])


def class_draws(seed: int, epoch: int, n: int, shares: NDArray[np.float64]) -> Indices:
    """How often each class is drawn in an epoch, (classes,) int64 that add up to n: floor or ceil
    of n times its share, and exactly that on average over epochs."""
    # A key that no sample has: they are numbered from 0 to n - 1.
    key = sample_keys(seed, Purpose.DRAW, epoch, np.array([n], dtype=np.int64))
    offset = float(key[0] >> np.uint64(11)) * 2.0**-53
    ends = np.cumsum(shares) * (n / shares.sum())
    # Rounding must neither lose the last draw nor give it to a class without samples.
    ends[np.flatnonzero(shares)[-1] :] = n
    draws: Indices = np.diff(np.floor(ends + offset), prepend=0.0).astype(np.int64)
    return draws


def _shuffled(seed: int, purpose: Purpose, epoch: int, n: int) -> Indices:
    keys = sample_keys(seed, purpose, epoch, np.arange(n, dtype=np.int64))
    return np.argsort(keys, kind="stable").astype(np.int64, copy=False)
