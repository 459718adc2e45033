"""One setting of the job file: its kind, limits and words. Pure: no file, no environment.

A `Setting` stands in the metadata of a dataclass field of `job.py`; reading, checking, showing and
documenting all go by it. Values in, values out: nothing here knows which settings there are.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .errors import UserError
from .suggest import did_you_mean
from .toml import literal, shown
from .units import format_duration, format_size, parse_duration, parse_size

_LARGEST = 2**63 - 1
_DEEPEST = 8


class Kind(StrEnum):
    """What a value is; the text stands in errors and in the documentation."""

    INTEGER = "an integer"
    NUMBER = "a number"
    FLAG = "true or false"
    TEXT = "text"
    DURATION = "a duration"
    SIZE = "a size"
    TEXTS = "a list of text"
    TABLE = "a table of text, numbers, true or false, and lists of these"


@dataclass(frozen=True)
class Setting:
    """The rule for one value.

    Attributes:
        default: as checked: seconds for a duration, bytes for a size, a tuple for a list.
        minimum, above, maximum, below: `>=`, `>`, `<=`, `<`; seconds or bytes for those kinds.
        multiple: an integer or size must be a multiple of this.
        choices: the only texts allowed, where there are any.
        pattern, form, example: a regular expression of texts that are allowed beside the choices,
            how it is told to people, and one such text.
        planned: a regular expression of texts that the design names and this version lacks.
        empty: whether empty text is allowed.
    """

    kind: Kind
    default: Any
    doc: str
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None
    multiple: int = 1
    choices: tuple[str, ...] = ()
    pattern: str = ""
    form: str = ""
    example: str = ""
    planned: str = ""
    empty: bool = True

    def check(self, key: str, value: Any) -> Any:
        """`value` in its canonical type, or a `UserError` that names `key`. Idempotent.

        Integers count as numbers; booleans never do, and 3.0 is no integer. Lists become tuples.
        """
        match self.kind:
            case Kind.DURATION:
                checked: Any = parse_duration(value, key)
            case Kind.SIZE:
                checked = parse_size(value, key)
            case Kind.TEXTS:
                checked = self._texts(key, value)
            case Kind.TABLE:
                checked = self._table(key, value)
            case Kind.TEXT:
                checked = self._text(key, value)
            case _:
                checked = self._plain(key, value)
        if isinstance(checked, int | float) and not self._within(checked):
            raise self._refused(key, value)
        return checked

    def write(self, value: Any) -> str:
        """A checked value as TOML on one line: durations and sizes with their units."""
        if self.kind is Kind.DURATION:
            return literal(format_duration(value))
        return literal(format_size(value) if self.kind is Kind.SIZE else value)

    @property
    def expected(self) -> str:
        """What the value must be, in words: `an integer of at least 1`."""
        if self.choices or self.form:
            *rest, last = (*self.choices, self.form) if self.form else self.choices
            return f"{', '.join(rest)} or {last}" if rest else last
        if self.kind is Kind.TEXT and not self.empty:
            return "text that is not empty"
        limits = [
            f"{word} {self._limit(limit)}"
            for word, limit in (
                ("of at least", self.minimum),
                ("above", self.above),
                ("of at most", self.maximum),
                ("below", self.below),
            )
            if limit is not None
        ]
        if self.multiple > 1:
            limits.append(f"in steps of {self.multiple}")
        return f"{self.kind} {' and '.join(limits)}".rstrip()

    def _limit(self, limit: float) -> str:
        if self.kind is Kind.DURATION:
            return format_duration(limit)
        return format_size(int(limit)) if self.kind is Kind.SIZE else f"{limit:g}"

    def _within(self, number: float) -> bool:
        return (
            (self.minimum is None or number >= self.minimum)
            and (self.above is None or number > self.above)
            and (self.maximum is None or number <= self.maximum)
            and (self.below is None or number < self.below)
            and (self.multiple == 1 or number % self.multiple == 0)
        )

    def _refused(self, key: str, value: Any, fix: str = "") -> UserError:
        """The error for `value`; the default serves as the example where there is no better fix."""
        fix = fix or f"for example {key} = {self.write(self.default)}"
        return UserError(key, shown(value), self.expected, fix)

    def _plain(self, key: str, value: Any) -> bool | int | float:
        """A boolean, an integer or a finite number."""
        if self.kind is Kind.FLAG:
            if isinstance(value, bool):
                return value
        elif not isinstance(value, bool) and _is_finite(value):
            if self.kind is Kind.NUMBER:
                return float(value)
            if isinstance(value, int):
                return value
            if value == int(value):
                raise self._refused(key, value, f"write {int(value)}, without the point")
        raise self._refused(key, value)

    def _text(self, key: str, value: Any) -> str:
        if not _is_text(value) or not (value or self.empty):
            raise self._refused(key, value)
        text = str(value)
        anything = not self.choices and not (self.pattern and text)
        if anything or text in self.choices:
            return text
        if self.pattern and re.fullmatch(self.pattern, text, re.ASCII):
            return text
        if self.planned and re.fullmatch(self.planned, text):
            fix = f"this version has no {text} yet, write {key} = {self.write(self.default)}"
        else:
            example = f"for example {key} = {self.write(self.example or self.default)}"
            fix = example if self.form else did_you_mean(text, self.choices, example)
        raise self._refused(key, text, fix)

    def _texts(self, key: str, value: Any) -> tuple[str, ...]:
        if isinstance(value, list | tuple) and all(item and _is_text(item) for item in value):
            return tuple(value)
        raise self._refused(key, value, f'for example {key} = ["first", "second"]')

    def _table(self, key: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise self._refused(key, value, f"for example {key} = {{ name = 1 }}")
        for name, item in value.items():
            if not isinstance(name, str) or not name.isidentifier():
                fix = "the names become arguments of a Python function: letters, digits and _"
                raise UserError(key, shown(name), "a name that Python allows", fix)
            if not _is_argument(item):
                fix = f"for example {key}.{name} = 1"
                expected = "text, a finite number, true or false, or a list of these"
                raise UserError(f"{key}.{name}", shown(item), expected, fix)
        return {name: _with_tuples(item) for name, item in value.items()}


def setting(kind: Kind, default: Any, doc: str, **limits: Any) -> Any:
    """A dataclass field whose metadata holds its `Setting`; `default` as in the job file."""
    rule = Setting(kind, default, doc, **limits)
    rule = Setting(kind, rule.check("default", default), doc, **limits)
    if kind is Kind.TABLE:
        return field(default_factory=dict, hash=False, metadata={"setting": rule})
    return field(default=rule.default, metadata={"setting": rule})


def with_lists(value: Any) -> Any:
    """A checked value with plain lists for tuples, all the way down, as files and wires hold it."""
    if isinstance(value, tuple):
        return [with_lists(item) for item in value]
    if isinstance(value, Mapping):
        return {name: with_lists(item) for name, item in value.items()}
    return value


def _with_tuples(value: Any) -> Any:
    return tuple(map(_with_tuples, value)) if isinstance(value, list | tuple) else value


def _is_finite(value: Any) -> bool:
    """Whether `value` is a number that a float and 64 bits can hold."""
    if isinstance(value, int):
        return -_LARGEST <= value <= _LARGEST
    return isinstance(value, float) and math.isfinite(value)


def _is_text(value: Any) -> bool:
    """Whether `value` is text that UTF-8 can hold: undecodable bytes of an environment are not."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_argument(value: Any, depth: int = 0) -> bool:
    if isinstance(value, list | tuple):
        return depth < _DEEPEST and all(_is_argument(item, depth + 1) for item in value)
    return isinstance(value, bool) or _is_finite(value) or _is_text(value)
