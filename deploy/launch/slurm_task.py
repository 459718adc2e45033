"""`dualshard slurm-task OUT`: what every task of the batch script runs; it becomes its role.

The rules are in `slurm_roles`; here the environment is read, names are resolved, the log is opened,
and the process is replaced by the role's, or stays to start the role again.
"""

import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import click

from ...common.config import read_job
from ...common.errors import RoleError, UserError
from ...common.job import Job, to_toml
from ...common.types import Role
from ..environment import of_a_role
from ..options import keys_option
from .commands import joining_arguments, security
from .endings import MORTAL
from .hostfile import Host
from .plan import RESTARTS, Plan
from .slurm_keep import keep
from .slurm_roles import Task, controller_address, listens_on, role_of
from .slurm_script import role_counts

MARGIN = 1.0
"""Seconds beyond its lease after which the place of a role that was killed is free."""


@click.command("slurm-task", hidden=True)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The controller's.")
@keys_option
@click.option("--insecure", is_flag=True, help="Listen beyond this node without keys.")
@click.option("--max-restarts", default=RESTARTS, help="How often a killed role starts again.")
def slurm_task(
    out: Path, port: int, keys: Path | None, insecure: bool, max_restarts: int
) -> NoReturn:
    """Become the role of this task of Slurm's, in the run directory OUT."""
    task = Task.of(os.environ)
    if not out.is_dir():
        fix = "choose one on a file system that all nodes share, with --out"
        raise UserError("run directory", str(out), f"a folder that {task.node} sees", fix)
    job = read_job(out / "logs" / "job.toml")
    role, rank = role_of(task, role_counts(job))
    plan = Plan(job=job, keys="" if keys is None else str(keys), insecure=insecure)
    arguments = _arguments(task, plan, out, port)
    if role is not Role.CONTROLLER:
        # Slurm signals all tasks at once. Who ends first would seem lost to the others: so the
        # controller alone hears it, and tells them; if it is gone, its lease ends them.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    kept = max_restarts if role in MORTAL else 0
    _become(arguments, out / "logs" / f"{role}-{rank}.log", job.job.lease, kept)


def _arguments(task: Task, plan: Plan, out: Path, port: int) -> list[str]:
    """The role's name and its arguments."""
    role, rank = role_of(task, role_counts(plan.job))
    own, other = ("", "") if task.alone else (_resolved(task.node), _resolved(task.other))
    listening = listens_on(task, own, other)
    host = Host(task.node, bind=listening, address=listening if task.alone else task.node)
    address = controller_address(task, port)
    if role is not Role.CONTROLLER:
        return joining_arguments(plan, role, rank, host, address)
    bind = f"{listening}:{address.rpartition(':')[2]}"
    listen = ["--bind", bind, "--advertise", address]
    return _controller(plan.job, out, [*security(plan, host), *listen])


def _resolved(node: str) -> str:
    try:
        return socket.gethostbyname(node)
    except OSError as failed:
        raise RoleError(
            f"{socket.gethostname()} cannot resolve {node}: {failed.strerror}; roles find each "
            "other by the names that Slurm gives its nodes: enter them in /etc/hosts or in DNS"
        ) from None


def _controller(job: Job, out: Path, options: Sequence[str]) -> list[str]:
    """The controller's arguments; where the run has a checkpoint, it goes on from the last one.

    A checkpoint that the user has named counts in the first life alone: later ones must not go
    back to it.
    """
    from ...paramserver.checkpoint import has_checkpoint

    job_file = out / "logs" / "job.toml"
    resume = job.job.resume or (str(out) if has_checkpoint(out) else "")
    if job.job.resume:
        fresh = job_file.with_name("job.toml.new")
        fresh.write_text(to_toml(replace(job, job=replace(job.job, resume=""))))
        os.replace(fresh, job_file)
    if not resume:
        _set_aside(out / "metrics.jsonl")
    folder = ["--out", str(out), "--announce", str(out / "logs" / "controller.address")]
    return ["controller", str(job_file), *folder, "--resume", resume, *options]


def _set_aside(metrics: Path) -> None:
    """A life that has left no checkpoint has left nothing to go on from: the next begins anew."""
    if metrics.exists():
        os.replace(metrics, metrics.with_name(metrics.name + ".lost"))


def _become(arguments: Sequence[str], log: Path, lease: float, restarts: int) -> NoReturn:
    """Run a role, whose log also gets what is said from here on.

    Without restarts the role takes the place of this very process, which Slurm watches and signals.
    """
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    # -P: a file in the working directory must not hide a module of the standard library.
    command = [sys.executable, "-P", "-m", "dualshard.deploy", *arguments]
    environment = of_a_role(os.environ)
    if restarts:
        sys.exit(keep(command, environment, lease + MARGIN, restarts))
    os.execve(command[0], command, environment)  # noqa: S606 (our own command, no shell)
