"""The worker's end of the data lane: memory that data servers of its host write to. Pure.

A shelf is cut into slots, one a portion. A slot belongs to the worker while it is free, to the data
server from the `Fetch` that names it until the answer, and to the portion's minibatches until the
last of them is done with.
"""

from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from ..common import modes, partition
from ..common.cluster import DataShape
from ..common.errors import RemoteError
from ..common.job import Job
from ..common.messages import Portion, Shelf, Shelved
from ..common.types import Float32

_DTYPES: dict[str, np.dtype[Any]] = {"|u1": np.dtype(np.uint8), "<f4": np.dtype(np.float32)}


def room(job: Job, data: DataShape, credits: int) -> tuple[int, int]:
    """How many slots a worker needs with so many credits a data server, and the float32 elements
    of one, for the largest portion fits. Beside the credits, what is taken and not pushed yet keeps
    its slots; in a cut net what is under way between parts, too, and one push more, as its portions
    are done with the next. Those of a lost server are given up, as it may still write, hence one
    more each."""
    size = min(data.samples, data.portion_size)
    batches = max(1, size // job.data.batch_size)
    taken = -(-modes.n_push(job) * modes.lanes(job) // batches)
    if partition.is_cut(job):
        taken = 2 * taken + partition.under_way(job)
    return job.dataserver.count * (credits + 1) + taken, max(1, size * prod(data.sample_shape))


@dataclass(slots=True)
class Slots:
    """Which slots of a shelf are free. Belongs to the loop.

    `memory` is float32 (slots, elements); `offer` tells data servers where it is.
    """

    memory: Float32
    offer: Shelf
    _free: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self._free = list(range(len(self.memory)))

    def take(self) -> int:
        """A free slot, the one that was used last (its pages are warm); -1: there is none."""
        return self._free.pop() if self._free else -1

    def free(self, slot: int) -> None:
        """Nobody reads the slot any more, and no server will write to it; -1 is no slot."""
        if slot >= 0:
            assert slot not in self._free
            self._free.append(slot)

    def portion(self, shelved: Shelved, slot: int) -> Portion:
        """The portion that a server has written to `slot`, as views.

        Raises:
            RemoteError: it is in another slot, of a foreign dtype, or larger than a slot.
        """
        dtype = _DTYPES.get(shelved.dtype)
        row, shape = self.memory[slot], shelved.shape
        sound = min(shape, default=-1) >= 0
        size = prod(shape) * dtype.itemsize if dtype and sound else -1
        if shelved.slot != slot or not 0 <= size <= row.nbytes:
            raise RemoteError(
                f"a portion of {shelved.dtype} {tuple(shape)} in slot {shelved.slot} of a shelf, "
                f"expected slot {slot}, uint8 or float32, and at most {row.nbytes:,} bytes"
            )
        inputs = row.view(dtype)[: prod(shape)].reshape(shape)
        numbers = shelved.leg, shelved.portion, shelved.last
        where = shelved.epoch, shelved.begin, shelved.minibatches
        return Portion(*numbers, inputs, shelved.labels, *where)
