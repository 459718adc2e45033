"""The exact command of each role."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from dualshard.common.config import resolve
from dualshard.common.job import Job
from dualshard.deploy.launch.commands import commands, dry_run, sets, ssh_command
from dualshard.deploy.launch.hostfile import read_hosts
from dualshard.deploy.launch.plan import Plan

HOSTS = read_hosts(
    "a address=10.0.0.1\n"
    "bob@b slots=2 device=cuda:1 threads=3 roles=worker directory='/my job' python=/v/python\n"
    "c interface=eth1 roles=dataserver,paramserver keys=/c/keys\n",
    "hosts.txt",
)


def plan(*settings, **own):
    job = resolve(None, {}, settings).job
    return Plan(job=job, hosts=HOSTS, directory="/home/me", **{"insecure": True, **own})


def by_name(made):
    return {one.name: shlex.join(one.arguments) for one in made}


def test_the_commands_of_all_roles():
    made = by_name(commands(plan("worker.count=3"), "runs/x"))
    assert made == {
        "controller-0": "controller --bind 10.0.0.1:7077 --advertise 10.0.0.1:7077 --insecure "
        "--out runs/x --launched --set worker.count=3",
        "paramserver-0": "paramserver --controller 10.0.0.1:7077 --rank 0 --bind 10.0.0.1:0 "
        "--advertise 10.0.0.1 --insecure --start-timeout 60s",
        "paramserver-1": "paramserver --controller 10.0.0.1:7077 --rank 1 --interface eth1 "
        "--keys /c/keys --start-timeout 60s",
        "dataserver-0": "dataserver --controller 10.0.0.1:7077 --rank 0 --bind 10.0.0.1:0 "
        "--advertise 10.0.0.1 --insecure --start-timeout 60s",
        "worker-0": "worker --controller 10.0.0.1:7077 --rank 0 --bind 0.0.0.0:0 --advertise b "
        "--insecure --start-timeout 60s --device cuda:1 --threads 3",
        "worker-1": "worker --controller 10.0.0.1:7077 --rank 1 --bind 10.0.0.1:0 "
        "--advertise 10.0.0.1 --insecure --start-timeout 60s",
        "worker-2": "worker --controller 10.0.0.1:7077 --rank 2 --bind 0.0.0.0:0 --advertise b "
        "--insecure --start-timeout 60s --device cuda:1 --threads 3",
    }


def test_keys_a_port_and_a_time_limit_reach_every_role():
    given = plan("job.start_timeout=90s", keys="/k", port=7100, insecure=False)
    made = by_name(commands(given, "x"))
    assert all("--insecure" not in line for line in made.values())
    assert all("--keys /c/keys" in made[name] for name in ("paramserver-1",))
    assert "--bind 10.0.0.1:7100" in made["controller-0"]
    assert "--controller 10.0.0.1:7100" in made["worker-0"]
    assert "--keys /k --start-timeout 90s" in made["worker-0"]


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["job.name=a 'quoted' name = x", "job.lease=7s", "train.quorum=0.5", "train.mode=bsp"],
        ["data.augment=rotate:15,shift:2", "paramserver.shard_bytes=64KiB", "worker.device=auto"],
        ['model.args={hidden = [64, 32], name = "é\\n", deep = [[1], [true]]}'],
        ["model.ref=net.py:make", "data.source=npz:my data.npz", "job.start_timeout=1.5s"],
        ["train.error_feedback=false", "optimizer.lr=1e-5"],
    ],
)
def test_the_controller_gets_the_whole_job_and_nothing_else(settings):
    job = resolve(None, {}, settings).job
    words = sets(job)
    assert words[::2] == ["--set"] * (len(words) // 2)
    assert resolve(None, {}, words[1::2]).job == job
    assert len(words) == 2 * len(settings)


def test_keys_are_told_by_options_of_their_own():
    job = Job()
    secured = replace(job, security=replace(job.security, keys="/k", insecure=True))
    assert sets(secured) == []


def test_ssh_gets_one_line_that_any_shell_reads_back():
    given = plan("worker.count=3", ssh=("ssh", "-F", "my file"))
    made = {one.name: ssh_command(given, one) for one in commands(given, "runs/x")}
    near = made["controller-0"]
    assert near[:3] == ["ssh", "-F", "my file"]
    assert near[-3:-1] == ["a", "--"]
    assert shlex.split(near[-1])[:6] == [
        *("exec", "dualshard", "tether", "--near", "/home/me", "--"),
    ]
    there = made["worker-0"]
    assert there[-3] == "bob@b"
    assert shlex.split(there[-1])[:10] == [
        *("cd", "/my job", "&&", "exec", "/v/python", "-P", "-m", "dualshard.deploy"),
        *("tether", "--"),
    ]
    assert "BatchMode=yes" in there
    assert "ConnectTimeout=15" in there


def test_a_dry_run_can_be_pasted_into_a_shell():
    given = plan()
    lines = [ssh_command(given, one) for one in commands(given, "x")]
    text = dry_run(lines, ["a  controller"])
    assert text.splitlines()[0] == "# a  controller"
    assert [shlex.split(line) for line in text.splitlines()[1:]] == lines


def test_paths_are_passed_on_as_they_are():
    given = plan(out=Path("runs/mine"))
    assert "--out runs/mine" in by_name(commands(given, str(given.out)))["controller-0"]
