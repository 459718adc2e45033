"""Where to cut a net of which nobody said where: dynamic programming over its places. Pure."""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple


class Place(NamedTuple):
    """A place where a net can be cut. `work` is that of all layers before it, down to the place
    before: any unit; `width` the numbers of a sample that would pass."""

    name: str
    work: float
    width: int


def choose(places: Sequence[Place], rest: float, parts: int) -> list[str] | None:
    """The names of the `parts` - 1 places that even out the work of the parts.

    The sum of the squares of their work is the least; of equal ones the numbers that pass the cuts
    are the fewest, and then the first places are taken. Each part has work.

    Arguments:
        rest: the work behind the last place.
    Returns:
        None where there are fewer places between layers with work.
    """
    before = [0.0, *accumulate(place.work for place in places)]
    total = before[-1] + rest
    best: dict[int, _Choice] = {0: _Choice(0.0, 0, ())}  # by the number of the last cut's place
    for _ in range(parts - 1):
        further: dict[int, _Choice] = {}
        for last, choice in best.items():
            for number in range(last + 1, len(places) + 1):
                work = before[number] - before[last]
                if work > 0:
                    width = choice.width + places[number - 1].width
                    taken = (*choice.cuts, number)
                    new = _Choice(choice.squares + work * work, width, taken)
                    further[number] = min(further.get(number, new), new)
        best = further
    ends = [
        choice._replace(squares=choice.squares + (total - before[last]) ** 2)
        for last, choice in best.items()
        if total > before[last]
    ]
    return [places[number - 1].name for number in min(ends).cuts] if ends else None


class _Choice(NamedTuple):
    """Compared in this order: the squares of the work so far, what passes, where."""

    squares: float
    width: int
    cuts: tuple[int, ...]
