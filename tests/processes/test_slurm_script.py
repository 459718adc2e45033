"""The batch script, run by bash with a stand-in for each of Slurm's commands, and its submission.

What Slurm itself does is in test_slurm.py; here stands what the script does with it.
"""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from dualshard.deploy.launch.slurm_script import script

pytestmark = pytest.mark.processes

SRUN = """\
trap 'echo srun was signalled itself' TERM
echo "$@" >>"$HERE/tasks"
until [ -e "$HERE/status" ]; do sleep 0.02; done
exit "$(cat "$HERE/status")"
"""
SCANCEL = (
    'echo "$@" >"$HERE/told.new"; mv "$HERE/told.new" "$HERE/told"; echo 143 >"$HERE/status"\n'
)
TASK = ["dualshard", "slurm-task", "/a run"]


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Puts a command of a few lines of bash on the PATH, in front of all others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HERE", str(tmp_path))

    def put(name, text):
        (folder / name).write_text(f"#!/bin/bash\n{text}")
        (folder / name).chmod(0o755)

    return put


@pytest.fixture
def batch(stand_in, tmp_path):
    """Starts the script, as a batch shell of Slurm's, and returns once its srun runs."""
    stand_in("srun", SRUN)
    stand_in("scancel", SCANCEL)
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "worker-1.log").write_text("joined\ndualshard: the disk is full\n")
    (tmp_path / "job.sbatch").write_text(script({}, {"worker": 2}, logs, TASK))
    started = []

    def start(until):
        slurm = {"SLURM_JOB_ID": "17", "SLURM_JOB_NODELIST": "n[1-3]", "SLURM_CPUS_PER_TASK": "2"}
        popen = subprocess.Popen(
            ["bash", str(tmp_path / "job.sbatch")],
            stdout=subprocess.PIPE,
            env={**os.environ, **slurm},
            text=True,
        )
        started.append(popen)
        until((tmp_path / "tasks").exists, 10)
        return popen

    yield start
    (tmp_path / "status").write_text("1")
    for popen in started:
        popen.wait(10)


def test_a_job_that_completes_says_nothing_more(batch, commands, tmp_path):
    popen = batch(commands.until)
    (tmp_path / "status").write_text("0")
    assert popen.communicate(timeout=10)[0] == "job 17 on n[1-3], restarted 0 times\n"
    assert popen.returncode == 0
    words = (tmp_path / "tasks").read_text().strip()
    assert words.startswith("--kill-on-bad-exit=0 --wait=0 --distribution=cyclic --cpus-per-task=2")
    assert words.endswith(" --input=none dualshard slurm-task /a run")


def test_near_the_time_limit_the_roles_are_told_and_their_end_is_waited_for(
    batch, commands, tmp_path
):
    popen = batch(commands.until)
    popen.send_signal(signal.SIGUSR1)
    said = popen.communicate(timeout=10)[0]
    assert (tmp_path / "told").read_text() == "--quiet --signal=TERM 17\n"
    assert popen.returncode == 143
    assert "srun was signalled" not in said
    assert said.endswith("dualshard: the disk is full\n"), "the last line of each log"


def test_a_job_that_slurm_cancels_waits_for_its_roles(batch, commands, tmp_path):
    popen = batch(commands.until)
    popen.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        popen.wait(0.2)
    (tmp_path / "status").write_text("143")
    assert popen.communicate(timeout=10)[0].startswith("job 17 on n[1-3], restarted 0 times\n")
    assert popen.returncode == 143
    assert not (tmp_path / "told").exists(), "Slurm has told them by itself"


def launch(commands, tmp_path):
    options = ("--launcher", "slurm", "--insecure", "--out", tmp_path / "run")
    return commands.start("launch", *options, "--option", "time=5")


def test_it_is_submitted_and_told_how_to_follow(stand_in, commands, tmp_path):
    stand_in("sbatch", 'cp "$2" "$HERE/given"; echo "17;cluster"\n')
    launched = launch(commands, tmp_path)
    assert (launched.wait(), launched.err) == (0, "")
    assert launched.out == (
        "job 17 is submitted\n"
        "  follow it   tail -F run/logs/slurm-17.log run/logs/controller-0.log\n"
        "  its state   squeue --jobs 17\n"
        "  end it      scancel 17\n"
        "  go on       sbatch run/job.sbatch\n"
    )
    text = (tmp_path / "run" / "job.sbatch").read_text()
    assert (tmp_path / "given").read_text() == text
    assert "#SBATCH --time=5\n" in text
    assert f"{sys.executable} -P -m dualshard.deploy slurm-task {tmp_path}/run" in text
    shutil.rmtree(tmp_path / "run")


def test_a_job_that_slurm_refuses_leaves_nothing(stand_in, commands, tmp_path):
    refused = "sbatch: error: Batch job submission failed: Invalid partition name specified"
    stand_in("sbatch", f"echo '{refused}' >&2; exit 1\n")
    launched = launch(commands, tmp_path)
    assert launched.wait() == 2
    assert launched.err == (
        "dualshard: --launcher = slurm: expected a job that this Slurm takes; it says: Batch job "
        "submission failed: Invalid partition name specified; see --option\n"
    )
    assert not (tmp_path / "run").exists()
