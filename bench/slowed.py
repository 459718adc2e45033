"""A cluster of `dualshard train` one of whose machines is slow: see `slowing`."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..common.errors import RoleError
from ..common.transport import parse_address
from ..deploy.operator import Operator
from .processes import module_command

LOOK = 0.05
"""Seconds between two looks at a cluster that is about to train."""
ANSWER = 1.0
"""Seconds to wait for a controller's answer."""


@contextmanager
def slower(process: subprocess.Popen[str], run: Path, rank: int, times: float) -> Iterator[None]:
    """Slow one worker down, from when the cluster trains until the context is left.

    Nothing is slowed where the cluster ends before it trains; whoever started it sees why.

    Arguments:
        process: the `dualshard train`. run: its run directory.
        rank: the worker's. times: as long as it would take otherwise.
    Raises:
        RoleError: the worker could not be slowed down.
    """
    with subprocess.Popen(
        module_command("bench.slowing", times),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as slowing:
        assert slowing.stdin is not None
        assert slowing.stderr is not None
        try:
            pid = _training(process, run, rank)
            if pid is not None:
                slowing.stdin.write(f"{pid}\n")
                slowing.stdin.flush()
            yield
        finally:
            slowing.stdin.close()
        if slowing.wait():
            said = slowing.stderr.read().strip().splitlines()
            raise RoleError(f"worker-{rank} was not slowed down: {said[-1]}")


def _training(process: subprocess.Popen[str], run: Path, rank: int) -> int | None:
    """The pid of a worker, once the cluster trains; None if it ends before that."""
    announced = run / "logs" / "controller.address"
    while not announced.exists():
        if process.poll() is not None:
            return None
        time.sleep(LOOK)
    operator = Operator(parse_address(announced.read_text().strip(), "--controller"))
    try:
        while process.poll() is None:
            report = operator.status(ANSWER) or {}
            if report.get("phase") == "training":
                return _pid(report["roles"], rank)
            time.sleep(LOOK)
    finally:
        operator.close()
    return None


def _pid(roles: object, rank: int) -> int | None:
    """The pid of the worker of this rank in a status report."""
    assert isinstance(roles, list)
    found = [row["pid"] for row in roles if row["role"] == "worker" and row["rank"] == rank]
    return found[0] if found else None
