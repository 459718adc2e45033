"""A job on a real Slurm with three nodes, as docs/deploy.md tells it: started, requeued, cancelled,
and submitted again, it trains each epoch once and to the accuracy of any other run."""

import json
import re
import time
from pathlib import Path

import pytest
from slurm_cluster import SlurmCluster, missing

pytestmark = pytest.mark.processes

DOCS = Path(__file__).parents[2] / "docs"
ROLES = ("controller", "paramserver", "dataserver", "worker")
EPOCHS = 60


def told(pattern, job=""):
    """The line that the chapter on Slurm tells to type, with the number of a job for its 17."""
    pages = [path.read_text() for path in sorted(DOCS.glob("deploy*.md"))]
    (line,) = {line for page in pages for line in re.findall(rf"^{pattern}$", page, re.MULTILINE)}
    return line.replace("17", job)


def rows(run, kind):
    lines = (run / "metrics.jsonl").read_text().splitlines() if run.exists() else []
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_a_job_is_trained_requeued_cancelled_and_gone_on_with(commands, tmp_path):
    run, work = tmp_path / "work" / "runs" / "digits", tmp_path / "work"
    work.mkdir()
    with SlurmCluster(tmp_path / "slurm", commands) as slurm:
        slurm.shell(told("dualshard keygen keys"), work)
        line = told("dualshard launch --launcher slurm .* --option nodes=3")
        said = slurm.shell(f"{line} --servers 1 --set job.epochs={EPOCHS}", work)
        job = re.match(r"job (\d+) is submitted\n", said)[1]
        assert f"scancel {job}\n" in said

        roles = life(commands, slurm, run)
        assert len(roles) == 5
        slurm.shell(told(r"scontrol requeue \d+", job), work)
        assert gone(commands, roles) < 10
        first = done(run)
        slurm.wait(job, "PENDING")
        # By itself it waits for two minutes, in case that a node is not well.
        slurm.shell(told("scontrol update .*", job), work)

        roles = life(commands, slurm, run, first)
        status = slurm.shell(told("dualshard status --keys .*"), work)
        assert "training" in status
        slurm.shell(told(r"scancel \d+", job), work)
        assert gone(commands, roles) < 10
        second = done(run)
        assert first < second < EPOCHS
        slurm.wait(job, "CANCELLED")

        job = re.search(r"\d+", slurm.shell(told("sbatch runs/.*"), work))[0]
        assert slurm.wait(job, "COMPLETED", "FAILED") == "COMPLETED", logs(run)

    log = (run / "logs" / "controller-0.log").read_text()
    assert log.count("goes on from checkpoint") == 2
    assert log.count("stopping: stopped by SIGTERM") == 2
    assert "lost " not in log, "whoever ended before the controller had told it to"
    epochs = [row["epoch"] for row in rows(run, "epoch")]
    repeated = len(epochs) - len(set(epochs))
    assert set(epochs) == set(range(EPOCHS))
    # What came after the last checkpoint of a life is done again, and no more.
    assert repeated <= 2 * 2
    summary = json.loads((run / "summary.json").read_text())
    assert summary["epochs"] == EPOCHS
    assert summary["test_accuracy"] > 0.95


def logs(run):
    """What the last lines of all logs say."""
    return {path.name: path.read_text()[-500:] for path in (run / "logs").glob("*.log")}


def life(commands, slurm, run, before=-1):
    """The roles of a job, once it has trained beyond epoch `before` and has a checkpoint."""
    commands.until(lambda: (run / "checkpoints" / "latest").exists() and done(run) > before, 60)
    assert not (run / "summary.json").exists(), "it was over too soon to show anything"
    return slurm.processes(*ROLES)


def gone(commands, roles):
    """The seconds until the last of these processes has ended."""
    began = time.monotonic()
    commands.until(lambda: not [role for role in roles if role.alive], 15)
    return time.monotonic() - began


def done(run):
    """The number of the last epoch that is done; -1: none."""
    return max((row["epoch"] for row in rows(run, "epoch")), default=-1)
