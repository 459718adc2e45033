"""What a part knows of the samples of the portions that reach it, and what it has to ask. Pure."""

from collections.abc import Collection

import numpy as np

from ...common.messages import AskSamples, Samples
from .boundary import Key
from .encoding import need
from .events import Known

KEPT = 4
"""Portions remembered beyond those in use: a portion comes round by round in coupling backprop."""


class Knowing:
    """Questions to data servers and their answers.

    Arguments:
        labels: whether the part needs labels.
    """

    def __init__(self, labels: bool) -> None:
        self._labels = labels
        self._asked: dict[Key, bool] = {}  # whether the question has been handed out
        self._answers: dict[Key, Known] = {}

    def want(self, key: Key) -> None:
        """The samples of a portion will be needed."""
        if key not in self._answers:
            self._asked.setdefault(key, False)

    def ask(self) -> list[AskSamples]:
        """Questions that have not been handed out."""
        new = [key for key, asked in self._asked.items() if not asked]
        self._asked |= dict.fromkeys(new, True)
        return [AskSamples(epoch, begin, self._labels) for epoch, begin in new]

    def forget_asked(self, key: Key) -> None:
        """A question will not be answered."""
        if key in self._asked:
            self._asked[key] = False

    def know(self, key: Key, samples: Samples, in_use: Collection[Key]) -> None:
        """An answer has come; those of portions that are not in use go, the oldest first.

        Raises:
            Misfit: it is no answer. Nothing is kept of it.
        """
        indices, labels = samples.indices, samples.labels
        fits = indices.ndim == 1 and indices.dtype == np.int64
        need(fits, "indices", f"{indices.dtype} {indices.shape}", "int64 (n,)")
        wanted = len(indices) if self._labels else 0
        need(len(labels) == wanted, "labels", labels.shape, f"those of {wanted} samples")
        if self._asked.pop(key, None) is None:
            return
        spare = [old for old in self._answers if old not in in_use]
        for old in spare[: max(0, len(spare) - KEPT + 1)]:
            del self._answers[old]
        self._answers[key] = Known(indices, labels)

    def size(self, key: Key) -> int:
        """Samples of a portion that is known."""
        return len(self._answers[key].indices)

    def rows(self, key: Key, first: int, count: int) -> Known | None:
        """What is known of `count` samples of a portion from the `first` on, None if nothing yet.

        Raises:
            Misfit: the portion has not that many.
        """
        known = self._answers.get(key)
        if known is None:
            return None
        end = first + count
        need(end <= len(known.indices), "rows", f"{first} to {end}", f"up to {len(known.indices)}")
        return Known(known.indices[first:end], known.labels[first:end])
