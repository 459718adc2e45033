"""The data server's end of the data lane: memory of workers, to write portions to. Pure.

The slot that a worker's `Fetch` names is the server's until it has answered. A worker that asks
again because an answer was lost has its portion written again, the same bytes; but a slot that it
has named anew since holds another portion by then, and is closed to the older request.
"""

from collections.abc import Callable

from ..common.errors import RemoteError
from ..common.messages import Shelf
from ..common.types import Array, Float32


def map_nothing(offered: Shelf) -> Float32:
    """The mapping of a server that shares no memory."""
    raise RemoteError("this server shares no memory")


class Shelves:
    """Shelves by incarnation of the worker. Belongs to the loop.

    Arguments:
        map_shelf: opens the memory, (slots, elements) float32; raises `RemoteError` where that
            cannot be (see `sharing`).
    """

    def __init__(self, map_shelf: Callable[[Shelf], Float32] = map_nothing) -> None:
        self._map = map_shelf
        self._rows: dict[int, Float32] = {}
        self._named: dict[tuple[int, int], int] = {}

    def attach(self, source: int, offered: Shelf) -> None:
        """Map a worker's memory. Raises `RemoteError` where that cannot be."""
        self._rows[source] = self._map(offered)

    def name(self, source: int, slot: int, sequence: int) -> None:
        """Request `sequence` of a worker names a slot; what its shelf has not is none."""
        if 0 <= slot < len(self._rows.get(source, ())):
            key = (source, slot)
            self._named[key] = max(sequence, self._named.get(key, -1))

    def write(self, source: int, sequence: int, slot: int, inputs: Array) -> bool:
        """Write a portion for request `sequence`; False if it must go another way: the worker has
        no such slot, or the portion does not fit.

        Raises:
            RemoteError: the slot has been named by a later request.
        """
        rows = self._rows.get(source)
        if rows is None or not 0 <= slot < len(rows) or inputs.nbytes > rows[slot].nbytes:
            return False
        if self._named.get((source, slot), -1) > sequence:
            raise RemoteError(f"slot {slot} has been named by a later request")
        row = rows[slot].view(inputs.dtype)[: inputs.size]
        row.reshape(inputs.shape)[...] = inputs
        return True

    def keep_only(self, present: set[int]) -> None:
        """Forget the shelves of workers that are gone."""
        self._rows = {source: rows for source, rows in self._rows.items() if source in present}
        self._named = {key: last for key, last in self._named.items() if key[0] in present}
