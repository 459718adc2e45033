"""`--launcher ssh`: one ssh a role, on the hosts of a hostfile."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import click

from ...common.errors import UserError
from ...common.transport import require_keys
from ..local import held
from ..outfolder import OutFolder
from ..signals import Signals
from .commands import commands, dry_run, ssh_command
from .endings import how
from .placement import crowding, place, table
from .plan import Plan
from .supervise import RemoteCluster


def launch(plan: Plan) -> int:
    """Run the job on its hosts to its end; the exit status.

    Raises:
        UserError: the plan cannot be carried out, or a role found bad input.
        RoleError: the job did not complete.
    """
    if not plan.hosts:
        raise UserError("--hostfile", "", "a file of hosts with --launcher ssh", "write one")
    placed = place(plan.job, plan.hosts)
    for host in {one.host.name: one.host for one in placed}.values():
        keyed = bool(host.keys or plan.keys)
        require_keys(f"{host.listening}:0", keyed=keyed, insecure=plan.insecure)
    if warning := crowding(plan.job, plan.hosts):
        click.echo(f"dualshard: {warning}", err=True)
    if plan.dry_run:
        made = commands(plan, "" if plan.out is None else str(plan.out))
        click.echo(dry_run([ssh_command(plan, one) for one in made], table(placed)))
        return 0
    with Signals() as signals:
        return _launch(plan, signals)


def _launch(plan: Plan, signals: Signals) -> int:
    folder, there = _folder(plan)
    made = commands(plan, there)
    with held(folder, lambda: cluster.stands):
        cluster = RemoteCluster(plan, made, partial(ssh_command, plan), folder.path, signals)
        cluster.run()
    _finish(cluster, folder.path)
    return 1 if cluster.failed else 0


def _folder(plan: Plan) -> tuple[OutFolder, str]:
    """The launcher's folder, and what the controller is told of it.

    A job that goes on may have its run directory on the controller's host alone.
    """
    resume = plan.job.job.resume
    if resume and Path(resume).exists():
        return OutFolder.of(plan.job, plan.out), ""
    folder = OutFolder.claim(plan.out)
    return folder, "" if resume else str(folder.path)


def _finish(cluster: RemoteCluster, out: Path) -> None:
    """The last lines. Without a file system that is shared with the controller's host the results
    lie there, and what its last report said is all that is known."""
    summary, report = out / "summary.json", cluster.report
    totals: dict[str, Any] = {}
    if summary.exists():
        totals = json.loads(summary.read_text())
    elif report and report["epochs_done"] >= report["epochs"]:
        totals = report["summary"]
    cluster.screen.finish(totals)
    if totals and not summary.exists():
        cluster.screen.say(f"the model lies in that folder on {cluster.results_at}")
    for remote in cluster.failed:
        told = how(remote.status or 0, remote.words())
        cluster.screen.complain(f"{remote.name} {told} (log: {remote.log})")
