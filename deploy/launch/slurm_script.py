"""The batch script of a job under Slurm: its text, and what may be asked of Slurm in it. Pure.

Nothing of a user's stands in the script without a check: a directive has no character that sbatch
or a shell reads otherwise, and whatever the shell runs is quoted.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from ...common.errors import UserError
from ...common.job import Job

Directives = dict[str, str]
"""sbatch's long options without their dashes, in the order of the script; "" for one alone."""

WARNING = 60
"""Seconds before the time limit at which the roles are told: to end, they take a few; nodes under
load are slow to hear of it, and Slurm itself is up to a minute late."""

_KEY = re.compile(r"[a-z][a-z0-9-]*")
_VALUE = re.compile(r"[\w./:,@%+=~^*!&|()\[\]-]+")
_PATH = re.compile(r"[\w./:,@+=~-]+")
_NAME = re.compile(r"[\w.-]+")

_OURS = {
    "ntasks": "it is the number of roles: set --workers, --servers and --data-servers",
    "array": "a run is one job: launch it once for each --out",
    "output": "what Slurm says goes to the run directory, which --out chooses",
    "error": "what Slurm says goes to the run directory, which --out chooses",
    "open-mode": "each life of the job adds to its log",
    "wrap": "the script is ours",
}
"""What the launcher decides by itself, and why."""


def role_counts(job: Job) -> dict[str, int]:
    """How many tasks are what, in the order of their numbers."""
    return {
        "controller": 1,
        "paramserver": job.paramserver.count,
        "dataserver": job.dataserver.count,
        "worker": job.worker.count,
    }


def directives(job: Job, out: PurePath, given: Mapping[str, str]) -> Directives:
    """What the script asks of Slurm; `given` are the options of sbatch that the user wants.

    Raises:
        UserError: one is malformed or not the user's to choose, or `out` holds a character that a
            directive cannot.
    """
    if not _PATH.fullmatch(str(out)):
        expected = "a path of letters, digits and ./:,@+=~_- alone"
        raise UserError("--out", str(out), expected, "Slurm reads others in its own way: rename it")
    tasks = sum(role_counts(job).values())
    name = job.job.name if _NAME.fullmatch(job.job.name) else "dualshard"
    asked: Directives = {
        "job-name": name,
        "ntasks": str(tasks),
        "cpus-per-task": str(job.worker.threads),
    }
    asked |= _checked(given)
    nodes = asked.get("nodes", "")
    if nodes.isdecimal() and int(nodes) and "ntasks-per-node" not in asked:
        asked["ntasks-per-node"] = str(-(-tasks // int(nodes)))
    if "no-requeue" not in asked:
        asked.setdefault("requeue", "")
    asked.setdefault("signal", f"B:USR1@{WARNING}")
    return asked | {"output": f"{out}/logs/slurm-%j.log", "open-mode": "append"}


def _checked(given: Mapping[str, str]) -> Directives:
    for key, value in given.items():
        text = f"{key}={value}"
        if not _KEY.fullmatch(key) or (value and not _VALUE.fullmatch(value)):
            expected = "a long option of sbatch, without dashes, quotes or spaces"
            fix = "for example --option time=1:00:00, or --option exclusive= for one without value"
            raise UserError("--option", text, expected, fix)
        if key in _OURS:
            raise UserError("--option", text, "an option that is yours to choose", _OURS[key])
    return dict(given)


def script(
    asked: Directives, counts: Mapping[str, int], logs: PurePath, task: Sequence[str]
) -> str:
    """The batch script: `task` is the command that every task runs."""
    roles = ", ".join(f"{count} {role}{'s' * (count > 1)}" for role, count in counts.items())
    lines = [f"#SBATCH --{key}{'=' if value else ''}{value}" for key, value in asked.items()]
    return _SCRIPT.format(
        roles=roles,
        directives="\n".join(lines),
        logs=shlex.quote(str(logs)),
        task=shlex.join(task),
    )


_SCRIPT = """\
#!/bin/bash
# Trains one run on Slurm. Written by `dualshard launch --launcher slurm`, and yours to change. When
# it runs again (requeued, or submitted once more) the run goes on from its last checkpoint.

# What Slurm is asked for: a task is a role, {roles}.
# Each life of the job adds to one log; after a lost node or a preemption it is queued again.
{directives}

set -u
echo "job $SLURM_JOB_ID on $SLURM_JOB_NODELIST, restarted ${{SLURM_RESTART_COUNT:-0}} times"

# Some time before the time limit Slurm sends this shell SIGUSR1: hand it on as SIGTERM, and the
# controller ends the job in order. (Not by way of srun, which kills all tasks when it gets one.)
trap 'timeout 10 scancel --quiet --signal=TERM "$SLURM_JOB_ID"' USR1
# When the job is cancelled or requeued Slurm has told the tasks already: wait for their end.
trap : TERM

# Every task runs the same command, becomes its role by its number, and has a log of its own. Nobody
# is ended because another has ended: training goes on without a worker or a data server, which is
# started again if it was killed, and when the controller ends the job, for whatever reason, it
# tells all.
srun --kill-on-bad-exit=0 --wait=0 --distribution=cyclic \\
    --cpus-per-task="$SLURM_CPUS_PER_TASK" --label --input=none \\
    {task} &
step=$!

# A signal ends `wait` early: wait again, until srun itself has ended.
wait "$step"
status=$?
while kill -0 "$step" 2>/dev/null; do
    wait "$step"
    status=$?
done

# Whoever failed says why in the last line of its log.
if [ "$status" -ne 0 ]; then
    tail -n 1 {logs}/{{controller,paramserver,dataserver,worker}}-*.log
fi
exit "$status"
"""
