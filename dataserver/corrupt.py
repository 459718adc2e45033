"""Samples that cannot be decoded: how a Dataset names them, and how they are left out.

Under `data.corrupt = skip` a sample that is damaged is missing from the batch that it would be in.
It is known from then on by its number, so that each is named once, and the others of its batch
keep their values: every sample draws from a stream of its own.
"""

import numpy as np
from numpy.typing import NDArray

from ..common.types import Arrays
from .dataset import Dataset

Rows = NDArray[np.int64]


class CorruptSamples(Exception):
    """Raised by `Dataset.read` where damaged samples are to be left out: each number among
    `indices` that cannot be decoded, with its name and what is wrong with it."""

    def __init__(self, reasons: dict[int, str]) -> None:
        self.reasons = reasons
        super().__init__("; ".join(reasons.values()))


class Skipped:
    """The damaged samples met so far in one Dataset. Any thread may call it: each step on the
    dictionary or the list is one of CPython that no other thread can divide."""

    def __init__(self) -> None:
        self._reasons: dict[int, str] = {}
        self._fresh: list[str] = []

    def __len__(self) -> int:
        return len(self._reasons)

    def add(self, corrupt: CorruptSamples) -> None:
        """Remember these."""
        for index, reason in corrupt.reasons.items():
            if self._reasons.setdefault(index, reason) is reason:
                self._fresh.append(reason)

    def among(self, indices: Rows) -> NDArray[np.bool_]:
        """Which of `indices`, (n,) int64, are damaged, (n,) bool."""
        return (
            np.isin(indices, list(self._reasons))
            if self._reasons
            else np.zeros(len(indices), np.bool_)
        )

    def take(self) -> list[str]:
        """The names and reasons of those that were met since the last call."""
        fresh = []
        while self._fresh:
            fresh.append(self._fresh.pop())
        return fresh[::-1]


def read_whole(dataset: Dataset, indices: Rows, skipped: Skipped) -> Arrays:
    """The samples of `indices` that are whole, in this order; fewer than asked for, or none."""
    while True:
        left = indices[~skipped.among(indices)]
        if not len(left):
            some = dataset.read(first_whole(dataset, skipped))
            return tuple(array[:0] for array in some)
        try:
            return dataset.read(left)
        except CorruptSamples as corrupt:
            skipped.add(corrupt)


def first_whole(dataset: Dataset, skipped: Skipped) -> Rows:
    """The number of the first sample that can be decoded, (1,) int64.

    Raises:
        CorruptSamples: none can.
    """
    last: CorruptSamples | None = None
    for index in range(len(dataset)):
        found = np.array([index], dtype=np.int64)
        try:
            dataset.read(found)
        except CorruptSamples as corrupt:
            last = corrupt
            skipped.add(corrupt)
        else:
            return found
    assert last is not None
    raise last
