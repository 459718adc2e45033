"""Consensus between whole nets, by real processes: as good as mode local, over each transport."""

import json

import pytest

pytestmark = pytest.mark.processes


def test_replicas_train_the_digits(commands, tmp_path):
    settings = {
        "train.mode": "admm",
        "partition.coupling": "replicas",
        "train.transport": "shm",
        "train.n_push": 8,
        "admm.quorum": 1.0,
    }
    chosen = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    result = tmp_path / "result.json"
    train = commands.start("train", "--out", tmp_path / "run", "--json", result, *chosen)
    assert (train.wait(), train.err) == (0, "")
    found = json.loads(result.read_text())
    assert found["test_accuracy"] >= 0.95
    assert found["samples"] == 30 * 1438
    assert found["late"] == 0
    assert found["rounds"] > 30
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    epochs = [row for row in rows if row["kind"] == "epoch"]
    assert all(row["primal"] > 0 and row["dual"] > 0 for row in epochs)
    assert [row["rho"] for row in epochs] == pytest.approx([0.1] * 30)
