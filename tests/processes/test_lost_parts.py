"""A part of a cut net is killed under `dualshard train`: started again, and nothing is lost."""

import json
import signal

import pytest

pytestmark = pytest.mark.processes


def rows(run, kind):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [row for line in lines if (row := json.loads(line))["kind"] == kind]


def test_a_killed_bottom_part_is_started_again(commands, tmp_path):
    rank = 0
    run = tmp_path / "run"
    settings = ("train.mode=admm", "worker.count=2", "job.epochs=40", "job.checkpoint_every=0")
    options = [part for one in settings for part in ("--set", one)]
    train = commands.start("train", "--out", run, *options)
    metrics = run / "metrics.jsonl"
    commands.until(lambda: metrics.exists() and '"kind": "epoch"' in metrics.read_text(), 120)
    victim = train.roles("worker")[rank]
    victim.send(signal.SIGKILL)
    assert train.wait(120) == 0

    assert train.err == ""
    name = f"worker-{rank}"
    log = run / "logs" / f"{name}.log"
    again = f"{name} was ended by SIGKILL (log: {log}): started again, 1 of 3 times"
    assert again in train.out.splitlines()
    events = [row["text"] for row in rows(run, "event")]
    assert any(f"part {rank} of replica 0 is missing; " in text for text in events)
    assert f"{name} holds part {rank} of replica 0 again" in events
    epochs = rows(run, "epoch")
    assert {row["samples"] for row in epochs} == {1438}
    assert rows(run, "evaluation")[-1]["accuracy"] > 0.9
    assert train.left() == []
