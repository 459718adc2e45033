"""A user's own Dataset and Transform, attached by `module:attribute` or `file.py:attribute`.

Their contracts are in dataset.py; here is what loads them, and what blames them when they break it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

import numpy as np

from ..common.errors import UserError
from ..common.references import load
from ..common.suggest import nearest
from ..common.types import Array, Arrays
from .dataset import Dataset, Transform
from .randomness import Stream
from .samples import Origin, Part, Samples, checked


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
        expected = f"a Dataset, with len() and read(indices), it is a {type(found).__name__}"
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
