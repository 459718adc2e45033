"""`dualshard launch --launcher slurm` without a Slurm, and what a task makes of its variables."""

import os
import shlex

import pytest
from click.testing import CliRunner

from dualshard.common.config import read_job
from dualshard.common.job import Job, to_toml
from dualshard.deploy.commands import dualshard
from dualshard.deploy.launch import slurm_task

SLURM = {
    "SLURM_NTASKS": "6",
    "SLURM_JOB_ID": "17",
    "SLURM_JOB_NODELIST": "n[1-3]",
}
ADDRESSES = {"n1": "10.0.0.1", "n2": "10.0.0.2", "n3": "127.0.1.1"}


def resolved(name):
    if name not in ADDRESSES:
        raise OSError(-2, "Name or service not known")
    return ADDRESSES[name]


@pytest.fixture
def launch(tmp_path, monkeypatch):
    """`dualshard launch --launcher slurm` in an empty folder, where no sbatch is found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    return lambda *arguments: CliRunner().invoke(
        dualshard, ["launch", "--launcher", "slurm", *map(str, arguments)]
    )


def refusal(result):
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    return line


def test_a_dry_run_prints_the_script_and_leaves_nothing(launch, tmp_path):
    result = launch("--dry-run", "--insecure", "--out", "run", "--workers", 5, "--port", 7000)
    assert result.exit_code == 0
    assert result.stdout.startswith("#!/bin/bash\n")
    assert "#SBATCH --ntasks=9\n" in result.stdout
    assert f" slurm-task {tmp_path}/run --port 7000 --insecure &\n" in result.stdout
    assert os.listdir(tmp_path) == []


def test_keys_are_named_by_their_whole_path(launch, tmp_path):
    given = ("--keys", "keys", "--option", "exclusive=", "--max-restarts", 0)
    result = launch("--dry-run", *given)
    task = f"slurm-task {tmp_path}/runs/DATE-TIME --keys {tmp_path}/keys --max-restarts 0"
    assert f" {task} &\n" in result.stdout
    assert "#SBATCH --exclusive\n" in result.stdout


def test_several_nodes_want_keys_or_trust(launch, tmp_path):
    assert refusal(launch("--dry-run")).startswith(
        "dualshard: --keys = '': expected a folder of keys where roles run on several nodes; make "
        "keys with `dualshard keygen DIR` and give --keys DIR, or keep the job on one node with "
        "--option nodes=1, or, on a network that you trust, give --insecure"
    )
    assert launch("--dry-run", "--option", "nodes=1").exit_code == 0


def test_a_hostfile_is_refused(launch, tmp_path):
    (tmp_path / "hosts").write_text("a\n")
    words = "--hostfile = hosts: expected none with --launcher slurm; leave --hostfile out"
    assert words in refusal(launch("--hostfile", "hosts", "--insecure"))


def test_without_slurm_one_line_says_so_and_nothing_is_left(launch, tmp_path):
    assert refusal(launch("--insecure", "--out", "run")) == (
        "dualshard: --launcher = slurm: expected Slurm's sbatch on the PATH; run this where jobs "
        "are submitted, on a login node, or print the script: --dry-run"
    )
    assert os.listdir(tmp_path) == []


def test_a_refused_option_leaves_nothing(launch, tmp_path):
    sbatch = tmp_path / "sbatch"
    sbatch.touch()
    sbatch.chmod(0o755)
    assert "--option = array=1-3" in refusal(launch("--insecure", "--option", "array=1-3"))
    assert os.listdir(tmp_path) == ["sbatch"]


@pytest.fixture
def become(tmp_path, monkeypatch):
    """What a task becomes: its arguments, its log, whether it hears SIGTERM, its restarts."""
    run = tmp_path / "run"
    (run / "logs").mkdir(parents=True)
    (run / "logs" / "job.toml").write_text(to_toml(Job()))
    monkeypatch.setattr(slurm_task.socket, "gethostbyname", resolved)
    found = []

    def task(number, *options, **environment):
        deaf = []
        monkeypatch.setattr(slurm_task.signal, "signal", lambda *given: deaf.append(given))
        monkeypatch.setattr(slurm_task, "_become", lambda *given: found.append(given))
        node = f"n{number % 3 + 1}"
        own = {**SLURM, "SLURM_PROCID": str(number), "SLURMD_NODENAME": node, **environment}
        result = CliRunner().invoke(dualshard, ["slurm-task", str(run), *options], env=own)
        if not found:
            return result
        arguments, log, _, restarts = found.pop()
        return shlex.join(arguments).replace(str(run), "RUN"), log.name, bool(deaf), restarts

    return task


def test_task_0_is_the_controller_and_hears_slurms_signals(become):
    line, log, deaf, restarts = become(0, "--insecure")
    assert line == (
        "controller RUN/logs/job.toml --out RUN --announce RUN/logs/controller.address --resume '' "
        "--insecure --bind 10.0.0.1:20017 --advertise n1:20017"
    )
    assert (log, deaf, restarts) == ("controller-0.log", False, 0)


def test_others_join_it_and_are_told_by_it(become):
    line, log, deaf, restarts = become(4, "--keys", "/keys", "--port", "7000")
    assert line == (
        "worker --controller n1:7000 --rank 0 --bind 10.0.0.2:0 --advertise n2 --keys /keys "
        "--start-timeout 60s"
    )
    assert (log, deaf, restarts) == ("worker-0.log", True, 3)


@pytest.mark.parametrize(("number", "restarts"), [(0, 0), (1, 0), (2, 0), (3, 5), (4, 5)])
def test_workers_and_data_servers_are_started_again(become, number, restarts):
    assert become(number, "--max-restarts", "5")[3] == restarts


def test_a_node_that_calls_itself_loopback_listens_on_all_addresses(become):
    line, log, *_ = become(2)
    assert "--rank 1 --bind 0.0.0.0:0 --advertise n3 " in line
    assert log == "paramserver-1.log"


def test_on_one_node_nobody_else_can_reach_them(become):
    one = {"SLURM_JOB_NODELIST": "n2", "SLURMD_NODENAME": "n2"}
    line, *_ = become(0, **one)
    assert line.endswith(" --bind 127.0.0.1:20017 --advertise 127.0.0.1:20017")
    line, *_ = become(5, **one)
    assert line.startswith(
        "worker --controller 127.0.0.1:20017 --rank 1 --bind 127.0.0.1:0 --advertise 127.0.0.1 "
    )


def test_a_run_directory_that_the_node_does_not_see_is_named():
    own = {**SLURM, "SLURM_PROCID": "1", "SLURMD_NODENAME": "n2"}
    assert refusal(CliRunner().invoke(dualshard, ["slurm-task", "/not/here"], env=own)) == (
        "dualshard: run directory = /not/here: expected a folder that n2 sees; choose one on a "
        "file system that all nodes share, with --out"
    )


def test_a_node_without_an_address_is_named(become):
    result = become(1, SLURMD_NODENAME="n9", SLURM_JOB_NODELIST="n[1-9]")
    assert result.exit_code == 1
    assert " cannot resolve n9: Name or service not known; " in result.stderr


def resumed(task):
    words = shlex.split(task[0])
    return words[words.index("--resume") + 1]


def test_a_run_with_a_checkpoint_goes_on_from_it(become, tmp_path, monkeypatch):
    metrics = tmp_path / "run" / "metrics.jsonl"
    metrics.write_text("a row\n")
    with monkeypatch.context() as patch:
        patch.setattr("dualshard.paramserver.checkpoint.has_checkpoint", lambda run: True)
        assert resumed(become(0)) == "RUN"
        assert metrics.exists()
    # A life that has left none has left nothing to go on from.
    assert resumed(become(0)) == ""
    assert not metrics.exists()
    assert (tmp_path / "run" / "metrics.jsonl.lost").read_text() == "a row\n"


def test_a_named_checkpoint_counts_in_the_first_life_alone(become, tmp_path, monkeypatch):
    named = Job.from_dict({"job": {"resume": "/run/checkpoints/000002", "seed": 7}})
    (tmp_path / "run" / "logs" / "job.toml").write_text(to_toml(named))
    monkeypatch.setattr("dualshard.paramserver.checkpoint.has_checkpoint", lambda run: True)
    assert resumed(become(0)) == "/run/checkpoints/000002"
    assert resumed(become(0)) == "RUN"
    left = read_job(tmp_path / "run" / "logs" / "job.toml")
    assert (left.job.resume, left.job.seed) == ("", 7)


def test_a_dry_run_knows_the_folder_of_a_run_that_goes_on(launch, tmp_path):
    checkpoint = tmp_path / "run" / "checkpoints" / "000002"
    checkpoint.mkdir(parents=True)
    (tmp_path / "run" / "job.toml").write_text(to_toml(Job()))
    result = launch("--dry-run", "--insecure", "--resume", checkpoint)
    assert result.exit_code == 0, result.output
    assert f" slurm-task {tmp_path}/run --insecure &\n" in result.stdout
