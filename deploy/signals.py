"""What Ctrl-C, SIGTERM and a closed terminal do to a command. Only the standard library.

The kernel delivers them at any moment: until something has been started the process ends at once,
later `Signals` remembers them for the launcher, which ends its children first.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Handler = Callable[[int, FrameType | None], object]


def end_at_once() -> None:
    """Let a signal end this process with status 128 + its number and without a word."""
    _handle(lambda number, frame: os._exit(128 + number))


class Signals:
    """The ending signals that have come since it was entered. Use it in the main thread."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __enter__(self) -> "Signals":
        _handle(lambda number, frame: self.seen.append(number))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        end_at_once()

    @property
    def first(self) -> int:
        """The number of the first signal, 0 if none has come."""
        return self.seen[0] if self.seen else 0

    @property
    def urgent(self) -> bool:
        """Whether the user has asked more than once."""
        return len(self.seen) > 1


class Interrupted(BaseException):
    """A signal has come to what `interruptible` encloses."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, a signal raises `Interrupted`, also out of a call that waits; one more ends the
    process at once. Use it in the main thread."""
    kept = {number: signal.getsignal(number) for number in ENDING}
    _handle(_interrupt)
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    end_at_once()
    raise Interrupted(number)


def signal_name(number: int) -> str:
    """`SIGINT` for 2; `signal 99` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _handle(handler: Handler) -> None:
    for number in ENDING:
        # nohup ignores SIGHUP for the command that it starts, launch.slurm_task SIGTERM: that stays
        # so. (Shells ignore SIGINT for what runs in the background.)
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)
