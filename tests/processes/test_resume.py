"""A real cluster killed in mid-training goes on from its last checkpoint."""

import json
import signal
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

JOB = ("--set", "job.epochs=40", "--set", "optimizer.rule=momentum", "--set", "optimizer.lr=0.01")
EXACT = ("--workers", 1, "--set", "data.augment=shift:1")
"""One lane: what it does does not depend on the time that anything takes."""


def checkpoints(run: Path) -> int:
    """How many are complete."""
    metrics = run / "metrics.jsonl"
    return metrics.read_text().count('"kind": "checkpoint"') if metrics.exists() else 0


def kill_everything(command):
    """SIGKILL of the launcher and of every role, at once."""
    roles = command.children()
    assert len(roles) >= 4
    for process in (command.popen, *roles):
        send = process.send_signal if process is command.popen else process.send
        send(signal.SIGKILL)
    assert command.wait() == -signal.SIGKILL


def test_a_killed_run_goes_on_to_the_same_bytes(commands, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train = commands.start("train", "--out", whole, *JOB, *EXACT)
    assert (train.wait(), train.err) == (0, "")

    train = commands.start("train", "--out", cut, *JOB, *EXACT)
    commands.until(lambda: checkpoints(cut) >= 2 or train.popen.poll() is not None, 60)
    kill_everything(train)
    commands.until(lambda: not train.left(), 10)
    assert not (cut / "model.safetensors").exists(), "killed too late to show anything"

    train = commands.start("train", "--resume", cut, "--servers", 3, "--json", tmp_path / "r.json")
    assert (train.wait(), train.err) == (0, "")
    assert "goes on from checkpoint" in train.out
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    result = json.loads((tmp_path / "r.json").read_text())
    expected = json.loads((whole / "summary.json").read_text())
    for name in ("epochs", "samples", "pushes", "test_accuracy", "test_loss"):
        assert result[name] == pytest.approx(expected[name], rel=1e-6), name
    rows = [json.loads(line) for line in (cut / "metrics.jsonl").read_text().splitlines()]
    epochs = [row["epoch"] for row in rows if row["kind"] == "epoch"]
    assert set(epochs) == set(range(40))

    # What it has left is measured the same, by nobody but this command.
    evaluate = commands.start("evaluate", cut, "--json", tmp_path / "e.json")
    assert (evaluate.wait(), evaluate.err) == (0, "")
    measured = json.loads((tmp_path / "e.json").read_text())
    assert measured["test_loss"] == pytest.approx(expected["test_loss"], rel=1e-6)
    assert measured["test_accuracy"] == expected["test_accuracy"]

    again = commands.start("train", "--resume", cut)
    assert again.wait() == 2
    assert again.err.startswith(
        "dualshard: job.epochs = 40: expected more than the 40 that are done"
    )


def test_nobody_else_may_have_a_run_that_runs(training, commands, tmp_path):
    run = tmp_path / "run"
    train = training("--workers", 1)
    commands.until(lambda: checkpoints(run), 30)
    for command in ("train", "controller"):
        second = commands.start(command, "--resume", run)
        assert second.wait() == 2
        assert "a run that has ended, this one still runs" in second.err
    assert train.popen.poll() is None


def test_a_controller_by_hand_goes_on_too(commands, tmp_path):
    """And a damaged file ends all of it in one line that names it."""
    run = tmp_path / "run"
    train = commands.start("train", "--out", run, "--set", "job.epochs=2", "--workers", 1)
    assert train.wait() == 0
    latest = run / "checkpoints" / (run / "checkpoints" / "latest").read_text().strip()
    path = latest / "server-0.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    train = commands.start("train", "--resume", run, "--set", "job.epochs=4")
    assert train.wait() == 2
    (line,) = train.err.splitlines()
    assert "expected server-0.safetensors with SHA-256 " in line
    older = run / "checkpoints" / "000001"
    controller = commands.start(
        "controller", "--bind", "127.0.0.1:0", "--resume", older, "--start-timeout", "1s"
    )
    assert controller.wait() == 1
    assert "missing after 1 s: paramserver-0" in controller.err
    job = (run / "job.toml").read_text()
    assert "epochs = 2\n" in job, "nothing that has not begun changes the run"
