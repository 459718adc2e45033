"""The server's end of the shared-memory lanes: one segment a worker.

A worker's segment holds rows of `size` float32 elements: its parameter vector, then a gradient a
lane. A push names the lane: the gradient is read where backprop wrote it, and fresh shards are
written straight into the vector. The gradient row is the worker's while it computes and ours from
the push until its answer. Only the server's loop writes fresh shards, so they arrive whole.
"""

from ..common.errors import RemoteError
from ..common.messages import Attach
from ..common.segment import Segment, place
from ..common.types import Float32


class SharedLanes:
    """Segments by incarnation of the worker. Elements are counted over the whole net, also where a
    worker has those of its part alone."""

    def __init__(self) -> None:
        self._rows: dict[int, tuple[int, Float32]] = {}

    def attach(self, source: int, wanted: Attach) -> None:
        """Map a worker's segment.

        Raises:
            RemoteError: it is on another host, or cannot be opened.
        """
        if not place() or wanted.place != place():
            raise RemoteError("the worker runs on another host")
        if not (wanted.size >= 1 and 2 <= wanted.rows <= 1025 and wanted.pid > 0):
            raise RemoteError(f"{wanted.rows} rows of {wanted.size} elements is no segment")
        segment = Segment.attach(wanted.pid, wanted.descriptor, wanted.rows * wanted.size)
        self._rows[source] = wanted.begin, segment.array.reshape(wanted.rows, wanted.size)

    def gradient(self, source: int, lane: int, begin: int, end: int) -> Float32 | None:
        """A shard of a lane's gradient; None if there is no such lane."""
        rows = self._slices(source, begin, end)
        return None if rows is None or not 0 <= lane < len(rows) - 1 else rows[1 + lane]

    def parameters(self, source: int, begin: int, end: int) -> Float32 | None:
        """A shard of a worker's parameter vector, to be written; None if it shares no memory."""
        rows = self._slices(source, begin, end)
        return None if rows is None else rows[0]

    def _slices(self, source: int, begin: int, end: int) -> Float32 | None:
        """These elements of all rows of a worker's segment, None if it does not hold them."""
        if source not in self._rows:
            return None
        first, rows = self._rows[source]
        if begin < first or end - first > rows.shape[1]:
            return None
        return rows[:, begin - first : end - first]

    def keep_only(self, present: set[int]) -> None:
        """Forget the segments of workers that are gone."""
        self._rows = {source: held for source, held in self._rows.items() if source in present}
