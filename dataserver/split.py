"""How samples become a training and a test set, and how many classes they have. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..common.errors import UserError
from .dataset import Dataset
from .randomness import Purpose, sample_keys
from .sources.samples import Found

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Split:
    """What is trained on and what is tested on: labels lie in [0, classes) in both.

    `sample_shape` is the shape of one input, such as (28, 28); `labels` (n,) int64 are those of
    `train`, None where a user's data set tells only how many classes there are.
    """

    train: Dataset
    test: Dataset
    classes: int
    sample_shape: tuple[int, ...]
    labels: Rows | None


def make_split(train: Found, test: Found | None, seed: int, held_out: float) -> Split:
    """`train` against `test`, or where there is none, against a fraction of `train`.

    Raises:
        UserError: labels that cannot be class numbers, a test set that does not fit the training
            set, `held_out` not within (0, 1), too few samples to hold any out.
    """
    classes = count_classes(train)
    if test is None:
        train, test = _hold_out(train, seed, held_out)
    else:
        _check_fit(train, test, classes)
    return Split(
        train.dataset(),
        test.dataset(),
        classes,
        train.shape,
        train.labels,
    )


def count_classes(train: Found) -> int:
    """What the source says, or else the largest label plus one.

    Classes without any sample are allowed (letters are often numbered from 1), but where most are,
    the largest label is damage: a 255 among ten digits would silently make a net of 256 classes.
    """
    if train.classes is not None:
        return train.classes
    labels = train.labels
    assert labels is not None
    classes, distinct = int(labels.max()) + 1, len(np.unique(labels))
    if classes > 2 * distinct:
        index = int(np.argmax(labels))
        raise train.origin.error(
            f"class numbers without large gaps, label {index} of {train.labels_name} is "
            f"{classes - 1} and there are only {distinct} different labels",
            "repair that label, or number the classes 0, 1, 2, ...",
        )
    return classes


def held_out_rows(labels: Rows, seed: int, count: int) -> tuple[Rows, Rows]:
    """Rows for training and `count` rows held out, both ascending; the same for the same seed.

    Stratified: the held-out rows are spread evenly over the samples sorted by class, after a
    shuffle, and one sample of every class stays for training.
    """
    rows = np.arange(len(labels), dtype=np.int64)
    shuffled = np.argsort(sample_keys(seed, Purpose.HOLD_OUT, 0, rows), kind="stable")
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    repeats = by_class[1:][np.diff(labels[by_class]) == 0]
    assert 1 <= count <= len(repeats)
    held = np.zeros(len(labels), dtype=np.bool_)
    held[repeats[np.arange(count) * len(repeats) // count]] = True
    return rows[~held], rows[held]


def _hold_out(samples: Found, seed: int, fraction: float) -> tuple[Found, Found]:
    """`samples` without the held-out fraction, and that fraction."""
    if not 0 < fraction < 1:
        raise UserError(
            "data.held_out", fraction, "a fraction between 0 and 1", "write for example 0.2"
        )
    # Samples whose classes are not known are held out as if they were of one class: by chance.
    labels = np.zeros(len(samples), np.int64) if samples.labels is None else samples.labels
    count = max(1, round(fraction * len(samples)))
    spare = len(samples) - len(np.unique(labels))
    if count > spare:
        raise UserError(
            "data.held_out",
            fraction,
            f"at most {spare:,} of the {len(samples):,} samples, as one of every class must stay "
            f"for training, and this is {count:,}",
            "hold out less, or name a test set in data.test",
        )
    train, test = held_out_rows(labels, seed, count)
    return samples.rows(train), samples.rows(test)


def _check_fit(train: Found, test: Found, classes: int) -> None:
    """That a net trained on `train` can be tested on `test`."""
    if (test.shape, test.dtype) != (train.shape, train.dtype):
        raise test.origin.error(
            f"test samples like the training samples, {train.dtype} of shape {train.shape}, "
            f"{test.inputs_name} has {test.dtype} of shape {test.shape}",
            "prepare both in the same way",
        )
    if test.labels is None:
        if test.classes != classes:
            raise test.origin.error(
                f"as many classes as are trained on, {classes}, it has {test.classes}",
                "take both parts from the same data set",
            )
        return
    known = np.arange(classes) if train.labels is None else train.labels
    unseen = ~np.isin(test.labels, known)
    if unseen.any():
        index = int(np.argmax(unseen))
        raise test.origin.error(
            f"test labels that are trained on, label {index} of {test.labels_name} is "
            f"{test.labels[index]} and no training sample has it",
            "take both parts from the same data set",
        )
