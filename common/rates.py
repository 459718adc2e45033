"""Where a rule treats parameters differently: segments of the flat vector, each with its own rate
and with weight decay or without. Pure.

A pattern such as `dense1.*:0.1` multiplies the rate of the parameters whose names it matches; the
first pattern that matches a name counts. Biases and normalisation parameters never decay: the
model says which do. Neither concerns averaged state (the running statistics of a BatchNorm), which
is not trained: a pattern that freezes everything leaves it moving. Neighbours of equal treatment
are one segment, so that a shard with nothing special in it is updated by one call.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from math import isfinite, prod

from .cluster import Parameter
from .errors import UserError


@dataclass(frozen=True, slots=True)
class Segment:
    """Elements [begin, end) of a slice: their rate is `rate` times the rule's, the decay with it;
    only where `decays` does weight decay apply. Where it is `averaged` there is neither rate nor
    decay nor rule: p -= g."""

    begin: int
    end: int
    rate: float = 1.0
    decays: bool = False
    averaged: bool = False


Segments = Sequence[Segment]
"""Ascending, none empty, no gap: together they are the slice. () is one plain segment, all of it:
rate 1, no decay, nothing averaged."""


def averaged_in(segments: Segments) -> list[slice]:
    """Where averaged state lies in a slice with these segments, ascending; [] for none."""
    return [slice(segment.begin, segment.end) for segment in segments if segment.averaged]


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
    for whole in _treated(layout, rates, weight_decay):
        first = max(whole.begin, begin)
        last = whole.end if end is None else min(whole.end, end)
        if first >= last:
            continue
        part = replace(whole, begin=first - begin, end=last - begin)
        if made and replace(made[-1], begin=part.begin, end=part.end) == part:
            part = replace(part, begin=made.pop().begin)
        made.append(part)
    return tuple(made)


def _treated(
    layout: Iterable[Parameter], rates: Iterable[str], weight_decay: float
) -> Iterator[Segment]:
    """Each parameter by itself."""
    patterns, position = parse_rates(rates, "rates"), 0
    for parameter in layout:
        begin, position = position, position + prod(parameter.shape)
        if parameter.averaged:
            yield Segment(begin, position, averaged=True)
            continue
        matching = (rate for pattern, rate in patterns if fnmatchcase(parameter.name, pattern))
        decays = parameter.decays and weight_decay > 0
        yield Segment(begin, position, next(matching, 1.0), decays)
