"""Opening the memory that a worker of this host offers to data servers (see `shelves`)."""

from ..common.errors import RemoteError
from ..common.messages import Shelf
from ..common.segment import Segment, place
from ..common.types import Float32


def map_shelf(offered: Shelf) -> Float32:
    """A worker's slots, float32 (slots, elements of one).

    Raises:
        RemoteError: they are on another host, cannot be opened, or are no slots.
    """
    if not place() or offered.place != place():
        raise RemoteError("the worker runs on another host")
    sound = 1 <= offered.slots <= 65536 and offered.size >= 4 and not offered.size % 4
    if not (sound and offered.pid > 0):
        raise RemoteError(f"{offered.slots} slots of {offered.size} bytes is no shelf")
    elements = offered.slots * offered.size // 4
    segment = Segment.attach(offered.pid, offered.descriptor, elements)
    return segment.array.reshape(offered.slots, -1)
