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
    """Segments by incarnation of the worker."""

    def __init__(self) -> None:
        self._rows: dict[int, Float32] = {}

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
        self._rows[source] = segment.array.reshape(wanted.rows, wanted.size)

    def gradient(self, source: int, lane: int, begin: int, end: int) -> Float32 | None:
        """A shard of a lane's gradient; None if there is no such lane."""
        rows = self._rows.get(source)
        if rows is None or not 0 <= lane < len(rows) - 1 or end > rows.shape[1]:
            return None
        return rows[1 + lane, begin:end]

    def parameters(self, source: int, begin: int, end: int) -> Float32 | None:
        """A shard of a worker's parameter vector, to be written; None if it shares no memory."""
        rows = self._rows.get(source)
        if rows is None or end > rows.shape[1]:
            return None
        return rows[0, begin:end]

    def keep_only(self, present: set[int]) -> None:
        """Forget the segments of workers that are gone."""
        self._rows = {source: rows for source, rows in self._rows.items() if source in present}
