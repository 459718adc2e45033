"""How an epoch is ordered, cut into portions, and turned into arrays: order, read, augment. Pure.

Everything is a function of (seed, epoch, index): a portion that is handed out a second time, by
this data server or another, holds the same values.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..common.errors import UserError
from ..common.types import Array, Arrays
from .augment.mixup import Mixup
from .corrupt import CorruptSamples, Skipped, first_whole
from .dataset import Dataset, Transform
from .events import NO_LABELS
from .randomness import Stream
from .sampling import Indices, Order, Sampling

PORTIONS_PER_REPLICA = 4
"""Few samples give smaller portions, so that work handed out as workers become free stays even."""


@dataclass(frozen=True, slots=True)
class Portions:
    """An epoch of `samples` cut into spans of `size` positions of its order (the last shorter)."""

    samples: int
    size: int

    @property
    def count(self) -> int:
        """The number of portions."""
        return -(-self.samples // self.size)

    def span(self, number: int, first: int = 0) -> tuple[int, int]:
        """The half-open range [begin, end) of positions of portion `number`, counted from 0 at
        position `first`."""
        begin = first + number * self.size
        assert 0 <= first <= begin < self.samples
        return begin, min(begin + self.size, self.samples)


def portions(n: int, batch_size: int, portion_batches: int, replicas: int) -> Portions:
    """Cut n samples into portions of `portion_batches` minibatches, fewer where n is small.

    A portion is a whole number of minibatches, and there are at least four portions a replica (a
    worker, where the net is not cut) as long as there are as many minibatches; only the end of the
    epoch is ragged.
    """
    assert n >= 1
    assert min(batch_size, portion_batches, replicas) >= 1
    batches = -(-n // batch_size)
    fair = batches // (PORTIONS_PER_REPLICA * replicas)
    return Portions(n, batch_size * max(1, min(portion_batches, fair)))


def chosen(
    arrays: Arrays, minibatches: Sequence[int], batch_size: int
) -> tuple[tuple[int, ...], Arrays]:
    """These minibatches of a portion, one behind the other; all if none are named.

    Returns:
        the numbers of those that have samples, empty for a whole portion, and the arrays.
    """
    if not minibatches:
        return (), arrays
    samples = np.arange(len(arrays[0]))
    owner = samples // batch_size
    kept = np.isin(owner, minibatches)
    return tuple(map(int, np.unique(owner[kept]))), tuple(array[kept] for array in arrays)


class Pipeline:
    """A data set, its transforms and its cut into portions. Any thread may call it."""

    def __init__(
        self,
        dataset: Dataset,
        transforms: Sequence[Transform],
        seed: int,
        cut: Portions,
        sampling: Sampling | None = None,
        classes: int = 0,
        labels: Indices | None = None,
        *,
        skips: bool = True,
    ) -> None:
        """`cut` must be of as many samples as `dataset` holds (see `portions`); without
        `sampling` each of them is visited once an epoch. `classes` is for mixup alone. `labels`
        (n,) are those of `dataset`, where they are known; without `skips` it names no sample as
        damaged. Both spare `members` work.

        One sample is sent through, so that a transform that does not fit the data set fails here,
        and what has to be compiled is ready before the first portion is asked for.
        """
        assert cut.samples == len(dataset)
        self.cut = cut
        self._dataset = dataset
        self._transforms = tuple(transforms)
        self._seed, self._classes = seed, classes
        self._labels, self._skips = labels, skips
        # A user's transform may do anything to labels; ours keep them, but for mixup.
        self._relabels = any(isinstance(one, Mixup) or _reference(one) for one in transforms)
        self._sampling = sampling or Sampling(cut.samples)
        # An immutable tuple, replaced whole: two threads may both compute one, and read the same.
        self._orders: tuple[tuple[int, Order], ...] = ((0, self._sampling.order(seed, 0)),)
        self.skipped = Skipped()
        self._first_whole()

    def _first_whole(self) -> None:
        """Send the first sample that is whole through, and keep what none of it looks like."""
        found = first_whole(self._dataset, self.skipped)
        first = self._changed(len(self._transforms), 0, found, None)
        self._nothing: Arrays = tuple(array[:0] for array in first)
        self.sample_shape: tuple[int, ...] = first[0].shape[1:]
        tested = self.at_test(self._dataset.read(found))[0].shape[1:]
        if tested != self.sample_shape:
            raise self._misshapen(
                f"test samples of the shape of training samples, {self.sample_shape}, "
                f"they are {tested}",
                "give it at_test(arrays), which brings test samples to that shape",
            )

    def _misshapen(self, expected: str, fix: str) -> UserError:
        """The error of shapes that differ: ours keep to one, so a user's transform made them."""
        users = filter(None, map(_reference, self._transforms))
        return UserError("data.augment", ", ".join(users), expected, fix)

    def portion(self, epoch: int, number: int, first: int = 0) -> tuple[Indices, Arrays]:
        """The sample numbers (m,) int64 of a portion, and its arrays, m samples each; portions
        are counted from position `first` of the epoch's order.

        Damaged samples that are skipped are missing in both; m may be 0.

        Raises whatever the data set or a transform raises.
        """
        begin, end = self.cut.span(number, first)
        drawn = self._epoch(epoch).span(begin, end)
        return self._whole(epoch, drawn.indices, drawn.occurrences)

    def members(self, epoch: int, begin: int, *, labels: bool) -> tuple[Indices, Array]:
        """The sample numbers (m,) int64 of the portion from position `begin` of an epoch's order,
        as `portion` gives them, and their labels, empty if they are not wanted.

        Inputs are not read where nothing depends on them: a label may by a transform, and by
        damage what a portion holds. Raises what `portion` does, where they are.
        """
        first, end = self.cut.span(0, begin)
        drawn = self._epoch(epoch).span(first, end)
        indices = drawn.indices
        if self._skips or (labels and self._relabels):
            indices, arrays = self._whole(epoch, indices, drawn.occurrences)
            return indices, arrays[1] if labels else NO_LABELS
        if not labels:
            return indices, NO_LABELS
        if self._labels is not None:
            return indices, self._labels[indices]
        return indices, self._dataset.read(indices)[1]

    def samples(self, epoch: int, indices: Indices, occurrences: Indices | None = None) -> Arrays:
        """These samples, (m,) int64, as `epoch` sees them at these of their draws, the first;
        without those that are skipped."""
        return self._whole(epoch, indices, occurrences)[1]

    def _whole(
        self, epoch: int, indices: Indices, occurrences: Indices | None
    ) -> tuple[Indices, Arrays]:
        """These samples without the damaged ones, and their numbers."""
        while True:
            kept = ~self.skipped.among(indices)
            indices = indices[kept]
            occurrences = None if occurrences is None else occurrences[kept]
            if not len(indices):
                return indices, self._nothing
            try:
                arrays = self._changed(len(self._transforms), epoch, indices, occurrences)
            except CorruptSamples as corrupt:
                self.skipped.add(corrupt)
                continue
            if arrays[0].shape[1:] != self.sample_shape:
                raise self._misshapen(
                    f"samples of one shape, {self.sample_shape}, in epoch {epoch} sample "
                    f"{indices[0]} and those beside it are {arrays[0].shape[1:]}",
                    "return one shape whatever is drawn",
                )
            return indices, arrays

    def _changed(
        self, count: int, epoch: int, indices: Indices, occurrences: Indices | None
    ) -> Arrays:
        """These samples after the first `count` transforms."""
        arrays = self._dataset.read(indices)
        random = Stream.of(self._seed, epoch, indices, occurrences)
        for ordinal, transform in enumerate(self._transforms[:count]):
            own = random.child(ordinal)
            if isinstance(transform, Mixup):
                partners = transform.partners(own, len(self._dataset))
                # A damaged partner was found before: the sample is mixed with itself.
                partners = np.where(self.skipped.among(partners), indices, partners)
                others = self._changed(ordinal, epoch, partners, None)
                arrays = transform.mix(arrays, others, own, self._classes)
            else:
                arrays = transform(arrays, own)
        return arrays

    def drawn(self, epoch: int) -> Indices:
        """The sample numbers (n,) int64 that an epoch visits, in order; some may be damaged."""
        return self._epoch(epoch).indices

    def at_test(self, arrays: Arrays) -> Arrays:
        """Test samples as they are handed out: unaugmented, but of the shape of the others.

        A transform that changes shapes has a method `at_test(arrays) -> arrays` for them.
        """
        for transform in self._transforms:
            fixed: Callable[[Arrays], Arrays] | None = getattr(transform, "at_test", None)
            arrays = arrays if fixed is None else fixed(arrays)
        return arrays

    def _epoch(self, epoch: int) -> Order:
        """The order of an epoch; two are kept, of an epoch that ends and of the next one."""
        orders = self._orders
        for kept, order in orders:
            if kept == epoch:
                return order
        order = self._sampling.order(self._seed, epoch)
        self._orders = ((epoch, order), orders[0])
        return order


def _reference(transform: Transform) -> str:
    """What the job file calls a user's transform; empty for one of ours."""
    return str(getattr(transform, "reference", ""))
