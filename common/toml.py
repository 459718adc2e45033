"""TOML text of plain values, and text made safe for one line. Pure; nothing is read here.

Only what the job file needs is written: text, integers, finite floats, booleans, lists, and inline
tables. The standard library reads TOML but does not write it.
"""

import re
from collections.abc import Mapping
from typing import Any

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\t": "\\t",
    "\n": "\\n",
    "\f": "\\f",
    "\r": "\\r",
}


def literal(value: Any) -> str:
    """`value` as TOML on one line; reading it back gives an equal value (tuples come as lists)."""
    if isinstance(value, str):
        return f'"{"".join(map(_escaped, value))}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{bare_key(name)} = {literal(item)}" for name, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    assert isinstance(value, int | float), f"TOML text of a {type(value).__name__} is not needed"
    return repr(value)


def bare_key(name: str) -> str:
    """`name` as a TOML key, quoted where it has to be."""
    return name if _BARE_KEY.fullmatch(name) else literal(name)


def shown(value: Any) -> Any:
    """`value` for an error of one line: text that does not print on one comes quoted."""
    return literal(value) if isinstance(value, str) and not value.isprintable() else value


def _escaped(character: str) -> str:
    """One character inside a basic string: what does not print becomes an escape."""
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"
