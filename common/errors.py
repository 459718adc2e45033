"""Every error that a user or a peer may see. Nothing here may import from the rest of the project.

An error says who broke it, the key and the value, what was expected, and the fix, in one line.
`UserError` ends a command with exit status 2 and no traceback; a `RemoteError` is the fault of a
peer and never harms the role that meets it; a `RoleError` ends a role with exit status 1.
"""

import traceback


class DualshardError(Exception):
    """The root of all errors that dualshard raises on purpose."""

    exit_status = 1


class UserError(DualshardError):
    """Bad input: a setting, a file, a reference. Shown as one line; exit status 2."""

    exit_status = 2

    def __init__(self, key: str, value: object, expected: str, fix: str) -> None:
        """`key` is the setting (`data.source`), `value` what it held, `fix` what to type."""
        self.key, self.value, self.expected, self.fix = key, value, expected, fix
        super().__init__(f"{key} = {_short(value)}: expected {expected}; {fix}")


class RemoteError(DualshardError):
    """A peer sent what the protocol does not allow. Counted, logged and dropped."""


class RoleError(DualshardError):
    """A role cannot go on: a lost controller, a start that never completes, a port in use."""


def describe(error: BaseException) -> str:
    """An unexpected error in one line: its type, its words, and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}{place}"


def _short(value: object, limit: int = 120) -> str:
    """`value` as one line of at most `limit` characters."""
    text = " ".join((value if isinstance(value, str) else repr(value)).split()) or "''"
    return text if len(text) <= limit else text[: limit - 1] + "…"
