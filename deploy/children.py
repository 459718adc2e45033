"""The processes of a local cluster: started, watched, and ended, and no other process ever.

Each child gets a pipe as its standard input, held open by this process alone: when this process
ends, however it ends, the pipe closes and the child ends too. Each is the leader of a session of
its own, so that Ctrl-C in a terminal reaches only the launcher, which then ends them in order.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..common.clock import Clock
from ..common.errors import RoleError, UserError
from ..common.types import Role
from .environment import of_a_role
from .signals import signal_name

LOOK = 0.05
"""Seconds between two looks at children that are to end."""
AFTER_TERM = 4.0
"""Seconds that children have to say goodbye after SIGTERM."""
AFTER_KILL = 1.0
"""Seconds that the kernel has to remove them after SIGKILL."""


@dataclass
class Child:
    """One role's process; `replaced` by another one of the same rank, or `reported` dead."""

    role: Role
    rank: int
    process: subprocess.Popen[bytes]
    log: Path
    reported: bool = False
    replaced: bool = False

    @property
    def name(self) -> str:
        """`worker-0`."""
        return f"{self.role}-{self.rank}"

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self.process.poll()

    def last_words(self) -> str:
        """What it said about its end."""
        return last_words(self.log)

    def ending(self) -> str:
        """How it ended, in one line."""
        status = self.status
        if status is not None and status < 0:
            return f"{self.name} was ended by {signal_name(-status)} (log: {self.log})"
        return f"{self.name} ended with status {status}: {self.last_words()} (log: {self.log})"

    def blame(self) -> RoleError | UserError:
        """The error of a launch that failed because this role did."""
        return Reported(self.last_words()) if self.status == 2 else RoleError(self.ending())


def last_words(log: Path) -> str:
    """The last line that a role itself wrote about its end, or else the last line of its log."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    said = [line for line in lines if line.startswith("dualshard: ")]
    if said:
        return said[-1].removeprefix("dualshard: ")
    return lines[-1] if lines else "it wrote nothing"


class Reported(UserError):
    """Bad input that a role has already put into words."""

    def __init__(self, words: str) -> None:
        Exception.__init__(self, words)


class Children:
    """All processes of one cluster; logs go to `logs`/ROLE-N.log."""

    def __init__(self, logs: Path, clock: Clock) -> None:
        self.all: list[Child] = []
        self._logs, self._clock = logs, clock

    def start(self, role: Role, rank: int, arguments: Sequence[str]) -> Child:
        """Start one role. What it says goes to its log."""
        log = self._logs / f"{role}-{rank}.log"
        # -P: a file in the working directory must not hide a module of the standard library.
        command = [sys.executable, "-P", "-m", "dualshard.deploy", str(role), "--end-with-stdin"]
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 (our own command, no shell)
                [*command, *arguments],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=of_a_role(os.environ),
            )
        child = Child(role, rank, process, log)
        self.all.append(child)
        return child

    def end(self, patience: float, hurry: Callable[[], bool] = lambda: False) -> None:
        """Return when no child is left.

        They have `patience` seconds to end by themselves, then until `AFTER_TERM` after SIGTERM,
        then none. As soon as `hurry` is true they are killed.
        """
        self._wait(patience, hurry)
        for child in self.all:
            if child.process.stdin is not None:
                child.process.stdin.close()
        self._signal(signal.SIGTERM)
        self._wait(AFTER_TERM, hurry)
        self._signal(signal.SIGKILL)
        self._wait(AFTER_KILL, lambda: False)

    def _signal(self, number: signal.Signals) -> None:
        for child in self.all:
            if child.status is None:
                child.process.send_signal(number)

    def _wait(self, patience: float, hurry: Callable[[], bool]) -> None:
        deadline = self._clock.now() + patience
        while running := [child for child in self.all if child.status is None]:
            left = deadline - self._clock.now()
            if left <= 0 or hurry():
                return
            try:
                running[0].process.wait(min(left, LOOK))
            except subprocess.TimeoutExpired:
                continue
