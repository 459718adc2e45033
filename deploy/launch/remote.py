"""The roles of a launch as seen from the launcher: one ssh each, its output, and its beat.

Nothing but these children of ours is ever signalled. Each leads a session of its own, so that
Ctrl-C in a terminal reaches only the launcher. A beat a second tells the far end that we live;
the end of its input tells it that we do not, or that it is to end (see `tether`).
"""

import contextlib
import os
import selectors
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...common.clock import Clock
from ..children import last_words
from .commands import Command
from .endings import TAIL
from .tether import STARTED

BEAT = 1.0
"""Seconds between two beats."""
LOGINS = 6
"""Logins to one host at a time: sshd drops some from the tenth on."""
LOOK = 0.1
AFTER_END = 4.0
"""Seconds that roles have once their input has ended: more than `tether` gives them."""
AFTER_SIGNAL = 1.0
"""Seconds that ssh has to end after a signal."""
_CHUNK = 1 << 16


@dataclass
class Remote:
    """One role on its host; `pid` and `nodename` are known once it runs there."""

    command: Command
    process: "subprocess.Popen[bytes]"
    log: Path
    began: float
    pid: int = 0
    nodename: str = ""
    ended_at: float = 0.0
    settled: bool = False
    """Whether what follows from its end has been done."""
    reported: bool = False
    """Whether the controller has been told of its end."""
    ended_by_us: bool = False
    """Whether it still ran when its input was closed."""
    quiet: bool = False
    """Whether nothing more is to be read of it."""
    rest: bytes = field(default=b"", repr=False)

    @property
    def name(self) -> str:
        """`worker-1@host-b`."""
        return f"{self.command.name}@{self.command.host.name}"

    @property
    def ran(self) -> bool:
        """Whether the role was started on its host."""
        return self.pid != 0

    @property
    def status(self) -> int | None:
        """ssh's exit status, as of a shell; None while it runs."""
        status = self.process.poll()
        return 128 - status if status is not None and status < 0 else status

    def words(self) -> str:
        """What it said about its end."""
        return last_words(self.log)

    def tail(self) -> list[str]:
        """The last lines of its output."""
        return self.log.read_text(errors="replace").splitlines()[-TAIL:]


class Remotes:
    """All of a launch; what they say goes to `logs`/ROLE-N.log, and a line at a time to `say`."""

    def __init__(
        self,
        logs: Path,
        clock: Clock,
        as_argument_list: Callable[[Command], Sequence[str]],
        say: Callable[[Remote, str], object],
    ) -> None:
        self.all: list[Remote] = []
        self._logs, self._clock, self._say = logs, clock, say
        self._as_argument_list = as_argument_list
        self._waiting: list[Command] = []
        self._selector = selectors.DefaultSelector()
        self._beat_at = 0.0

    def start(self, commands: Sequence[Command]) -> None:
        """Start roles, of each host a few at a time."""
        self._waiting += commands
        self._start_some()

    def latest(self, command: Command) -> Remote | None:
        """The newest life of a role; None before the first."""
        return next((one for one in reversed(self.all) if one.command is command), None)

    @property
    def running(self) -> list[Remote]:
        """Those whose ssh runs."""
        return [remote for remote in self.all if remote.status is None]

    def _start_some(self) -> None:
        for command in list(self._waiting):
            host = command.host.target
            there = [one for one in self.running if one.command.host.target == host]
            if sum(not one.ran for one in there) < LOGINS:
                self._waiting.remove(command)
                self._start(command)

    def _start(self, command: Command) -> None:
        process = subprocess.Popen(  # noqa: S603 (an argument list, no shell of ours)
            self._as_argument_list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        for pipe in (process.stdin, process.stdout):
            os.set_blocking(pipe.fileno(), False)
        log = self._logs / f"{command.name}.log"
        remote = Remote(command, process, log, self._clock.now())
        self.all.append(remote)
        self._selector.register(process.stdout, selectors.EVENT_READ, remote)
        _beat(remote)

    def turn(self, patience: float) -> None:
        """Read what roles say for up to `patience` seconds, start those that wait, and beat."""
        for key, _ in self._selector.select(patience):
            self._read(key.data)
        for remote in self.all:
            if remote.status is not None and not remote.ended_at:
                remote.ended_at = self._clock.now()
        self._start_some()
        if self._clock.now() - self._beat_at >= BEAT:
            self._beat_at = self._clock.now()
            for remote in self.running:
                _beat(remote)

    def ended(self) -> Iterator[Remote]:
        """Those that have ended, with all that they said, and are not settled yet."""
        for remote in self.all:
            if remote.status is not None and not remote.settled:
                while not remote.quiet and self._read(remote):
                    pass
                yield remote

    def _read(self, remote: Remote) -> bool:
        """Read once; whether there was anything."""
        assert remote.process.stdout is not None
        try:
            chunk = os.read(remote.process.stdout.fileno(), _CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            self._selector.unregister(remote.process.stdout)
            remote.process.stdout.close()
            remote.quiet = True
        *lines, remote.rest = (remote.rest + chunk).split(b"\n")
        if not chunk or len(remote.rest) > _CHUNK:
            lines, remote.rest = [*lines, *([remote.rest] if remote.rest else [])], b""
        self._take(remote, [line.decode(errors="replace").rstrip("\r") for line in lines])
        return bool(chunk)

    def _take(self, remote: Remote, lines: list[str]) -> None:
        with remote.log.open("a") as log:
            for line in lines:
                if line.startswith(STARTED) and not remote.ran:
                    pid, _, remote.nodename = line.removeprefix(STARTED).partition(" on ")
                    remote.pid = int(pid) if pid.isascii() and pid.isdigit() else 0
                else:
                    log.write(line + "\n")
                    log.flush()
                    self._say(remote, line)

    def end(self, patience: float, hurry: Callable[[], bool]) -> None:
        """Return when none is left: they have `patience` seconds to end by themselves, then a few
        more when their input has ended. As soon as `hurry` is true no more time is given."""
        self._waiting.clear()
        self._wait(patience, hurry)
        for remote in self.all:
            remote.ended_by_us |= remote.status is None
            if remote.process.stdin is not None:
                with contextlib.suppress(OSError):  # a beat that nobody took
                    remote.process.stdin.close()
        self._wait(AFTER_END, hurry)
        for number in (signal.SIGTERM, signal.SIGKILL):
            for remote in self.running:
                remote.process.send_signal(number)
            self._wait(AFTER_SIGNAL, lambda: False)
        for remote in self.all:
            while not remote.quiet and self._read(remote):
                pass

    def close(self) -> None:
        """Listen no more; nobody runs."""
        self._selector.close()
        for remote in self.all:
            assert remote.process.stdout is not None
            remote.process.stdout.close()

    def _wait(self, patience: float, hurry: Callable[[], bool]) -> None:
        deadline = self._clock.now() + patience
        while self.running and self._clock.now() < deadline and not hurry():
            self.turn(LOOK)


def _beat(remote: Remote) -> None:
    assert remote.process.stdin is not None
    if not remote.process.stdin.closed:
        with contextlib.suppress(OSError):
            os.write(remote.process.stdin.fileno(), b".")
