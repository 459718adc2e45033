"""A job on many hosts, watched from the first to the last: the order of events.

What an end means is judged in `endings`; processes, pipes and beats are the business of `remote`,
words for people that of the screen.
"""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from ...common.clock import SystemClock
from ...common.errors import RoleError, UserError
from ...common.transport import parse_address
from ...common.types import Role
from ..children import Reported
from ..local import ANSWER, GOODBYE, POLL, SILENCE, Interrupted
from ..operator import Operator
from ..roles import LISTENS
from ..screen import Screen
from ..signals import Signals, signal_name
from .commands import Command
from .endings import AGAIN_AFTER, MORTAL, Verdict, how, judge
from .plan import Plan
from .remote import Remote, Remotes

ENDS = ("finishing", "stopped")
"""Phases of a job in which roles end as they should."""

AFTERWARDS = 0.5
"""Seconds that roles have to end once they have said goodbye to the controller."""


@dataclass
class _Away:
    """A host that is lost: what is to be started there, when to try, and with what it is tried."""

    commands: list[Command] = field(default_factory=list)
    again_at: float = 0.0
    trying: Command | None = None


class RemoteCluster:
    """The roles on their hosts, the operator's line to their controller, and the screen.

    Arguments:
        made: the commands of all roles, the controller first.
        as_argument_list: what starts a role on its host.
    """

    def __init__(
        self,
        plan: Plan,
        made: Sequence[Command],
        as_argument_list: Callable[[Command], Sequence[str]],
        out: Path,
        signals: Signals,
    ) -> None:
        self.screen = Screen(plan.job, out, events=False)
        self.report: dict[str, Any] = {}
        self.failed: list[Remote] = []
        self._plan, self._made, self._out, self._signals = plan, made, out, signals
        self._clock = SystemClock()
        self._began = self._clock.now()
        self._remotes = Remotes(out / "logs", self._clock, as_argument_list, self._say)
        # Nothing is asked before our controller listens: another job's may have its port.
        host, keys = made[0].host, Path(plan.keys) if plan.keys else None
        self._where = parse_address(f"{host.reached_at}:{plan.port}", "--controller")
        self._operator = Operator(self._where, keys)
        self._address = ""
        self._heard_at = 0.0
        self._restarts = 0
        self._away: dict[str, _Away] = {}
        self._present: set[int] = set()

    def _hurry(self) -> bool:
        return self._signals.urgent

    def _say(self, remote: Remote, line: str) -> None:
        if remote.command.placed.role is Role.CONTROLLER and line.startswith(LISTENS):
            self._address = line.removeprefix(LISTENS).strip()
        self.screen.say(f"[{remote.name}] {line}")

    @property
    def _controller(self) -> Remote:
        return self._remotes.all[0]

    @property
    def results_at(self) -> str:
        """The host where the run directory is."""
        return self._made[0].host.name

    @property
    def stands(self) -> bool:
        """Whether the controller has ever listened."""
        return bool(self._address)

    def run(self) -> None:
        """Start, watch, and wait for the end; then `failed` are those beside a complete job. When
        it returns or raises no role is left.

        Raises:
            UserError, RoleError: the job did not complete.
        """
        try:
            self._run()
        finally:
            self._remotes.end(0, self._hurry)
            self._remotes.close()
            self._operator.close()

    def _run(self) -> None:
        with self.screen:
            self.screen.starting()
            self._remotes.start(self._made[:1])
            # Alone at first: on a port that another job has, the others would join that job.
            self._wait_for_controller()
            self._heard_at = self._clock.now()
            self._remotes.start(self._made[1:])
            while self._watch():
                pass
        self._remotes.end(GOODBYE, self._hurry)
        self._check_controller()
        self.failed += [one for one in self._remotes.ended() if self._judged(one) in FAILURES]

    def _wait_for_controller(self) -> None:
        limit = self._plan.job.job.start_timeout
        deadline = self._clock.now() + limit
        while not self.stands:
            if self._signals.first:
                raise Interrupted(self._signals.first, " before the cluster stood")
            if any(self._remotes.ended()):
                self._check_start(self._controller)
                self._check_controller()
            if self._clock.now() > deadline:
                raise RoleError(
                    f"{self._controller.name} did not listen within {limit:g} s "
                    f"(log: {self._controller.log}); allow more time with --start-timeout"
                )
            self._remotes.turn(POLL)

    def _watch(self) -> bool:
        """One look at everything; False once the controller has ended."""
        operator = self._operator
        if self._signals.first:
            self._interrupted()
        self._remotes.turn(POLL)
        gone = list(self._remotes.ended())
        if self._controller in gone:
            return False
        for remote in gone:
            if remote.ran and not remote.reported and self._judged(remote) is not Verdict.LOST:
                remote.reported = True
                operator.report_death(remote.nodename, remote.pid, remote.status or 0)
        report = operator.status(ANSWER)
        if report is not None:
            self._heard_at = self._clock.now()
            self.report = report
            self.screen.show(report)
            self._name_the_silent(report)
            # A word that is newer than the ends: when a job is over all roles end.
            if report["phase"] not in ENDS:
                for remote in gone:
                    self._settle(remote)
                self._try_again()
        elif self._clock.now() - self._heard_at > self._plan.job.job.lease + SILENCE:
            self._remotes.turn(0)
            if self._controller.status is None:
                silent = self._clock.now() - self._heard_at
                raise RoleError(
                    f"the controller has not answered for {silent:.0f} s: it must be reached from "
                    f"here at {self._where} (log: {self._controller.log})"
                )
        return True

    def _judged(self, remote: Remote) -> Verdict:
        role, status = remote.command.placed.role, remote.status or 0
        joining = self.screen.joining
        return judge(role, status, ran=remote.ran, joining=joining, words=remote.words())

    def _settle(self, remote: Remote) -> None:
        """Do what follows from an end. Raises `RoleError` or `UserError` if that is the end."""
        remote.settled = True
        verdict = self._judged(remote)
        if verdict is Verdict.LOST:
            self._lost(remote)
            return
        self._check_start(remote)
        if verdict in (Verdict.DONE, Verdict.TURNED_AWAY):
            return
        self.failed.append(remote)
        told = f"{remote.name} {how(remote.status or 0, remote.words())}"
        if verdict is Verdict.FATAL or (verdict is Verdict.MORTAL and not self._restarts_left):
            raise self._fatal(remote)
        if verdict is Verdict.MORTAL:
            self.failed.remove(remote)
            self._restart([remote.command], f"{told} (log: {remote.log})")

    @property
    def _restarts_left(self) -> int:
        return self._plan.max_restarts - self._restarts

    def _restart(self, commands: Sequence[Command], why: str) -> None:
        self._restarts += len(commands)
        count = f"{self._restarts} of {self._plan.max_restarts} times"
        self.screen.say(f"{why}: started again, {count}")
        self._remotes.start(commands)

    def _lost(self, remote: Remote) -> None:
        """A host is gone. What ran there ends by itself; when the host is back it is started."""
        host, command = remote.command.host.name, remote.command
        away = self._away.setdefault(host, _Away())
        away.again_at = self._clock.now() + AGAIN_AFTER
        if away.trying is command and not remote.ran:
            away.trying = None
            self._restarts -= 1
        else:
            self.screen.complain(f"host {host} is lost, and {command.name} with it")
        if command.placed.role in MORTAL:
            away.commands.append(command)

    def _try_again(self) -> None:
        """Start one role on each host that is lost, now and then; once it runs, the others."""
        for host, away in list(self._away.items()):
            if away.trying is not None:
                tried = self._remotes.latest(away.trying)
                if tried is not None and tried.ran:
                    again = away.commands[: self._restarts_left]
                    names = ", ".join(one.name for one in (away.trying, *again))
                    del self._away[host]
                    self._restart(again, f"host {host} is back, with {names}")
            elif away.commands and self._restarts_left and self._clock.now() >= away.again_at:
                away.trying = away.commands.pop(0)
                self._restarts += 1
                self._remotes.start([away.trying])

    def _name_the_silent(self, report: dict[str, Any]) -> None:
        """Say on which host a role was that the controller has given up, while ssh still waits."""
        present = {role["pid"] for role in report["roles"]}
        if report["phase"] not in ENDS:
            for remote in self._remotes.running:
                if remote.pid in self._present - present:
                    self.screen.complain(
                        f"host {remote.command.host.name}: nothing is heard of "
                        f"{remote.command.name} there"
                    )
        self._present = present

    def _check_start(self, remote: Remote) -> None:
        """Raises UserError if a role was never started because of what its host is, or lacks."""
        host, where = remote.command.host, self._plan.hostfile or "--hostfile"
        verdict, words = self._judged(remote), remote.words()
        if verdict is Verdict.UNREACHABLE:
            ssh = shlex.join([*self._plan.ssh, host.target])
            words = words.removeprefix("ssh: ").rstrip(".")
            fix = f"{words}: make `{ssh} true` work without a password"
            raise UserError(
                f"{where} line {host.line}", host.target, "a host that ssh reaches", fix
            )
        if verdict is Verdict.ABSENT:
            expected = "a host where dualshard starts"
            fix = f"{words}: install dualshard there, or give its python=, command= or directory="
            raise UserError(f"{where} line {host.line}", host.target, expected, fix)

    def _fatal(self, remote: Remote) -> RoleError | UserError:
        """End all roles, and say who failed first, and what followed."""
        told = f"{remote.name} {how(remote.status or 0, remote.words())}"
        if self._operator.stop(1, told, ANSWER):
            self._follow_controller()
        self._remotes.end(0, self._hurry)
        if remote.status == UserError.exit_status:
            return Reported(f"{remote.words()} (on {remote.command.host.name})")
        self._tell_failures()
        return RoleError(f"{told} (logs: {self._out / 'logs'})")

    def _tell_failures(self) -> None:
        """Say who failed first, with its last lines, and who else has; of those that the controller
        has told to end nothing is said."""
        reason = self.report.get("reason") or self._controller.words()
        failures = sorted(
            (one for one in self._remotes.all if self._failed_by_itself(one, reason)),
            key=lambda one: one.ended_at,
        )
        for number, remote in enumerate(failures):
            told = how(remote.status or 0, remote.words())
            after = f"{remote.ended_at - self._began:.1f} s after the launch began"
            if number:
                self.screen.complain(f"then {remote.name}, {after}, {told}")
                continue
            self.screen.complain(f"{remote.name} failed first, {after}: it {told}. It said last:")
            for line in remote.tail():
                click.echo(f"[{remote.name}] {line}", err=True)

    def _failed_by_itself(self, remote: Remote, reason: str) -> bool:
        return (
            remote is not self._controller
            and self._judged(remote) in FAILURES
            and remote.words() != reason
            and not remote.ended_by_us
        )

    def _follow_controller(self) -> None:
        """The controller has been told to stop: it waits for the goodbyes of those who have joined,
        and nobody else knows of it."""
        deadline = self._clock.now() + GOODBYE
        while self._controller.status is None and self._clock.now() < deadline:
            if self._hurry():
                return
            self._remotes.turn(POLL)
        self._remotes.end(AFTERWARDS, self._hurry)

    def _interrupted(self) -> None:
        """End the job in order: ask the controller, who tells everyone."""
        number = self._signals.first
        self.screen.say(f"{signal_name(number)}: stopping all roles (once more: at once)")
        if self._operator.stop(128 + number, f"stopped by {signal_name(number)}", ANSWER):
            self._follow_controller()
        raise Interrupted(number, f"; logs: {self._out / 'logs'}")

    def _check_controller(self) -> None:
        """Raises what the controller's end says, if it was not a good one."""
        controller = self._controller
        status, words = controller.status or 0, controller.words()
        if not status:
            return
        if status == UserError.exit_status:
            shared = any(one.words() == words for one in self._remotes.all[1:])
            raise Reported(words if shared else f"{words} (on {controller.command.host.name})")
        verdict = self._judged(controller)
        if verdict is Verdict.LOST:
            raise RoleError(
                f"host {controller.command.host.name}, where the controller ran, is lost"
            )
        self._tell_failures()
        raise RoleError(f"{words} (logs: {self._out / 'logs'})")


FAILURES = (Verdict.FATAL, Verdict.MORTAL, Verdict.PUT_OUT)
"""Ends that are a role's own failure."""
