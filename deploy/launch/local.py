"""`--launcher local`: every role on this machine, as `dualshard train` starts them."""

import shlex

import click

from ...common.errors import UserError
from .commands import commands
from .hostfile import Host
from .placement import place, table
from .plan import Plan


def launch(plan: Plan) -> int:
    """Run the job here to its end; the exit status. Raises `UserError`, `RoleError`."""
    if plan.hosts:
        fix = "give --launcher ssh, or leave --hostfile out"
        raise UserError("--hostfile", plan.hostfile, "none with --launcher local", fix)
    if plan.dry_run:
        click.echo(_described(plan))
        return 0
    from ..local import train_locally

    status, _ = train_locally(plan.job, plan.out)
    return status


def _described(plan: Plan) -> str:
    """The same roles by hand: one command a terminal."""
    from dataclasses import replace

    here = replace(plan, hosts=(Host("localhost", slots=plan.job.worker.count),), keys="")
    made = commands(here, "" if plan.out is None else str(plan.out))
    rows = [f"# {row}" for row in table(place(here.job, here.hosts))]
    return "\n".join([*rows, *(shlex.join([*one.host.command, *one.arguments]) for one in made)])
