"""A whole cluster on this machine: one process a role, watched from the first to the last.

Processes and their signals are the business of `children`, words for people that of `screen`;
here stands the order of events: start, wait until the controller listens, watch, end.
"""

import json
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

from ..common import partition
from ..common.clock import SystemClock
from ..common.errors import RoleError, UserError
from ..common.job import Job, to_toml
from ..common.keys import ROLES, KeyRing
from ..common.session import PUT_OUT
from ..common.transport import parse_address
from ..common.types import Role
from .children import Child, Children
from .operator import Operator
from .outfolder import OutFolder
from .screen import Screen
from .signals import Signals, signal_name

BAD_INPUT = UserError.exit_status
POLL = 0.2
"""Seconds between two looks at the children and the controller."""
ANSWER = 1.0
"""Seconds to wait for one answer of the controller."""
SILENCE = 5.0
"""Seconds beyond the lease without any answer after which the controller counts as hung."""
RESTARTS = 3
"""How often workers of a cut net are started again in one job."""
GOODBYE = 3.5
"""Seconds that roles have to end by themselves once the job is over: longer than the controller
waits for their goodbyes, shorter than the 5 s in which all must be gone."""


class Interrupted(RoleError):
    """A signal has ended the job."""

    def __init__(self, number: int, words: str) -> None:
        self.exit_status = 128 + number
        super().__init__(f"stopped by {signal_name(number)}{words}")


def train_locally(job: Job, out: Path | None) -> tuple[int, dict[str, Any]]:
    """Run a job to its end in `out`, or in a new folder. Only the main thread may call it.

    Returns:
        the exit status, and the totals of `summary.json` (empty if the job did not complete).
    Raises:
        UserError: the run directory cannot be made, keys are missing, or a role found bad input;
            nothing is left behind then.
        RoleError: the cluster did not come to stand, or was stopped.
    """
    if job.security.keys:
        for role in ROLES:  # each would find it out for itself, but later
            KeyRing(Path(job.security.keys), role)
    with Signals() as signals:
        folder = OutFolder.of(job, out)
        lock = folder.lock()
        try:
            with LocalCluster(job, folder.path, signals) as cluster:
                failed = cluster.run()
        except UserError:
            if not folder.holds_epochs():
                folder.discard()
            raise
        except Interrupted:
            if not cluster.stands:
                folder.discard()
            raise
        finally:
            lock.release()
    summary = folder.path / "summary.json"
    totals = json.loads(summary.read_text()) if summary.exists() else {}
    cluster.screen.finish(totals)
    for child in failed:
        cluster.screen.complain(child.ending())
    return 1 if failed else 0, totals


class LocalCluster:
    """The children, the operator's line to their controller, and the screen.

    A context: when it is left, no child is.
    """

    def __init__(self, job: Job, out: Path, signals: Signals) -> None:
        self.job, self.out = job, out
        self.screen = Screen(job, out)
        self._signals = signals
        self._clock = SystemClock()
        self._children = Children(out / "logs", self._clock)
        self._operator: Operator | None = None
        self._keys = Path(job.security.keys).resolve() if job.security.keys else None
        self._host = socket.gethostname()
        self._announce = (out / "logs" / "controller.address").resolve()
        self._heard_at = 0.0
        self._restarts = 0

    def __enter__(self) -> "LocalCluster":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._children.end(0, self._hurry)
        if self._operator is not None:
            self._operator.close()

    def _hurry(self) -> bool:
        return self._signals.urgent

    @property
    def stands(self) -> bool:
        """Whether the controller has ever listened."""
        return self._operator is not None

    @property
    def _controller(self) -> Child:
        return self._children.all[0]

    def run(self) -> list[Child]:
        """Start, watch, and wait for the end; the roles that failed beside a complete job.

        Raises:
            UserError, RoleError: the job did not complete.
        """
        with self.screen:
            self._start()
            self._operator = Operator(self._wait_for_controller(), self._keys)
            self._heard_at = self._clock.now()
            while self._watch():
                pass
        killed = (self._controller.status or 0) < 0
        self._children.end(0 if killed else GOODBYE, self._hurry)
        if self._controller.status:
            raise self._controller_failed()
        return [child for child in self._children.all if child.status and not child.replaced]

    def _start(self) -> None:
        """Start all roles at once: each waits for the controller's address by itself."""
        self.screen.starting()
        self._announce.unlink(missing_ok=True)  # of the life before, where the job goes on
        job_file = self.out / "logs" / "job.toml"
        job_file.write_text(to_toml(self.job))
        timeout = self._timeout()
        out = ["--out", str(self.out.resolve())]
        listen = ["--bind", "127.0.0.1:0", "--announce", str(self._announce)]
        self._children.start(Role.CONTROLLER, 0, [str(job_file.resolve()), *out, *listen, *timeout])
        for role, count in (
            (Role.PARAMSERVER, self.job.paramserver.count),
            (Role.DATASERVER, self.job.dataserver.count),
            (Role.WORKER, self.job.worker.count),
        ):
            for rank in range(count):
                self._join(role, rank)

    def _timeout(self) -> list[str]:
        keys = [] if self._keys is None else ["--keys", str(self._keys)]
        return ["--start-timeout", f"{self.job.job.start_timeout}s", *keys]

    def _join(self, role: Role, rank: int) -> None:
        """Start a role that joins the controller."""
        where = ["--controller", f"@{self._announce}", "--rank", str(rank)]
        self._children.start(role, rank, [*where, *self._timeout()])

    def _wait_for_controller(self) -> str:
        """The controller's address, once it listens."""
        limit = self.job.job.start_timeout
        deadline = self._clock.now() + limit
        while not self._announce.exists():
            if self._signals.first:
                raise Interrupted(self._signals.first, " before the cluster stood")
            for child in self._children.all:
                if child.status:
                    raise child.blame()
            if self._clock.now() > deadline:
                raise RoleError(
                    f"the controller did not listen within {limit:g} s (log: "
                    f"{self._controller.log}); allow more time with --start-timeout"
                )
            self._pause(0.02)
        return parse_address(self._announce.read_text().strip(), "--controller")

    def _watch(self) -> bool:
        """One look at everything; False once the controller has ended."""
        assert self._operator is not None
        if self._signals.first:
            self._interrupted(self._operator)
        if self._controller.status is not None:
            return False
        for child in self._children.all:
            if child.status is not None and not child.reported:
                child.reported = True
                self._operator.report_death(self._host, child.process.pid, child.status)
                if child.status and self.screen.joining:
                    raise child.blame()
        dead = [child for child in self._children.all if self._wants_another(child)]
        report = self._operator.status(ANSWER)
        if report is not None:
            self._heard_at = self._clock.now()
            self.screen.show(report)
            # A word that is newer than the deaths: at the end of a job workers end, too.
            if report["phase"] == "training":
                self._replace(dead)
        elif self._controller.status is None:
            self._check_silence()
        return not self._pause(POLL)

    def _wants_another(self, child: Child) -> bool:
        """Whether this was a worker of a cut net that has failed by itself: its neighbours wait for
        another one in its place. What bad input it found would be found again."""
        if child.role is not Role.WORKER or not partition.is_cut(self.job) or child.replaced:
            return False
        status = child.status
        if status is None or status in (0, BAD_INPUT):
            return False
        return status < 0 or not child.last_words().startswith(PUT_OUT)

    def _replace(self, dead: list[Child]) -> None:
        """Start workers again, as often as a job may."""
        for child in dead[: RESTARTS - self._restarts]:
            self._restarts += 1
            child.replaced = True
            count = f"{self._restarts} of {RESTARTS} times"
            self.screen.say(f"{child.ending()}: started again, {count}")
            self._join(child.role, child.rank)

    def _pause(self, seconds: float) -> bool:
        """Wait; True at once when the controller ends."""
        try:
            self._controller.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _check_silence(self) -> None:
        silent = self._clock.now() - self._heard_at
        if silent > self.job.job.lease + SILENCE:
            raise RoleError(
                f"the controller runs but has not answered for {silent:.0f} s "
                f"(log: {self._controller.log})"
            )

    def _interrupted(self, operator: Operator) -> None:
        """End the job in order: ask the controller, who tells everyone."""
        number = self._signals.first
        self.screen.say(f"{signal_name(number)}: stopping all roles (once more: at once)")
        if operator.stop(128 + number, f"stopped by {signal_name(number)}", ANSWER):
            self._children.end(GOODBYE, self._hurry)
        raise Interrupted(number, f"; run directory: {self.out}")

    def _controller_failed(self) -> RoleError | UserError:
        """Why the job did not complete: the controller's words say it, also those of the roles."""
        said = self._controller.blame()
        if isinstance(said, UserError) or (self._controller.status or 0) < 0:
            return said
        return RoleError(f"{self._controller.last_words()} (logs: {self.out / 'logs'})")
