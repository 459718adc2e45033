"""`dualshard tether -- ROLE ARGUMENTS`: a role that lives no longer than who started it.

A launcher far away cannot kill what it has started once it is dead, or once the network is cut. So
it starts this on the host, and writes a byte a second to its standard input. When that ends, or
once a beat has come and then none for `SILENCE`, the role is ended. Whoever types the command into
a shell sends no beats, and ends the role with the end of its input.

Only the standard library: it must be quick to start, since a launcher waits for each one.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
from types import FrameType
from typing import NoReturn

from ...common.clock import SystemClock
from ..environment import of_a_role
from ..signals import ENDING

SILENCE = 8.0
"""Seconds without a beat after which whoever started the role counts as gone. TCP sends a lost
packet again 0.2, 0.6, 1.4, 3.0 and 6.2 s later: where the network was cut for 3 s, so may beats."""
AFTER_TERM = 1.0
"""Seconds that a role has to end after SIGTERM. With `SILENCE` it stays below 10 s."""
LOOK = 0.1
"""Seconds between two looks at the role."""
STARTED = "dualshard tether: "
"""What is said before the role's process number and its host, as soon as it runs."""


class _Asked(BaseException):
    """An ending signal has come."""


def tether(arguments: list[str]) -> NoReturn:
    """Run `[--near DIR] -- ROLE ARGUMENTS` to its end, and leave with its status (128 + N for
    signal N). Runs in DIR if there is such a folder."""
    near, dashes, role = _parsed(arguments)
    if not (dashes and role):
        sys.exit("dualshard: tether = '': expected -- ROLE ARGUMENTS; a launcher writes them")
    if near:
        with contextlib.suppress(OSError):
            os.chdir(near)
    # -P: a file in the working directory must not hide a module of the standard library.
    command = [sys.executable, "-P", "-m", "dualshard.deploy", role[0], "--end-with-stdin"]
    for number in ENDING:
        signal.signal(number, _asked)
    child = subprocess.Popen(  # noqa: S603 (our own command, no shell)
        [*command, *role[1:]],
        stdin=subprocess.PIPE,
        start_new_session=True,
        env=of_a_role(os.environ),
    )
    with contextlib.suppress(_Asked, OSError):
        print(f"{STARTED}{child.pid} on {os.uname().nodename}", flush=True)
        _watch(child)
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    _end(child)
    status = child.wait()
    os._exit(status if status >= 0 else 128 - status)


def _parsed(arguments: list[str]) -> tuple[str, bool, list[str]]:
    before: list[str] = arguments
    role: list[str] = []
    dashes = "--" in arguments
    if dashes:
        cut = arguments.index("--")
        before, role = arguments[:cut], arguments[cut + 1 :]
    near = before[1] if len(before) == 2 and before[0] == "--near" else ""
    return near, dashes, role


def _asked(number: int, frame: FrameType | None) -> None:
    raise _Asked


def _watch(child: "subprocess.Popen[bytes]") -> None:
    """Return once the role has ended, or whoever started it is gone."""
    clock, beat_at, beats = SystemClock(), 0.0, False
    while child.poll() is None:
        ready, _, _ = select.select([0], [], [], LOOK)
        if ready:
            if not os.read(0, 4096):
                return
            beat_at, beats = clock.now(), True
        elif beats and clock.now() - beat_at > SILENCE:
            return


def _end(child: "subprocess.Popen[bytes]") -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(AFTER_TERM)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)  # it leads a group of its own
