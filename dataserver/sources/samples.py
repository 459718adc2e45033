"""Samples in memory as a reader found them, with what their errors need, and as a `Dataset`.

What must hold for every source is checked here; what only one format can get wrong, beside it.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ...common.errors import UserError
from ...common.types import Array, Arrays
from ...common.urls import without_secrets
from ..dataset import Dataset

Part = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class Origin:
    """The setting that named the data, for errors: `data.source` or `data.test`, and its text."""

    key: str
    text: str

    def error(self, expected: str, fix: str) -> UserError:
        """The error that blames this setting."""
        return UserError(self.key, without_secrets(self.text), expected, fix)


class Found(Protocol):
    """What a reader gives: samples of one part of a source, in memory or to be decoded later."""

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """The classes of all samples, (n,) int64, from 0; None where only `classes` is known."""

    @property
    def classes(self) -> int | None:
        """How many classes there are, where the source itself says so; above all labels."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the inputs: uint8 or float32."""

    @property
    def inputs_name(self) -> str:
        """The file, folder or array that the inputs come from."""

    @property
    def labels_name(self) -> str:
        """The same of the labels."""

    @property
    def origin(self) -> Origin:
        """The setting that named them."""

    def __len__(self) -> int:
        """The number of samples."""

    def rows(self, rows: NDArray[np.int64]) -> Self:
        """The samples `rows`, (m,) int64."""

    def dataset(self) -> Dataset:
        """The samples, for reading."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Inputs (n, ...) and labels (n,) of one part of a source, checked by `checked`.

    `inputs_name` and `labels_name` are the file or array that each came from.
    """

    inputs: Array
    labels: Array
    inputs_name: str
    labels_name: str
    origin: Origin

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> None:
        """Known from the labels alone."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self.inputs.shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the inputs."""
        return self.inputs.dtype

    def rows(self, rows: NDArray[np.int64]) -> "Samples":
        """The samples `rows`, (m,) int64, copied."""
        return replace(self, inputs=self.inputs[rows], labels=self.labels[rows])

    def dataset(self) -> "ArrayDataset":
        """The samples as they lie in memory."""
        return ArrayDataset((self.inputs, self.labels))


class ArrayDataset:
    """Arrays in memory, with their first dimension in common, as a `Dataset`."""

    def __init__(self, arrays: Arrays) -> None:
        assert len({len(array) for array in arrays}) == 1
        self._arrays = arrays

    def __len__(self) -> int:
        return len(self._arrays[0])

    def read(self, indices: NDArray[np.int64]) -> Arrays:
        """Copies of the rows `indices`, (n,) int64."""
        return tuple(array.take(indices, axis=0) for array in self._arrays)


def checked(samples: Samples) -> Samples:
    """`samples` with int64 labels.

    Raises:
        UserError: no samples, inputs without elements, more or fewer labels than inputs, a NaN or
            infinite input, a negative label.
    """
    _check_sizes(samples)
    _check_finite(samples)
    least = int(samples.labels.min())
    if least < 0:
        index = int(np.argmin(samples.labels))
        raise samples.origin.error(
            f"labels from 0 in {samples.labels_name}, label {index} is {least}",
            "number the classes 0, 1, 2, ...",
        )
    return replace(samples, labels=samples.labels.astype(np.int64))


def _check_sizes(samples: Samples) -> None:
    if len(samples.inputs) != len(samples.labels):
        raise samples.origin.error(
            f"as many labels as inputs, {samples.labels_name} holds {len(samples.labels):,} and "
            f"{samples.inputs_name} {len(samples.inputs):,}",
            "take both from the same data set",
        )
    if not samples.inputs.size:
        raise samples.origin.error(
            f"at least one sample, {samples.inputs_name} has the shape {samples.inputs.shape}",
            "name a data set that is not empty",
        )


def _check_finite(samples: Samples) -> None:
    if samples.inputs.dtype == np.uint8:
        return
    finite = np.isfinite(samples.inputs).reshape(len(samples), -1).all(axis=1)
    if not finite.all():
        index = int(np.argmin(finite))
        raise samples.origin.error(
            f"finite float32 inputs, sample {index} of {samples.inputs_name} holds a NaN or "
            f"infinity ({np.count_nonzero(~finite):,} samples do)",
            "remove or repair these samples",
        )
