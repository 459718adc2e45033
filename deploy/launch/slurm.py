"""`--launcher slurm`: writes the batch script into the run directory, and submits it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from ...common.errors import UserError
from ...common.job import Job, to_toml
from ..outfolder import OutFolder
from .plan import RESTARTS, Plan
from .slurm_script import directives, role_counts, script

SCRIPT = "job.sbatch"
HERE = (sys.executable, "-P", "-m", "dualshard.deploy")
"""How `dualshard` is called on the nodes: by this Python, which they see at the same path."""


def launch(plan: Plan) -> int:
    """Submit the job, and say how to follow and to end it; the exit status.

    Raises:
        UserError: the plan cannot be carried out, there is no Slurm here, or it refuses the job.
            No run directory is left behind.
    """
    if plan.hosts:
        fix = "leave --hostfile out: Slurm chooses the nodes, see --option nodes=N"
        raise UserError("--hostfile", plan.hostfile, "none with --launcher slurm", fix)
    _check_keys(plan)
    if plan.dry_run:
        click.echo(batch_script(plan, _planned(plan).absolute(), HERE), nl=False)
        return 0
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        fix = "run this where jobs are submitted, on a login node, or print the script: --dry-run"
        raise UserError("--launcher", "slurm", "Slurm's sbatch on the PATH", fix)
    folder = OutFolder.of(plan.job, plan.out)
    try:
        written = _write(plan, folder.path.absolute())
        _say(_submit(sbatch, written), written)
    except UserError:
        folder.discard()
        raise
    return 0


def _planned(plan: Plan) -> Path:
    """The run directory, without making it."""
    if plan.job.job.resume:
        from ...paramserver.checkpoint import run_of

        return run_of(Path(plan.job.job.resume), "job.resume")
    return plan.out or Path("runs") / "DATE-TIME"


def batch_script(plan: Plan, out: Path, dualshard: Sequence[str]) -> str:
    """The text of the script for a run in `out`, with `dualshard` as the nodes call it."""
    asked = directives(plan.job, out, plan.options)
    task = [*dualshard, "slurm-task", str(out)]
    task += ["--port", str(plan.port)] if plan.own_port else []
    task += ["--keys", str(Path(plan.keys).absolute())] if plan.keys else []
    task += ["--insecure"] if plan.insecure and not plan.keys else []
    if plan.max_restarts != RESTARTS:
        task += ["--max-restarts", str(plan.max_restarts)]
    return script(asked, role_counts(plan.job), out / "logs", task)


def _check_keys(plan: Plan) -> None:
    """Roles on several nodes listen beyond their machine: say so before a job waits for hours."""
    if plan.keys or plan.insecure or plan.options.get("nodes") == "1":
        return
    fix = (
        "make keys with `dualshard keygen DIR` and give --keys DIR, or keep the job on one node "
        "with --option nodes=1, or, on a network that you trust, give --insecure"
    )
    raise UserError("--keys", "", "a folder of keys where roles run on several nodes", fix)


def _write(plan: Plan, out: Path) -> Path:
    """job.sbatch, and the job for the tasks to read, into the run directory."""
    text = batch_script(plan, out, HERE)
    (out / "logs" / "job.toml").write_text(to_toml(_from_anywhere(plan.job)))
    path = out / SCRIPT
    path.write_text(text)
    path.chmod(0o755)
    return path


def _from_anywhere(job: Job) -> Job:
    """The same job; what it resumes is found from every folder."""
    resume = job.job.resume and str(Path(job.job.resume).absolute())
    return replace(job, job=replace(job.job, resume=resume))


def _submit(sbatch: str, path: Path) -> str:
    """Hand the script to Slurm; the job's number."""
    told = subprocess.run(  # noqa: S603 (Slurm's own command, no shell)
        [sbatch, "--parsable", str(path)], capture_output=True, text=True, check=False
    )
    if told.returncode:
        why = " ".join(told.stderr.split()).replace("sbatch: error: ", "")
        fix = f"it says: {why or told.returncode}; see --option"
        raise UserError("--launcher", "slurm", "a job that this Slurm takes", fix)
    return told.stdout.strip().partition(";")[0]


def _say(job: str, path: Path) -> None:
    here = os.path.relpath(path.parent)
    click.echo(
        f"job {job} is submitted\n"
        f"  follow it   tail -F {here}/logs/slurm-{job}.log {here}/logs/controller-0.log\n"
        f"  its state   squeue --jobs {job}\n"
        f"  end it      scancel {job}\n"
        f"  go on       sbatch {here}/{path.name}"
    )
