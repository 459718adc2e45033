"""`dualshard launch` on three hosts: network namespaces with a real sshd each."""

import json
import signal
import subprocess
import sys
import time

import pytest
from hosts import NAMES, obstacle, three_hosts

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(bool(obstacle()), reason=obstacle() or "there can be hosts"),
]

LEASE = 5.0
GONE = 10.0
"""Seconds within which every role is gone that has lost its launcher."""
FOREVER = ("--set", "job.epochs=1000000", "--set", "job.checkpoint_every=0")
SAMPLES = 1438
"""Of the digits, to train on."""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    with three_hosts(tmp_path_factory.mktemp("hosts")) as three:
        yield three


@pytest.fixture
def launch(hosts, commands, tmp_path):
    """Starts a launch on host-a of a hostfile's lines, which begin with host names."""

    def start(lines, *arguments, out="run", security=("--insecure",)):
        text = f"* python={sys.executable}\n"
        for line in lines:
            name, _, rest = line.partition(" ")
            address = hosts.address(name if name in NAMES else "host-b")
            text += f"{name} address={address} {rest}\n"
        (tmp_path / "hosts.txt").write_text(text)
        return commands.start(
            *("launch", "--hostfile", "hosts.txt", "--ssh", hosts.ssh, *security),
            *("--out", out, "--set", "train.transport=tcp", *arguments),
            inside=hosts.inside("host-a"),
        )

    yield start
    for host in NAMES:
        hosts.heal(host)
    commands.clean()
    gone_within(hosts, GONE)


def rows(folder, kind="epoch"):
    metrics = folder / "metrics.jsonl"
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def within(seconds, condition, command):
    """Wait until the condition holds; the seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, f"{command.out}\n{command.err}"
        time.sleep(0.05)
    return time.monotonic() - began


def gone_within(hosts, seconds, names=NAMES):
    began = time.monotonic()
    while left := [role for host in names for role in hosts.roles(host).values()]:
        assert time.monotonic() < began + seconds, left
        time.sleep(0.1)


def pid_of(hosts, host, role):
    """The process of a role on a host, not that of its tether."""
    (pid,) = [
        pid
        for pid, words in hosts.roles(host).items()
        if "--end-with-stdin" in words and role in words
    ]
    return pid


def test_three_hosts_train_as_well_as_one_and_three_seconds_without_a_network_cost_nothing(
    launch, hosts, commands, tmp_path
):
    settings = ("--set", "job.epochs=30", "--set", "job.checkpoint_every=0")
    assert commands.start("keygen", "keys").wait() == 0
    command = launch(("host-a", "host-b", "host-c"), *settings, security=("--keys", "keys"))
    within(60, lambda: len(rows(tmp_path / "run")) >= 2, command)
    hosts.cut("host-c")
    alone = commands.start("train", "--out", "alone", "--json", "alone.json", *settings)
    time.sleep(2.9)
    hosts.heal("host-c")
    healed_at = len(rows(tmp_path / "run"))
    assert command.wait() == 0, f"{command.out}\n{command.err}"
    assert healed_at < 30, "the network was cut too late"
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["samples"] == 30 * SAMPLES
    assert (summary["samples_reissued"], summary["samples_repeated"]) == (0, 0)
    assert "lost" not in command.out + command.err
    assert alone.wait() == 0
    accuracy = json.loads((tmp_path / "alone.json").read_text())["test_accuracy"]
    assert abs(summary["test_accuracy"] - accuracy) < 0.02


def test_a_host_that_disappears_is_named_others_train_on_and_a_late_worker_takes_part(
    launch, hosts, commands, tmp_path
):
    lines = (
        "host-a roles=controller,paramserver,dataserver",
        "host-b roles=worker device=cpu threads=2",
        "host-c roles=worker",
    )
    command = launch(lines, *FOREVER)
    within(60, lambda: rows(tmp_path / "run"), command)
    address = f"{hosts.address('host-a')}:7077"
    status = ("status", "--controller", address, "--json", "--watch")
    watching = commands.start(*status, inside=hosts.inside("host-a"))

    hosts.cut("host-c")
    cut_at = time.monotonic()
    within(LEASE + 3, lambda: "host host-c: nothing is heard of worker-1" in command.err, command)
    gone_within(hosts, GONE - (time.monotonic() - cut_at), ("host-c",))
    within(GONE, lambda: "host host-c is lost, and worker-1 with it" in command.err, command)
    done = len(rows(tmp_path / "run"))
    within(10, lambda: len(rows(tmp_path / "run")) > done + 1, command)

    where = f"{hosts.address('host-b')}:0"
    late = commands.start(
        *("worker", "--controller", address, "--bind", where, "--insecure"),
        inside=hosts.inside("host-b"),
    )

    def takes_part():
        reports = watching.out.splitlines()[:-1]
        roles = json.loads(reports[-1])["roles"] if reports else []
        mine = [role for role in roles if role["pid"] == late.popen.pid]
        return mine and mine[0]["counters"].get("steps", 0) > 0

    within(10, takes_part, late)
    late.popen.send_signal(signal.SIGTERM)
    hosts.heal("host-c")
    within(20, lambda: "host host-c is back, with worker-1" in command.out, command)
    within(10, lambda: command.out.count("worker-1 joined from") == 3, command)

    second = launch(lines, *FOREVER, out="second")
    assert second.wait(20) == 2
    assert second.err.count("\n") == 1, second.err
    assert f"--bind = {address}" in second.err
    assert "Address already in use" in second.err
    assert command.popen.poll() is None

    command.popen.send_signal(signal.SIGKILL)
    gone_within(hosts, GONE)


def test_a_worker_that_dies_is_started_again_and_a_server_that_dies_ends_the_job(
    launch, hosts, tmp_path
):
    command = launch(("host-a", "host-b"), *FOREVER)
    within(60, lambda: rows(tmp_path / "run"), command)
    killed = pid_of(hosts, "host-a", "worker")
    subprocess.run(["kill", "-9", str(killed)], check=True)
    again = "worker-0@host-a was ended by SIGKILL"
    within(10, lambda: again in command.out, command)
    assert "started again, 1 of 3 times" in command.out
    within(20, lambda: command.out.count("worker-0 joined from") == 2, command)
    assert pid_of(hosts, "host-a", "worker") != killed

    subprocess.run(["kill", "-9", str(pid_of(hosts, "host-b", "paramserver"))], check=True)
    assert command.wait(20) == 1
    assert "paramserver-1@host-b failed first" in command.err
    assert "it was ended by SIGKILL. It said last:" in command.err
    assert "[paramserver-1@host-b] " in command.err
    assert "paramserver-1" in command.err.splitlines()[-1]
    assert "Traceback" not in command.err
    assert (tmp_path / "run" / "logs" / "worker-0.log").exists()


def test_ctrl_c_ends_every_role(launch, hosts, tmp_path):
    command = launch(("host-a", "host-b"), *FOREVER)
    within(30, lambda: "dataserver-0 joined" in command.out, command)
    command.popen.send_signal(signal.SIGINT)
    assert command.wait(GONE) == 130
    gone_within(hosts, 1)
    assert command.err == f"dualshard: stopped by SIGINT; logs: {'run/logs'}\n"


@pytest.mark.parametrize(
    ("lines", "number", "words"),
    [
        (["host-a", "closed"], 3, ["a host that ssh reaches; connect to", "make `ssh -F", "true"]),
        (["host-a directory=/no/such"], 2, ["a host where dualshard starts", "/no/such"]),
    ],
)
def test_a_host_that_cannot_take_part_is_named_in_one_line(
    lines, number, words, launch, hosts, tmp_path
):
    command = launch(lines, "--start-timeout", "20s", *FOREVER)
    assert command.wait(20) == 2
    assert command.err.count("\n") == 1, command.err
    assert f"hosts.txt line {number} = {lines[-1].split()[0]}: expected" in command.err
    assert all(word in command.err for word in words), command.err
    assert hosts.everything() == []
    assert not (tmp_path / "run").exists()
