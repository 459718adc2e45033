"""Samples of a user's own Dataset, read whenever they are needed; all that it returns is checked.

Its contract is in dataserver/dataset.py. What is wrong names the user's sample, not the place that
the sample has in a split.
"""

from collections.abc import Callable, Sized
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ...common.data_sections import DataSection
from ...common.errors import DualshardError, describe
from ...common.references import load
from ...common.types import Array, Arrays
from ..attached import described, share_length
from ..dataset import Dataset
from .samples import Origin, Part

BATCH = 256
"""Samples that are read at once for nothing but their labels."""

Rows = NDArray[np.int64]

_TURN = Lock()
"""Whose holder may read from a user's object that does not say that it is `thread_safe`: one lock
for all of them, as `data.source` and `data.test` may name the same object."""


@dataclass(frozen=True, slots=True, eq=False)
class AttachedSamples:
    """The samples `numbers` (n,) int64 of a user's object; `labels` are theirs, (n,) int64, or None
    where only the number of `classes` is known. See `samples.Found`."""

    user: Dataset
    numbers: Rows
    labels: Rows | None
    classes: int | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    origin: Origin
    inputs_name: str = "the inputs"
    labels_name: str = "the labels"

    def __len__(self) -> int:
        return len(self.numbers)

    def rows(self, rows: Rows) -> "AttachedSamples":
        """The samples `rows`, (m,) int64; nothing is read."""
        labels = None if self.labels is None else self.labels[rows]
        return replace(self, numbers=self.numbers[rows], labels=labels)

    def dataset(self) -> "AttachedDataset":
        """These samples, read from the user's object each time."""
        return AttachedDataset(self)


class AttachedDataset:
    """Reads what is asked for. Any thread may call it: the user's code is called by one at a time
    unless it is `thread_safe`."""

    def __init__(self, samples: AttachedSamples) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def read(self, indices: Rows) -> Arrays:
        """Inputs (n, ...), all of one shape, uint8 or float32, and labels (n,) int64.

        Raises:
            UserError: the user's code raised, or returned what breaks the contract.
        """
        found = self._samples
        numbers = found.numbers[indices]
        inputs, labels = _read(found.user, numbers, found.origin)
        _check_inputs(found, numbers, inputs)
        if found.labels is None:
            _check_range(found.origin, numbers, labels, found.classes)
        else:
            _check_same(found.origin, numbers, labels, found.labels[indices])
        return inputs, labels


def read_attached(
    origin: Origin, part: Part, data: DataSection, say: Callable[[str], None]
) -> AttachedSamples | None:
    """The samples of a user's Dataset, or of what a user's function without arguments returns.

    One sample is read, for the shape of all; and where labels are needed that it does not tell, all
    of them once, of which only the labels are kept; `say` is told so. There is no test part.

    Raises:
        UserError: the reference cannot be loaded, or what it names breaks the contract.
    """
    if part == "test":
        return None
    user, count = _opened(origin)
    numbers = np.arange(count, dtype=np.int64)
    inputs, _ = _read(user, numbers[:1], origin)
    classes = _declared_classes(user, origin)
    labels = _declared_labels(user, count, origin)
    if labels is None and (classes is None or data.sampling != "once"):
        say(
            f"{origin.text} has no attribute labels: all {count:,} samples are read once for "
            "theirs; give it labels, (n,) integers, to have it opened at once"
        )
        parts = [numbers[begin : begin + BATCH] for begin in range(0, count, BATCH)]
        labels = np.concatenate([_read(user, some, origin)[1] for some in parts])
    if labels is not None:
        _check_range(origin, numbers, labels, classes)
    return AttachedSamples(user, numbers, labels, classes, inputs.shape[1:], inputs.dtype, origin)


def _opened(origin: Origin) -> tuple[Dataset, int]:
    """The user's object, and how many samples it has."""
    found = load(origin.text, origin.key)
    if callable(found):
        found = _attempt(origin, "a function that returns a Dataset, it", found)
    if not (hasattr(found, "__len__") and callable(getattr(found, "read", None))):
        expected = f"a Dataset, with len() and read(indices), it is of type {type(found).__name__}"
        raise origin.error(expected, "give it both, or name a function that returns one")
    dataset = cast(Dataset, found)
    count = _attempt(origin, "a Dataset with a length, its len()", lambda: len(dataset))
    if count < 1:
        raise origin.error("a Dataset of at least one sample, its len() is 0", "give it samples")
    return dataset, count


def _attempt(origin: Origin, expected: str, call: Callable[[], Any]) -> Any:
    """What the user's code returns. Raises `UserError` for whatever it raises."""
    try:
        return call()
    except DualshardError:
        raise
    except (Exception, SystemExit) as error:
        raise origin.error(f"{expected} raised {describe(error)}", "correct it") from error


def _declared_classes(user: Dataset, origin: Origin) -> int | None:
    """What the object's attribute `classes` says: their number, or one name for each."""
    classes: object = getattr(user, "classes", None)
    count = len(classes) if isinstance(classes, Sized) else classes
    if count is None:
        return None
    if not isinstance(count, int | np.integer) or count < 1:
        raise origin.error(
            "in its attribute classes their number from 1, or one name for each, "
            f"it is {classes!r}",
            "correct it, or leave it out",
        )
    return int(count)


def _declared_labels(user: Dataset, count: int, origin: Origin) -> Rows | None:
    """What the object's attribute `labels` says."""
    declared: object = getattr(user, "labels", None)
    if declared is None:
        return None
    try:
        labels = np.asarray(declared)
    except (TypeError, ValueError):  # rows of several lengths
        labels = np.empty(0)
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        found = described((declared,)) if isinstance(declared, np.ndarray) else "other"
        raise origin.error(
            f"in its attribute labels integers, ({count},), it holds {found}",
            "correct it, or leave it out",
        )
    return labels.astype(np.int64)


def _read(user: Dataset, numbers: Rows, origin: Origin) -> tuple[Array, Array]:
    """What `read` gives for these samples, of the right form."""
    try:
        arrays = _called(user, numbers)
    except DualshardError:
        raise
    except (Exception, SystemExit) as error:
        first, said = _culprit(user, numbers, error)
        expected = f"samples from read, for {first} it raised {describe(said)}"
        raise origin.error(expected, "correct it, or leave that sample out") from error
    return _pair(origin, numbers, arrays)


def _called(user: Dataset, numbers: Rows) -> object:
    if getattr(user, "thread_safe", False):
        return user.read(numbers)
    with _TURN:
        return user.read(numbers)


def _culprit(user: Dataset, numbers: Rows, error: BaseException) -> tuple[str, BaseException]:
    """The first of these samples that cannot be read alone, and what is raised then."""
    for number in numbers if len(numbers) > 1 else ():
        try:
            _called(user, number[None])
        except (Exception, SystemExit) as alone:
            return f"sample {number}", alone
    return _several(numbers), error


def _several(numbers: Rows) -> str:
    """What errors call all samples of a batch."""
    others = f" and {len(numbers) - 1} others" if len(numbers) > 1 else ""
    return f"sample {numbers[0]}{others}"


def _pair(origin: Origin, numbers: Rows, arrays: object) -> tuple[Array, Array]:
    """The inputs and labels that `read` returned for these samples."""
    count, fix = len(numbers), "return (inputs, labels) from read"
    found = f"for {_several(numbers)} read gave {described(arrays)}"
    if not (share_length(arrays, count) and len(arrays) == 2):
        raise origin.error(f"inputs and labels of {count:,} samples, {found}", fix)
    inputs, labels = arrays
    if inputs.ndim < 2 or not inputs.size or inputs.dtype not in (np.uint8, np.float32):
        raise origin.error(f"inputs of shape (n, ...), uint8 or float32, {found}", fix)
    if labels.ndim != 1 or labels.dtype != np.int64:
        raise origin.error(f"labels of shape (n,), int64, {found}", fix)
    return np.ascontiguousarray(inputs), np.ascontiguousarray(labels)  # a message needs that


def _check_inputs(found: AttachedSamples, numbers: Rows, inputs: Array) -> None:
    """That they are like the first sample, and finite."""
    if (inputs.shape[1:], inputs.dtype) != (found.shape, found.dtype):
        raise found.origin.error(
            f"inputs like those of sample 0, {found.dtype} of shape {found.shape}, "
            f"for {_several(numbers)} read gave {inputs.dtype} of shape {inputs.shape[1:]}",
            "give all samples one shape and one dtype",
        )
    if inputs.dtype == np.uint8 or np.isfinite(inputs).all():
        return
    finite = np.isfinite(inputs).reshape(len(inputs), -1).all(axis=1)
    raise found.origin.error(
        f"finite float32 inputs, sample {numbers[np.argmin(finite)]} holds a NaN or infinity",
        "remove or repair that sample",
    )


def _check_range(origin: Origin, numbers: Rows, labels: Rows, classes: int | None) -> None:
    """That labels are class numbers."""
    wrong = (labels < 0) if classes is None else (labels < 0) | (labels >= classes)
    if wrong.any():
        place = int(np.argmax(wrong))
        span = "from 0" if classes is None else f"from 0 to {classes - 1}, as classes says"
        raise origin.error(
            f"labels {span}, sample {numbers[place]} has {labels[place]}",
            "number the classes 0, 1, 2, ...",
        )


def _check_same(origin: Origin, numbers: Rows, labels: Rows, known: Rows) -> None:
    """That samples have the labels that they were split by."""
    if not np.array_equal(labels, known):
        place = int(np.argmax(labels != known))
        raise origin.error(
            f"one label a sample, for sample {numbers[place]} read gave {labels[place]} "
            f"and before it was {known[place]}",
            "let labels and read agree",
        )
