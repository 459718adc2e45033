"""A user's own Dataset and Transform, attached by `module:attribute` or `file.py:attribute`.

Their contracts are in dataset.py; here is what loads them, and what blames them when they break it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeGuard, cast

import numpy as np

from ..common.errors import UserError
from ..common.references import load
from ..common.suggest import nearest
from ..common.types import Array, Arrays
from .dataset import Dataset, Transform
from .randomness import Stream
from .sources.samples import Origin, Part, Samples, checked


def is_reference(text: str, names: Iterable[str]) -> bool:
    """Whether `text` names users' code, rather than being a misspelling of one of `names`."""
    target, _, attribute = text.rpartition(":")
    if target.endswith(".py"):
        return True
    dotted = all(part.isidentifier() for part in [*target.split("."), *attribute.split(".")])
    return dotted and nearest(target, names) is None


def read_attached(origin: Origin, part: Part) -> Samples | None:
    """All samples of a user's Dataset, or of what a user's function without arguments returns.

    They are read once, into memory. There is no test part.

    Raises:
        UserError: the reference cannot be loaded, or what it names breaks the contract.
    """
    if part == "test":
        return None
    found = load(origin.text, origin.key)
    found = found() if callable(found) else found
    if not (hasattr(found, "__len__") and callable(getattr(found, "read", None))):
        expected = f"a Dataset, with len() and read(indices), it is of type {type(found).__name__}"
        raise origin.error(expected, "give it both, or name a function that returns one")
    dataset = cast(Dataset, found)
    count = len(dataset)
    if count < 1:
        raise origin.error("a Dataset of at least one sample, its len() is 0", "give it samples")
    arrays = dataset.read(np.arange(count, dtype=np.int64))
    inputs, labels = _pair(origin, arrays, count)
    return checked(Samples(inputs, labels, "the inputs", "the labels", origin))


def _pair(origin: Origin, arrays: object, count: int) -> tuple[Array, Array]:
    """The inputs and labels that `read` returned for `count` samples."""
    fix = "return (inputs, labels) from read"
    found = _described(arrays)
    if not (_share_length(arrays, count) and len(arrays) == 2):
        raise origin.error(f"inputs and labels of {count:,} samples, read gave {found}", fix)
    inputs, labels = arrays
    if inputs.ndim < 2 or inputs.dtype not in (np.uint8, np.float32):
        expected = f"inputs of shape (n, ...), uint8 or float32, read gave {found}"
        raise origin.error(expected, fix)
    if labels.ndim != 1 or labels.dtype != np.int64:
        raise origin.error(f"labels of shape (n,), int64, read gave {found}", fix)
    return inputs, labels


@dataclass(frozen=True, slots=True)
class AttachedTransform:
    """A user's Transform, whose results are checked, so that a slip in it is not a worker's riddle.

    Any thread may call it if any thread may call the user's.
    """

    reference: str
    transform: Transform

    @classmethod
    def load(cls, reference: str) -> "AttachedTransform":
        """The callable that `reference` names, or an instance of it, where it is a class.

        Raises:
            UserError: it cannot be loaded, or called.
        """
        found = load(reference, "data.augment")
        found = found() if isinstance(found, type) else found
        if not callable(found):
            expected = f"a Transform, it is of type {type(found).__name__}, which cannot be called"
            raise UserError("data.augment", reference, expected, "name a function")
        return cls(reference, cast(Transform, found))

    def __call__(self, arrays: Arrays, random: Stream) -> Arrays:
        """The user's change of `arrays`.

        Raises:
            UserError: it returned other than as many samples, inputs uint8 or float32.
        """
        changed = self.transform(arrays, random)
        same = _share_length(changed, len(random))
        if not (same and changed[0].dtype in (np.uint8, np.float32)):
            raise UserError(
                "data.augment",
                self.reference,
                f"a tuple of arrays of {len(random):,} samples, the inputs uint8 or float32, "
                f"it returned {_described(changed)}",
                "return what it was given, changed",
            )
        return changed


def _share_length(arrays: object, count: int) -> TypeGuard[Arrays]:
    """Whether these are arrays in a tuple, each with `count` first."""
    return (
        isinstance(arrays, tuple)
        and len(arrays) > 0
        and all(isinstance(one, np.ndarray) and one.shape[:1] == (count,) for one in arrays)
    )


def _described(arrays: object) -> str:
    """What a user's code returned, for the error: `(uint8 (5, 8, 8), int64 (5,))`."""
    if not isinstance(arrays, tuple):
        return f"type {type(arrays).__name__}"
    return f"({', '.join(_described_one(array) for array in arrays)})"


def _described_one(array: object) -> str:
    if not isinstance(array, np.ndarray):
        return f"type {type(array).__name__}"
    return f"{array.dtype} {array.shape}"
