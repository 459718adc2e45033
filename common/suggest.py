"""The nearest right name, for the fix that an error shows. Pure text; no input or output here."""

import difflib
from collections.abc import Iterable


def nearest(wrong: str, right: Iterable[str]) -> str | None:
    """The one of `right` that `wrong` was most likely meant to be, or None where none is near."""
    by_lower = {name.lower(): name for name in right}
    close = difflib.get_close_matches(wrong.lower(), by_lower, n=1)
    return by_lower[close[0]] if close else None


def did_you_mean(wrong: str, right: Iterable[str], otherwise: str) -> str:
    """`did you mean NAME?`, or `otherwise` where no name of `right` is near."""
    name = nearest(wrong, right)
    return otherwise if name is None else f"did you mean {name}?"
