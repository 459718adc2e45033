"""When a gradient that is filled from its end may be sent in parts. Pure arithmetic."""

from collections.abc import Iterable


def stages(begins: Iterable[int], size: int, granule: int) -> list[int]:
    """Where to stop and report in a vector of `size` elements, descending, 0 last.

    `begins` are the first elements of the layers, ascending from 0. Backpropagation fills layer
    after layer from the end of the vector; between two reports lie at least `granule` elements,
    whole layers. What is left at the front may be less: nothing else would wait for it, while all
    that lies behind can go.
    """
    found, last = list[int](), size
    for begin in sorted(begins, reverse=True):
        if last - begin >= granule or begin == 0:
            found.append(begin)
            last = begin
    return found
