"""Decoded samples kept in memory, and beyond that on disk. Only storing and finding them is here.

Rows stay in the order in which they first come, and nothing is ever put out: an epoch visits each
sample once, so that of any rows that fit the same share is found again, and putting out the least
recently used would put out just what comes next. Labels are kept with them.

Any thread may read: a row gets its slot from a counter, and is found only once it is written. Two
threads that miss the same row at once both store it, which costs a slot and harms nothing.
"""

import os
import shutil
import tempfile
import weakref
from collections import Counter
from itertools import count
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ..common.data_sections import DataSection
from ..common.errors import UserError
from ..common.types import Array, Arrays
from .corrupt import Skipped, first_whole
from .dataset import Dataset
from .sources.samples import ArrayDataset


def cached(dataset: Dataset, data: DataSection) -> Dataset:
    """`dataset` behind a cache of `data.cache` and `data.disk_cache` bytes; one that lies in memory
    already as it is.

    Raises:
        UserError: the disk cache cannot be made, or has no room.
    """
    if isinstance(dataset, ArrayDataset) or not data.cache + data.disk_cache:
        return dataset
    return CachedDataset(dataset, data.cache, data.disk_cache, data.cache_dir)


class CachedDataset:
    """A Dataset of (inputs, labels), whose inputs have one shape and dtype.

    Arguments:
        memory, disk: bytes of inputs kept in each, at most.
        folder: of the file on disk; empty: the system's. The file has no name, so that nothing is
            left of it however the process ends.
    Raises:
        UserError: `folder` cannot be written, or has less room than `disk`, or than all rows need.
    """

    def __init__(self, dataset: Dataset, memory: int, disk: int, folder: str = "") -> None:
        self._dataset, n = dataset, len(dataset)
        inputs, labels = dataset.read(first_whole(dataset, Skipped()))
        self._shape, self._dtype, self._size = inputs.shape[1:], inputs.dtype, inputs.nbytes
        in_memory = min(n, memory // max(1, self._size))
        on_disk = min(n - in_memory, disk // max(1, self._size))
        # Its pages come into being with its rows, each of them once.
        self._rows = np.empty((in_memory, *self._shape), self._dtype)
        self._labels = np.empty(n, labels.dtype)
        self._slots = np.full(n, -1, dtype=np.int64)
        self._next, self._capacity = count(), in_memory + on_disk
        self._file = _open(folder, on_disk * self._size) if on_disk else None
        if self._file is not None:
            weakref.finalize(self, self._file.close)
        self.counters: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._dataset)

    def read(self, indices: NDArray[np.int64]) -> Arrays:
        """As `Dataset.read`: what is kept from the cache, the rest from the data set."""
        slots = self._slots[indices]
        found = slots >= 0
        inputs = np.empty((len(indices), *self._shape), self._dtype)
        labels = self._labels[indices]
        in_memory = found & (slots < len(self._rows))
        inputs[in_memory] = self._rows[slots[in_memory]]
        for place in np.flatnonzero(found & ~in_memory):
            self._read_disk(int(slots[place]), inputs[place])
        missing = np.flatnonzero(~found)
        if len(missing):
            inputs[missing], labels[missing] = self._dataset.read(indices[missing])
            for place in missing:
                self._keep(int(indices[place]), inputs[place], labels[place])
        self.counters["cache_hits"] += len(indices) - len(missing)
        self.counters["cache_misses"] += len(missing)
        return inputs, labels

    def _keep(self, index: int, row: Array, label: Array) -> None:
        if self._slots[index] >= 0 or (slot := next(self._next)) >= self._capacity:
            return
        if slot < len(self._rows):
            self._rows[slot] = row
        elif not self._write_disk(slot, row):
            return
        self._labels[index] = label
        self._slots[index] = slot  # last: from now on it is found
        self.counters["cache_bytes"] += self._size

    def _read_disk(self, slot: int, row: Array) -> None:
        assert self._file is not None
        # Rows of images are contiguous within the array that is handed out.
        size = os.preadv(self._file.fileno(), [row.data], self._place(slot))
        if size != self._size:
            raise OSError(f"the disk cache gave {size} of {self._size} bytes")

    def _write_disk(self, slot: int, row: Array) -> bool:
        """Whether there was room: a disk that others have filled meanwhile ends the growth."""
        assert self._file is not None
        try:
            written = os.pwrite(self._file.fileno(), row.tobytes(), self._place(slot))
        except OSError:
            written = 0
        if written != self._size:
            self._capacity = 0
            self.counters["cache_full_disk"] = 1
        return written == self._size

    def _place(self, slot: int) -> int:
        return (slot - len(self._rows)) * self._size


def _open(folder: str, size: int) -> IO[bytes]:
    """A file without a name in `folder`, which has room for `size` bytes."""
    place = os.path.expanduser(folder) or tempfile.gettempdir()
    try:
        file = tempfile.TemporaryFile(dir=place)  # noqa: SIM115 (it lives as long as the cache)
    except OSError as refused:
        expected = f"a folder that can be written ({(refused.strerror or str(refused)).lower()})"
        raise UserError("data.cache_dir", place, expected, "name another one") from None
    room = shutil.disk_usage(place).free
    if room < size:
        file.close()
        raise UserError(
            "data.disk_cache",
            size,
            f"at most the room in {place}, {room:,} bytes",
            "write less, or name another folder in data.cache_dir",
        )
    return file
