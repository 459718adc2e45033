"""A few samples as a worker would be sent them, beside how they lie in the source. No process.

They go through the same store as in a data server: what is shown is what is trained on.
"""

from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from ..common.job import Job
from ..common.types import Arrays
from .corrupt import CorruptSamples
from .dataset import Dataset
from .process import Store
from .sampling import Indices, epoch_order
from .sources.samples import Origin, Part


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """m samples, numbered `indices` (m,) int64 among the `total` of a part of `source`.

    `originals` are inputs and labels as they are read, or of test samples as they are tested on;
    `versions` the same after the transforms `entries` in each of `epochs`. Labels are (m,) int64,
    or (m, classes) float32 where they are mixed. m is at least 1.
    """

    source: str
    part: Part
    total: int
    indices: Indices
    originals: Arrays
    entries: list[str]
    epochs: list[int] = field(default_factory=list)
    versions: list[Arrays] = field(default_factory=list)


def preview(job: Job, epoch: int, count: int, versions: int) -> Preview:
    """The first `count` training samples of `epoch`, as that epoch and the following ones see them.

    Damaged samples that are skipped have no place in it. Raises what `Store` does.
    """
    store = _open(job)
    train = store.split.train
    indices = _first_whole(train, store.pipeline.drawn(epoch), count)
    entries = _entries(job)
    epochs = list(range(epoch, epoch + versions)) if entries else []
    changed = [store.pipeline.samples(one, indices) for one in epochs]
    originals = train.read(indices)
    source = job.data.source
    return Preview(source, "train", len(train), indices, originals, entries, epochs, changed)


def preview_test(job: Job, count: int) -> Preview:
    """`count` samples from all over the test part, as they are tested on. Raises what `Store`
    does."""
    store = _open(job)
    test, data = store.split.test, job.data
    named = Origin("data.test", data.test) if data.test else Origin("data.source", data.source)
    indices = _first_whole(test, epoch_order(job.job.seed, 0, len(test)), count)
    if not len(indices):
        fix = "replace them, or hold out others with another job.seed"
        raise named.error("a test sample that is not damaged", fix)
    tested = store.pipeline.at_test(test.read(indices))
    return Preview(named.text, "test", len(test), indices, tested, _entries(job))


def _open(job: Job) -> Store:
    try:
        return Store(job)
    except CorruptSamples as all_damaged:
        expected = f"a training sample that is not damaged, the last is {all_damaged}"
        raise Origin("data.source", job.data.source).error(expected, "replace them") from None


def _entries(job: Job) -> list[str]:
    """`data.augment` without the normalisation, which the workers do."""
    return [entry for entry in job.data.augment if not entry.startswith("normalise:")]


def _first_whole(dataset: Dataset, order: Indices, count: int) -> Indices:
    """The first `count` of `order` that can be decoded, each once, or fewer."""
    found: list[int] = []
    for index in dict.fromkeys(order.tolist()):
        with suppress(CorruptSamples):
            dataset.read(np.array([index], np.int64))
            found.append(index)
        if len(found) == count:
            break
    return np.array(found, np.int64)
