"""The exact command of each role: argument lists, and the one line of text that ssh takes. Pure.

The controller gets the resolved job as `--set key=value`, so that no file is copied anywhere; the
others learn it when they join. What differs by host (device, threads, keys) goes to the role there.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from ...common.job import SETTINGS, Job
from ...common.settings import Kind, with_lists
from ...common.toml import literal
from ...common.types import Role
from ...common.units import format_duration, format_size
from .hostfile import Host
from .placement import Placed, place
from .plan import Plan

OWN_OF_A_HOST = ("security.keys", "security.insecure")
"""Settings that each role is told by options of its own."""
LOGIN = 15.0
"""Seconds that ssh has to reach a host, at most."""
SSH_OPTIONS = {
    "BatchMode": "yes",  # nobody is there to be asked for a password
    "ServerAliveInterval": "2",
    "ServerAliveCountMax": "3",
    "ClearAllForwardings": "yes",
    "ControlPath": "none",  # each role has a connection of its own, that lives as long as it
}


@dataclass(frozen=True)
class Command:
    """How one role is started on its host: `arguments` follow `dualshard`."""

    placed: Placed
    arguments: tuple[str, ...]

    @property
    def name(self) -> str:
        """`worker-0`."""
        return self.placed.name

    @property
    def host(self) -> Host:
        """Where it runs."""
        return self.placed.host

    def line(self) -> str:
        """What one types into a shell on the host."""
        return shlex.join([*self.host.command, *self.arguments])


def commands(plan: Plan, out: str) -> list[Command]:
    """The commands of all roles of a plan with hosts, the controller first.

    Arguments:
        out: the run directory on the controller's host; empty: what the job resumes.
    Raises:
        UserError: no host may have a role.
    """
    controller, *others = place(plan.job, plan.hosts)
    address = f"{controller.host.reached_at}:{plan.port}"
    made = [Command(controller, tuple(controller_arguments(plan, controller.host, out)))]
    for placed in others:
        arguments = joining_arguments(plan, placed.role, placed.rank, placed.host, address)
        made.append(Command(placed, tuple(arguments)))
    return made


def controller_arguments(plan: Plan, host: Host, out: str) -> list[str]:
    """`controller` with the whole job, where it listens, and its run directory."""
    listen = ["--bind", f"{host.listening}:{plan.port}"]
    listen += ["--advertise", f"{host.reached_at}:{plan.port}"]
    folder = ["--out", out] if out else []
    return ["controller", *listen, *security(plan, host), *folder, "--launched", *sets(plan.job)]


def joining_arguments(plan: Plan, role: Role, rank: int, host: Host, address: str) -> list[str]:
    """The arguments of a role that joins the controller at `address` (HOST:PORT)."""
    arguments = [str(role), "--controller", address, "--rank", str(rank), *listen(host)]
    arguments += security(plan, host)
    arguments += ["--start-timeout", format_duration(plan.job.job.start_timeout)]
    if role is Role.WORKER:
        arguments += ["--device", host.device] if host.device else []
        arguments += ["--threads", str(host.threads)] if host.threads else []
    return arguments


def listen(host: Host) -> list[str]:
    """Where a role that joins listens, and where others reach it."""
    if host.interface:
        return ["--interface", host.interface] + (
            ["--advertise", host.address] if host.address else []
        )
    return ["--bind", f"{host.listening}:0", "--advertise", host.reached_at]


def security(plan: Plan, host: Host) -> list[str]:
    """Keys of the host's, or that there are none."""
    keys = host.keys or plan.keys
    return ["--keys", keys] if keys else ["--insecure"] if plan.insecure else []


def sets(job: Job) -> list[str]:
    """`--set key=value` for each setting that differs from its default."""
    words = []
    for key, rule in SETTINGS.items():
        value = job.value(key)
        if value != rule.default and key not in OWN_OF_A_HOST:
            words += ["--set", f"{key}={_as_text(rule.kind, value)}"]
    return words


def _as_text(kind: Kind, value: object) -> str:
    """A checked value as `--set` reads it."""
    match kind:
        case Kind.TEXT:
            return str(value)
        case Kind.DURATION:
            assert isinstance(value, float)
            return format_duration(value)
        case Kind.SIZE:
            assert isinstance(value, int)
            return format_size(value)
        case _:
            return literal(with_lists(value))


def ssh_command(plan: Plan, command: Command) -> list[str]:
    """The argument list that starts a role on its host by ssh."""
    options = [word for name, value in SSH_OPTIONS.items() for word in ("-o", f"{name}={value}")]
    patience = max(1, ceil(min(plan.job.job.start_timeout, LOGIN)))
    options += ["-o", f"ConnectTimeout={patience}", "-T"]
    return [*plan.ssh, *options, command.host.target, "--", remote_line(plan, command)]


def remote_line(plan: Plan, command: Command) -> str:
    """What the shell on the host is told: the role, tethered to whoever started it."""
    host = command.host
    near = [] if host.directory or not plan.directory else ["--near", plan.directory]
    words = [*host.command, "tether", *near, "--", *command.arguments]
    line = f"exec {shlex.join(words)}"
    return f"cd {shlex.quote(host.directory)} && {line}" if host.directory else line


def dry_run(lines: Sequence[Sequence[str]], placement: Sequence[str]) -> str:
    """The placement as comments, then the commands, one a line, to be pasted into a shell."""
    return "\n".join([*(f"# {row}" for row in placement), *map(shlex.join, lines)])
