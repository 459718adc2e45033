"""What ends a waiting poll from any thread."""

import contextlib
import os


class Bell:
    """Ends a waiting poll, from any thread or signal handler. Its descriptor is closed when nobody
    can ring any more, so that a late ring never reaches a file that has got its number."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def ring(self) -> None:
        os.eventfd_write(self.descriptor, 1)

    def silence(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.descriptor)

    def __del__(self) -> None:
        os.close(self.descriptor)
