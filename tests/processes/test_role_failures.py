"""Roles that die, hang or slow down under a running `dualshard train`."""

import json
import signal
import time

import pytest

pytestmark = pytest.mark.processes


def rows(run, kind):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [row for line in lines if (row := json.loads(line))["kind"] == kind]


def test_a_worker_killed_in_mid_epoch_is_named_and_its_data_served_again(commands, tmp_path):
    run = tmp_path / "run"
    train = commands.start("train", "--out", run, "--set", "job.epochs=40")
    metrics = run / "metrics.jsonl"
    commands.until(lambda: metrics.exists() and '"kind": "epoch"' in metrics.read_text(), 60)
    victim = train.roles("worker")[1]
    victim.send(signal.SIGKILL)
    assert train.wait(60) == 1

    log = run / "logs" / "worker-1.log"
    assert train.err == f"dualshard: worker-1 was ended by SIGKILL (log: {log})\n"
    assert "test accuracy" in train.out
    (lost,) = [row["text"] for row in rows(run, "event") if row["text"].startswith("lost ")]
    assert lost.startswith("lost worker-1 on ")
    assert lost.endswith(f" (pid {victim.pid}): its process ended with signal 9")
    assert lost in train.out
    epochs = rows(run, "epoch")
    assert len(epochs) == 40
    assert {row["samples"] for row in epochs} == {1438}
    assert sum(row["dropped"] for row in epochs) == 0


def test_a_role_that_dies_at_the_start_ends_it_with_its_name(commands, tmp_path):
    train = commands.start("train", "--out", tmp_path / "run")
    commands.until(lambda: len(train.children()) == 6, 30)
    began = time.monotonic()
    train.roles("paramserver")[0].send(signal.SIGKILL)
    assert train.wait(15) == 1
    assert time.monotonic() - began < 8
    log = tmp_path / "run" / "logs" / "paramserver-0.log"
    assert train.err == f"dualshard: paramserver-0 was ended by SIGKILL (log: {log})\n"
    assert train.left() == []


def test_a_lost_parameter_server_ends_the_job_and_says_why(training, tmp_path):
    train = training("--workers", 1)
    train.roles("paramserver")[1].send(signal.SIGKILL)
    assert train.wait(15) == 1
    assert train.err.startswith("dualshard: lost paramserver-1 on ")
    assert train.err.endswith(
        f"and the shards it held: its process ended with signal 9 "
        f"(logs: {tmp_path / 'run' / 'logs'})\n"
    )
    assert train.left() == []


def test_a_killed_controller_ends_everything(training, tmp_path):
    train = training("--workers", 1)
    train.roles("controller")[0].send(signal.SIGKILL)
    assert train.wait(15) == 1
    log = tmp_path / "run" / "logs" / "controller-0.log"
    assert train.err == f"dualshard: controller-0 was ended by SIGKILL (log: {log})\n"
    assert train.left() == []


def test_a_hung_controller_ends_everything(training):
    train = training("--workers", 1, "--set", "job.lease=1s")
    train.roles("controller")[0].send(signal.SIGSTOP)
    assert train.wait(25) == 1
    assert "the controller runs but has not answered for " in train.err
    assert len(train.err.splitlines()) == 1
    assert train.left() == []


def test_all_roles_end_by_themselves_after_the_last_epoch(commands, tmp_path):
    run = tmp_path / "run"
    train = commands.start("train", "--out", run, "--set", "job.epochs=3", "--workers", 4)

    def last_epoch() -> bool:
        metrics = run / "metrics.jsonl"
        train.children()
        return metrics.exists() and metrics.read_text().count('"kind": "epoch"') == 3

    commands.until(last_epoch, 60)
    assert train.wait(25) == 0
    assert train.left() == []
    assert len(train.seen) == 8


def grown_while_stopped(train, stopped, seconds, commands):
    """The most that any worker grows, in bytes, while `stopped` does nothing."""
    workers = train.roles("worker")
    before = {worker: worker.resident for worker in workers}
    most = 0
    stopped.send(signal.SIGSTOP)
    try:
        ends = time.monotonic() + seconds
        commands.until(lambda: time.monotonic() > ends, seconds + 5)
        most = max(worker.resident - before[worker] for worker in workers)
    finally:
        stopped.send(signal.SIGCONT)
    return most


BIG = ("--servers", 1, "--set", "model.args.hidden=[4096]", "--set", "job.lease=120s")
"""A push of 1.2 MB: 100 of them queued would show."""
BOUND = 16 << 20


def test_workers_do_not_grow_while_a_server_stands_still(training, commands, tmp_path):
    train = training(*BIG)
    (stopped,) = train.roles("paramserver")
    assert grown_while_stopped(train, stopped, 2.0, commands) < BOUND
    epochs = len(rows(tmp_path / "run", "epoch"))
    commands.until(lambda: len(rows(tmp_path / "run", "epoch")) > epochs, 30)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_no_role_grows_in_a_minute_with_a_slow_server(training, commands):
    train = training(*BIG)
    (server,) = train.roles("paramserver")
    before = {child: child.resident for child in train.children()}
    for _ in range(100):
        assert grown_while_stopped(train, server, 0.5, commands) < BOUND
        resumed = time.monotonic()
        commands.until(lambda since=resumed: time.monotonic() > since + 0.1, 5)
    for child in train.children():
        assert child.resident - before[child] < BOUND, child.command
