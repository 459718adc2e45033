"""A whole cluster on this machine: one process a role, watched from the first to the last.

Each child gets a pipe as its standard input, held open by this process alone: when this process
ends, however it ends, the pipe closes and the child ends too. Only our own children are signalled.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from ..common.clock import SystemClock
from ..common.errors import RoleError, UserError
from ..common.job import Job, to_toml
from ..common.transport import parse_address
from ..common.types import Role
from .operator import Operator
from .screen import Screen

POLL = 0.2
"""Seconds between two looks at the children and the controller."""
GRACE = 5.0
"""Seconds that children have to end by themselves, and again after SIGTERM."""


@dataclass
class Child:
    """One role's process."""

    role: Role
    rank: int
    process: subprocess.Popen[bytes]
    log: Path
    reported: bool = False

    @property
    def name(self) -> str:
        """`worker-0`."""
        return f"{self.role}-{self.rank}"

    def last_error(self) -> str:
        """The last line that the role itself wrote about its end."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        said = [line for line in lines if line.startswith("dualshard: ")]
        if said:
            return said[-1].removeprefix("dualshard: ")
        return lines[-1] if lines else "it wrote nothing"


def train_locally(job: Job, out: Path) -> tuple[int, dict[str, Any]]:
    """Run a job to its end.

    Returns:
        the exit status, and the totals of `summary.json` (empty if the job did not complete).
    Raises:
        UserError: the run directory cannot be made, or a role found bad input; nothing is left
            behind then.
    """
    made = make_run_directory(out)
    cluster = LocalCluster(job, out)
    try:
        status = cluster.run()
    except UserError:
        if made:
            shutil.rmtree(out, ignore_errors=True)
        raise
    finally:
        cluster.close()
    summary = out / "summary.json"
    totals = json.loads(summary.read_text()) if summary.exists() else {}
    cluster.screen.finish(totals, status)
    return status, totals


def make_run_directory(out: Path) -> bool:
    """Make the folder; whether it was not there before.

    Raises:
        UserError: it cannot be made or written, or holds a run.
    """
    fix = "choose a folder that you can write with --out DIR"
    made = not out.exists()
    try:
        (out / "logs").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as refused:
        raise UserError(
            "--out", out, "a folder that can be written", f"{refused.strerror}: {fix}"
        ) from None
    if (out / "metrics.jsonl").exists():
        raise UserError(
            "--out",
            out,
            "a folder without a run in it",
            "it holds an earlier one: choose another folder, or remove it",
        )
    return made


class LocalCluster:
    """The children, the operator's line to their controller, and the screen."""

    def __init__(self, job: Job, out: Path) -> None:
        self.job, self.out = job, out
        self.screen = Screen(job, out)
        self._clock = SystemClock()
        self._children: list[Child] = []
        self._operator: Operator | None = None
        self._signal = 0
        self._host = socket.gethostname()
        self._announce = (out / "logs" / "controller.address").resolve()

    def run(self) -> int:
        """Start, watch, and wait for the end; the exit status."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        self._start()
        deadline = self._clock.now() + self.job.job.start_timeout + GRACE
        self._wait_for_controller(deadline)
        with self.screen:
            while self._watch():
                pass
        return self._result()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = number

    def _start(self) -> None:
        """Start all roles at once: each waits for the controller's address by itself."""
        counts = [
            (Role.CONTROLLER, 1),
            (Role.PARAMSERVER, self.job.paramserver.count),
            (Role.DATASERVER, self.job.dataserver.count),
            (Role.WORKER, self.job.worker.count),
        ]
        job_file = self.out / "logs" / "job.toml"
        job_file.write_text(to_toml(self.job))
        self._announce.unlink(missing_ok=True)
        timeout = f"{self.job.job.start_timeout}s"
        for role, count in counts:
            for rank in range(count):
                if role is Role.CONTROLLER:
                    arguments = [
                        str(job_file.resolve()),
                        "--out",
                        str(self.out.resolve()),
                        "--bind",
                        "127.0.0.1:0",
                        "--announce",
                        str(self._announce),
                    ]
                else:
                    arguments = ["--controller", f"@{self._announce}", "--rank", str(rank)]
                self._spawn(role, rank, [*arguments, "--start-timeout", timeout])

    def _spawn(self, role: Role, rank: int, arguments: Sequence[str]) -> None:
        log = self.out / "logs" / f"{role}-{rank}.log"
        command = [
            sys.executable,
            "-m",
            "dualshard.deploy",
            str(role),
            "--end-with-stdin",
            *arguments,
        ]
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DUALSHARD_", "DMLC_"))
        }
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 (our own command, no shell)
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )
        self._children.append(Child(role, rank, process, log))

    def _wait_for_controller(self, deadline: float) -> None:
        while not self._announce.exists():
            self._check_interrupted()
            controller = self._children[0]
            if controller.process.poll() is not None or self._clock.now() > deadline:
                self._blame(controller)
            try:
                controller.process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
        address = parse_address(self._announce.read_text().strip(), "--controller")
        self._operator = Operator(address)

    def _blame(self, child: Child) -> None:
        """A role ended before the cluster stood.

        Raises:
            UserError, RoleError: with the role's own last words.
        """
        said = child.last_error()
        if child.process.poll() == 2:
            raise Reported(said)
        raise RoleError(
            f"{child.name} ended with status {child.process.poll()}: {said} (log: {child.log})"
        )

    def _check_interrupted(self) -> None:
        if self._signal:
            raise Interrupted(self._signal)

    def _watch(self) -> bool:
        """One look at everything; False once the controller has ended."""
        assert self._operator is not None
        if self._signal:
            name = signal.Signals(self._signal).name
            self.screen.say(f"{name}: stopping all roles")
            self._operator.stop(128 + self._signal, f"stopped by {name}", patience=2.0)
            return False
        controller = self._children[0]
        if controller.process.poll() is not None:
            return False
        for child in self._children[1:]:
            status = child.process.poll()
            if status is not None and not child.reported:
                child.reported = True
                self._operator.report_death(self._host, child.process.pid, status)
                if status:
                    self._lost_at_start(child)
        report = self._operator.status(patience=POLL * 5)
        if report is not None:
            self.screen.show(report)
        try:
            controller.process.wait(POLL)
        except subprocess.TimeoutExpired:
            return True
        return False

    def _lost_at_start(self, child: Child) -> None:
        """A role that dies before training began ends the start, with its own words."""
        assert self._operator is not None
        if self.screen.phase in ("", "joining"):
            self._operator.stop(child.process.returncode, child.last_error(), patience=2.0)
            self._blame(child)

    def _result(self) -> int:
        """Wait for all children; 0 only if every role ended well."""
        self._end_children()
        if self._signal:
            return 128 + self._signal
        controller = self._children[0]
        if controller.process.returncode == 2:
            raise Reported(controller.last_error())
        failed = [c for c in self._children if c.process.returncode != 0]
        if controller.process.returncode:
            self.screen.say(f"failed: {controller.last_error()}")
        else:
            for child in failed:
                self.screen.say(
                    f"{child.name} ended with status {child.process.returncode}: "
                    f"{child.last_error()} (log: {child.log})"
                )
        return 1 if failed else 0

    def _end_children(self) -> None:
        """Wait for our own children to end; ask, then force those that do not."""
        for force in (None, signal.SIGTERM, signal.SIGKILL):
            deadline = self._clock.now() + GRACE
            for child in self._children:
                if force is not None and child.process.poll() is None:
                    child.process.send_signal(force)
            for child in self._children:
                try:
                    child.process.wait(max(0.0, deadline - self._clock.now()))
                except subprocess.TimeoutExpired:
                    continue
            if all(child.process.poll() is not None for child in self._children):
                return

    def close(self) -> None:
        """Leave nothing behind: close the pipes, end what still runs."""
        for child in self._children:
            if child.process.stdin is not None:
                child.process.stdin.close()
        self._end_children()
        if self._operator is not None:
            self._operator.close()


class Reported(UserError):
    """Bad input that a role has already put into words."""

    def __init__(self, words: str) -> None:
        Exception.__init__(self, words)


class Interrupted(RoleError):
    """A signal came before the cluster stood."""

    def __init__(self, number: int) -> None:
        self.exit_status = 128 + number
        super().__init__(f"stopped by {signal.Signals(number).name}")
