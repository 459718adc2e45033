"""Where a rule treats parameters differently: segments of the flat vector, each with its own rate
and with weight decay or without. Pure.

A pattern such as `dense1.*:0.1` multiplies the rate of the parameters whose names it matches; the
first pattern that matches a name counts. Biases and normalisation parameters never decay: the
model says which do. Neighbours of equal treatment are one segment, so that a shard with nothing
special in it is updated by one call.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import isfinite, prod

from .cluster import Parameter
from .errors import UserError


@dataclass(frozen=True, slots=True)
class Segment:
    """Elements [begin, end) of a slice: their rate is `rate` times the rule's, the decay with it;
    only where `decays` does weight decay apply."""

    begin: int
    end: int
    rate: float = 1.0
    decays: bool = False


Segments = Sequence[Segment]
"""Ascending, none empty, no gap: together they are the slice. () is one plain segment, all of it:
rate 1, no decay."""


def parse_rates(rates: Iterable[str], key: str) -> tuple[tuple[str, float], ...]:
    """(pattern, multiplier) of each `pattern:multiplier`; `key` is the setting, for the message.

    Raises:
        UserError: no colon, no pattern, or a multiplier that is not a finite number, 0 or more.
    """
    return tuple(_parse(text, key) for text in rates)


def _parse(text: str, key: str) -> tuple[str, float]:
    pattern, _, multiplier = text.rpartition(":")
    try:
        factor = float(multiplier)
    except ValueError:
        factor = -1.0
    if pattern and isfinite(factor) and factor >= 0:
        return pattern, factor
    expected = "pattern:multiplier with a finite multiplier, 0 or more"
    raise UserError(key, text, expected, f'for example {key} = ["dense1.*:0.1", "*.bias:2"]')


def check_rates(rates: Iterable[str], names: Sequence[str], key: str = "optimizer.rates") -> None:
    """Whether each pattern of a setting matches a parameter of the model.

    Raises:
        UserError: one matches none: a misspelt name would else train at the full rate, unnoticed.
    """
    for pattern, _ in parse_rates(rates, key):
        if not any(fnmatchcase(name, pattern) for name in names):
            shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
            expected = "a pattern that matches a parameter of the model"
            raise UserError(key, pattern, expected, f"the parameters are {shown}")


def make_segments(
    layout: Iterable[Parameter],
    rates: Iterable[str] = (),
    weight_decay: float = 0.0,
    begin: int = 0,
    end: int | None = None,
) -> tuple[Segment, ...]:
    """The segments of the elements [begin, end) of the flat vector, counted from `begin`.

    Arguments:
        layout: all parameters, in the order of the vector.
        rates, weight_decay: as in the section of the rule; without decay nothing is cut for it.
        end: None for the end of the vector.
    """
    made: list[Segment] = []
    for first, last, rate, decays in _treated(layout, rates, weight_decay):
        first, last = max(first, begin), last if end is None else min(last, end)
        if first >= last:
            continue
        start = first - begin
        if made and (made[-1].rate, made[-1].decays) == (rate, decays):
            start = made.pop().begin
        made.append(Segment(start, last - begin, rate, decays))
    return tuple(made)


def _treated(
    layout: Iterable[Parameter], rates: Iterable[str], weight_decay: float
) -> Iterator[tuple[int, int, float, bool]]:
    """(begin, end, rate, decays) of each parameter."""
    patterns, position = parse_rates(rates, "rates"), 0
    for parameter in layout:
        begin, position = position, position + prod(parameter.shape)
        matching = (rate for pattern, rate in patterns if fnmatchcase(parameter.name, pattern))
        decays = parameter.decays and weight_decay > 0
        yield begin, position, next(matching, 1.0), decays
