"""A user's own Transform, attached by `module:attribute` or `file.py:attribute`, and what is common
to all users' code: telling it from our names, and what it is blamed with when it breaks a contract.

The contracts are in dataset.py; users' Datasets are read in sources/attached.py.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeGuard, cast

import numpy as np

from ..common.errors import DualshardError, UserError, describe
from ..common.references import load
from ..common.suggest import nearest
from ..common.types import Arrays
from .dataset import Transform
from .randomness import Stream


def is_reference(text: str, names: Iterable[str]) -> bool:
    """Whether `text` names users' code, rather than being a misspelling of one of `names`."""
    target, _, attribute = text.rpartition(":")
    if target.endswith(".py"):
        return True
    dotted = all(part.isidentifier() for part in [*target.split("."), *attribute.split(".")])
    return dotted and nearest(target, names) is None


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
            UserError: it raised, or returned other than as many samples, inputs uint8 or float32.
        """
        return self._checked(lambda: self.transform(arrays, random), len(random), "it")

    def at_test(self, arrays: Arrays) -> Arrays:
        """Test samples as they are to be handed out: by the user's `at_test`, where there is one.

        Raises:
            UserError: as in a call.
        """
        fixed: Callable[[Arrays], Arrays] | None = getattr(self.transform, "at_test", None)
        if fixed is None:
            return arrays
        return self._checked(lambda: fixed(arrays), len(arrays[0]), "at_test")

    def _checked(self, change: Callable[[], object], count: int, who: str) -> Arrays:
        try:
            changed = change()
        except DualshardError:
            raise
        except (Exception, SystemExit) as error:
            expected = f"a Transform that fits the samples, {who} raised {describe(error)}"
            raise UserError("data.augment", self.reference, expected, "correct it") from error
        if share_length(changed, count) and changed[0].dtype in (np.uint8, np.float32):
            return tuple(np.ascontiguousarray(array) for array in changed)  # a message needs that
        raise UserError(
            "data.augment",
            self.reference,
            f"a tuple of arrays of {count:,} samples, the inputs uint8 or float32, "
            f"{who} returned {described(changed)}",
            "return what it was given, changed",
        )


def share_length(arrays: object, count: int) -> TypeGuard[Arrays]:
    """Whether these are arrays in a tuple, each with `count` first."""
    return (
        isinstance(arrays, tuple)
        and len(arrays) > 0
        and all(isinstance(one, np.ndarray) and one.shape[:1] == (count,) for one in arrays)
    )


def described(arrays: object) -> str:
    """What a user's code returned, for the error: `(uint8 (5, 8, 8), int64 (5,))`."""
    if not isinstance(arrays, tuple):
        return f"type {type(arrays).__name__}"
    return f"({', '.join(_described_one(array) for array in arrays)})"


def _described_one(array: object) -> str:
    if not isinstance(array, np.ndarray):
        return f"type {type(array).__name__}"
    return f"{array.dtype} {array.shape}"
