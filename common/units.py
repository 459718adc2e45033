"""Durations (float seconds) and sizes (int bytes) as people write them. Pure text and numbers."""

import math
import re
from fractions import Fraction

from .errors import UserError
from .toml import shown

_DURATION = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?\s*(ms|s|m|h)?")
_SECONDS = {"s": 1, "m": 60, "h": 3600}

_SIZE = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,19})?)\s*([A-Za-z]*)")
_BINARY = {"TiB": 2**40, "GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "B": 1}
_DECIMAL = {"kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES = {name.lower(): size for name, size in (_BINARY | _DECIMAL).items()}
_LARGEST = 2**63 - 1


def parse_duration(value: object, key: str = "duration") -> float:
    """Seconds in `60s`, `500ms`, `2m`, `1h`, `1.5s`; a plain number is seconds.

    Raises:
        UserError: naming `key`, for anything else, and for what is negative, NaN or infinite.
    """
    seconds = _seconds(value)
    if seconds is None or not 0 <= seconds < math.inf:
        raise UserError(
            key, shown(value), "a duration in ms, s, m or h", "write it like 60s, 500ms or 2m"
        )
    return seconds


def format_duration(seconds: float) -> str:
    """`seconds` as text that `parse_duration` reads back exactly: `60s`, `0.5s`."""
    return f"{repr(float(seconds)).removesuffix('.0')}s"


def parse_size(value: object, key: str = "size") -> int:
    """Bytes in `1MiB`, `64KiB`, `1.5GiB` (powers of 1024), `1MB` (of 1000); a number is bytes.

    Raises:
        UserError: naming `key`, for anything else, for a fraction of a byte, from 2^63 on, and
            for `1M`, which could mean either.
    """
    size = _bytes(value)
    if size is None or size.denominator != 1 or not 0 <= size <= _LARGEST:
        raise UserError(
            key, shown(value), "a size in B, KiB, MiB, GiB, KB, MB or GB", "write it like 1MiB"
        )
    return int(size)


def format_size(size: int) -> str:
    """`size` bytes in the largest power of 1024 that divides it: `1MiB`, `1000B`."""
    unit = next(name for name, step in _BINARY.items() if size % step == 0 and (size or step == 1))
    return f"{size // _BINARY[unit]}{unit}"


def _seconds(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:
            return None
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    digits, exponent, unit = match.groups()
    number = float(digits + (exponent or ""))
    return number / 1000 if unit == "ms" else number * _SECONDS[unit or "s"]


def _bytes(value: object) -> Fraction | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Fraction(value)
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    digits, unit = match.groups()
    step = _BYTES.get(unit.lower() or "b")
    return None if step is None else Fraction(digits) * step
