"""The one place that knows time. Everything else is handed a `Clock`, or just `now` in seconds."""

import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic seconds; only differences mean anything."""

    def now(self) -> float:
        """Seconds since some fixed moment. Any thread may call it."""
        ...


class SystemClock:
    """The machine's monotonic clock."""

    def now(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that stands still until it is told to go on: an hour of time-outs in milliseconds."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def advance_to(self, moment: float) -> None:
        """Move on to `moment` (seconds); never backwards."""
        self._now = max(self._now, moment)


def sleep(seconds: float) -> None:
    """Do nothing for a while. For people's commands only: a role waits for events in its loop."""
    time.sleep(seconds)


def wall_time() -> float:
    """Seconds since 1970, for what people read (logs, run directories); never for deadlines."""
    return time.time()
