"""Slurm's lists of nodes, spelt out: `n[1-3,07],r[1-2]c[1-4]` is n1 n2 n3 n07 r1c1 r1c2 and so on.
Pure.

The grammar is that of `scontrol show hostnames` (Slurm's man pages call it a hostlist expression).
"""

import itertools
import re
from collections.abc import Iterator

from ...common.errors import UserError

LIMIT = 1 << 16
"""Names that one list may stand for: as many as Slurm has nodes at most."""

_TEXT = r"[A-Za-z0-9._-]"
_ITEM = re.compile(rf"(?:{_TEXT}|\[[0-9,-]+\])+")
_PIECE = re.compile(rf"\[([0-9,-]+)\]|({_TEXT}+)")
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")


def expand(text: str, key: str) -> list[str]:
    """The names that a list stands for, in its order; a name that comes twice stays twice.

    Numbers keep the width of a range's lower end: `n[08-10]` is n08 n09 n10. Of several brackets
    in a name the last one changes fastest.

    Raises:
        UserError: naming `key`: it is not such a list, or stands for more than `LIMIT` names.
    """
    names: list[str] = []
    for item in _items(text):
        if not _ITEM.fullmatch(item):
            raise _refused(key, text, f"{item!r} is not a name with ranges in brackets")
        pieces = [_values(piece, key, text) for piece in _PIECE.finditer(item)]
        for count, name in enumerate(itertools.product(*pieces), len(names) + 1):
            if count > LIMIT:
                raise _refused(key, text, f"it stands for more than {LIMIT} nodes")
            names.append("".join(name))
    return names


def _items(text: str) -> Iterator[str]:
    """What commas outside of brackets part."""
    depth, begin = 0, 0
    for place, character in enumerate(text):
        if character == "," and depth == 0:
            yield text[begin:place]
            begin = place + 1
        depth += (character == "[") - (character == "]")
    yield text[begin:]


def _values(piece: re.Match[str], key: str, text: str) -> list[str]:
    """What may stand at one place of a name: a text, or every number of a bracket."""
    ranges, plain = piece.groups()
    if ranges is None:
        return [plain]
    values: list[str] = []
    for part in ranges.split(","):
        match = _RANGE.fullmatch(part)
        low, high = match.groups() if match else ("1", "0")
        numbers = range(int(low), int(high or low) + 1)
        if not numbers:
            raise _refused(key, text, f"{part!r} is not a number or a range that rises")
        if len(values) + len(numbers) > LIMIT:
            raise _refused(key, text, f"it stands for more than {LIMIT} nodes")
        values += [f"{number:0{len(low)}}" for number in numbers]
    return values


def _refused(key: str, text: str, why: str) -> UserError:
    return UserError(key, text, "a list of nodes such as n[1-3,07],login", why)
