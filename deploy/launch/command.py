"""The command `dualshard launch`: options become a `Plan`, which a launcher carries out."""

import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ...common.config import Resolved
from ...common.errors import UserError
from ...common.job import Job
from ...common.partition import is_cut
from ..options import job_options, keys_option, resolved_job
from .hostfile import Host, lonely_loopback, read_hosts
from .launchers import LAUNCHERS
from .launchers import launch as carry_out
from .placement import worker_slots
from .plan import PORT, RESTARTS, Plan


@click.command()
@job_options
@click.option(
    "--launcher",
    type=click.Choice(list(LAUNCHERS)),
    help="Where roles are started (default: ssh with a hostfile, else local).",
)
@click.option(
    "--hostfile",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The hosts, one a line: HOST, HOST:SLOTS, HOST slots=N KEY=VALUE...",
)
@click.option("--dry-run", is_flag=True, help="Start nothing: print the exact commands.")
@click.option(
    "--max-restarts",
    type=click.IntRange(0),
    default=RESTARTS,
    show_default=True,
    help="How often workers and data servers that fail are started again, in all.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help=f"Where the controller listens (default: {PORT}; slurm: by the job's number).",
)
@keys_option
@click.option(
    "--insecure",
    is_flag=True,
    help="Listen beyond each machine without keys, on a network that you trust.",
)
@click.option(
    "--ssh",
    default="ssh",
    show_default=True,
    metavar="COMMAND",
    help="The ssh to use, with options of your own, such as 'ssh -F FILE'.",
)
@click.option(
    "--option",
    "own",
    multiple=True,
    metavar="NAME=VALUE",
    help="An option of the launcher's own, see docs/deploy.md.",
)
def launch(
    job_file: Path | None,
    settings: tuple[str, ...],
    out: Path | None,
    launcher: str | None,
    hostfile: Path | None,
    dry_run: bool,
    max_restarts: int,
    port: int | None,
    keys: Path | None,
    insecure: bool,
    ssh: str,
    own: tuple[str, ...],
    **flags: Any,
) -> int:
    """Start the roles of a job on many hosts, watch them, and end them.

    Without JOB_FILE it trains a perceptron on the images of digits inside scikit-learn. Without
    --workers, or worker.count in a file, each slot of the hostfile gets a worker.
    """
    resolved = resolved_job(job_file, settings, {**flags, "keys": keys and str(keys)})
    hosts = () if hostfile is None else _read(hostfile)
    name = launcher or ("ssh" if hosts else "local")
    job = _filled(resolved, hosts)
    if name != "local" and max_restarts and resolved.origins["job.vacancy"] == "default":
        job = replace(job, job=replace(job.job, vacancy=job.job.start_timeout))
    plan = Plan(
        job=job,
        hosts=hosts,
        hostfile="" if hostfile is None else str(hostfile),
        out=out,
        port=port or PORT,
        own_port=port is not None,
        keys=job.security.keys,
        insecure=insecure or job.security.insecure,
        max_restarts=max_restarts,
        ssh=_ssh(ssh),
        directory=os.getcwd(),
        options=dict(map(_pair, own)),
        dry_run=dry_run,
    )
    return carry_out(name, plan)


def _read(hostfile: Path) -> tuple[Host, ...]:
    try:
        text = hostfile.read_text()
    except (OSError, UnicodeDecodeError) as refused:
        why = refused.strerror if isinstance(refused, OSError) else "it is not UTF-8"
        raise UserError("--hostfile", str(hostfile), "a file that can be read", f"{why}") from None
    hosts = read_hosts(text, str(hostfile))
    for host in lonely_loopback(hosts):
        raise UserError(
            f"{hostfile} line {host.line}",
            host.name,
            "an address at which the other hosts reach it",
            "give it one with address=",
        )
    return hosts


def _filled(resolved: Resolved, hosts: tuple[Host, ...]) -> Job:
    """The job with a worker a slot, where nobody has said how many there are."""
    job = resolved.job
    slots = worker_slots(hosts)
    if not slots or resolved.origins["worker.count"] != "default" or is_cut(job):
        return job
    return replace(job, worker=replace(job.worker, count=max(slots, job.worker.at_least)))


def _ssh(text: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(text))
    except ValueError:
        words = ()
    if not words:
        raise UserError("--ssh", text, "a command", "for example --ssh 'ssh -F FILE'")
    return words


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise UserError("--option", text, "name=value", "see docs/deploy.md")
    return name, value
