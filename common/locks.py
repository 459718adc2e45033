"""A lock that one process holds as long as it lives, however it ends: flock(2) on a file."""

import fcntl
import os
from pathlib import Path


class Lock:
    """Held from `take` until `release`, or until the process ends. Children do not inherit it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path) -> "Lock | None":
        """The lock of this file, which is made if need be; None if somebody else holds it.

        Raises:
            OSError: the file cannot be opened.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return cls(descriptor)

    def release(self) -> None:
        """Let the next one have it."""
        os.close(self._descriptor)
