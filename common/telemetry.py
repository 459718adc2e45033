"""Logs and counters of one role. Log lines bear `role-rank`; counters are plain numbers.

What a role counts travels to the controller with its heartbeats, and `dualshard status --json`
shows it. Nothing secret is ever passed in here.
"""

import logging
import sys
from collections import Counter

from .clock import Clock

RARELY = 5.0
"""Seconds between two log lines of `log_rarely`."""


class Telemetry:
    """One role's log and counters. Any thread may call `log`; the rest belongs to the loop."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.counters: Counter[str] = Counter()
        self._clock = clock
        self._logger = logging.getLogger("dualshard")
        self._last_rare = float("-inf")
        self._suppressed = 0

    def rename(self, name: str) -> None:
        """The role has learned its rank."""
        self.name = name

    def count(self, counter: str, by: int = 1) -> None:
        """Add to a counter."""
        self.counters[counter] += by

    def log(self, level: str, text: str) -> None:
        """One line: time, role-rank, level, text."""
        self._logger.log(getattr(logging, level.upper()), "%s: %s", self.name, text)

    def log_rarely(self, level: str, text: str) -> None:
        """As `log`, at most once in `RARELY` seconds, so that a flood cannot fill the disk."""
        if self._clock.now() - self._last_rare < RARELY:
            self._suppressed += 1
            return
        self._last_rare = self._clock.now()
        extra = f" ({self._suppressed} more like it were not logged)" if self._suppressed else ""
        self._suppressed = 0
        self.log(level, text + extra)


def log_to_stderr(level: str) -> None:
    """Send all log lines to the standard error (which a launcher keeps in logs/ROLE-N.log)."""
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        force=True,
        format="%(asctime)s %(levelname)-7s %(message)s",
    )
