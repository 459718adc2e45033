"""The other processes of a benchmark: started, stopped while others are measured, and ended.

None outlives the benchmark, even if that is killed while they stand still.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..common.errors import RoleError

PATIENCE = 10.0
"""Seconds that a process has to end after SIGTERM."""
_PDEATHSIG = 1  # prctl(2): the signal that a process gets when its parent ends
_libc = ctypes.CDLL(None)


def module_command(module: str, *arguments: object) -> list[str]:
    """The command that runs one of our modules; -P: a user's files must not hide modules."""
    return [sys.executable, "-P", "-m", f"dualshard.{module}", *map(str, arguments)]


def clean_environment(*dropped: str) -> dict[str, str]:
    """The environment without what would change a job, and without variables named `dropped`."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DUALSHARD_", "DMLC_")) and name not in dropped
    }


@contextmanager
def started(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    *,
    output: int = subprocess.DEVNULL,
    errors: int | None = None,
    patience: float = PATIENCE,
) -> Iterator[subprocess.Popen[str]]:
    """A process that runs in `folder` while the context lasts, with a pipe as standard input.

    When the context is left it gets SIGTERM, and `patience` seconds later SIGKILL. What it writes
    goes to `output`, and its errors to `errors` where that is given.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output if errors is None else errors,
        cwd=folder,
        env=clean_environment() if environment is None else environment,
        text=True,
        preexec_fn=_end_with_parent,
    )
    with process:
        try:
            yield process
        finally:
            if patience:
                process.send_signal(signal.SIGCONT)
                process.terminate()
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                process.kill()


def _end_with_parent() -> None:
    _libc.prctl(_PDEATHSIG, signal.SIGKILL)


def finish(process: subprocess.Popen[str], what: str, limit: float) -> str:
    """The output of a process that was started with `output=PIPE`, once it has ended.

    Raises:
        RoleError: it failed, or did not end within `limit` seconds.
    """
    try:
        output, errors = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        raise RoleError(f"{what} did not end within {limit:g} s") from None
    if process.returncode:
        said = errors.strip().splitlines() or ["it wrote nothing"]
        raise RoleError(f"{what} ended with status {process.returncode}: {said[-1]}")
    return output


def pause(process: subprocess.Popen[str]) -> None:
    """Let a process stand still: idle peers must take no time from the one that is measured."""
    process.send_signal(signal.SIGSTOP)


@contextmanager
def running(process: subprocess.Popen[str]) -> Iterator[None]:
    """Let a paused process run while the context lasts."""
    process.send_signal(signal.SIGCONT)
    try:
        yield
    finally:
        pause(process)
