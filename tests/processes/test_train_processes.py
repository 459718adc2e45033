"""`dualshard train` as a user runs it: the whole run, its folder, and two at once."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from dualshard.common.config import read_job

pytestmark = pytest.mark.processes

CONTRACT = {
    "test_accuracy",
    "epochs",
    "samples",
    "samples_per_second",
    "wall_seconds",
    "bytes_pushed",
    "bytes_pulled",
    "staleness_mean",
    "wait_seconds",
    "wait_per_step_ms",
    "workers",
    "servers",
    "run_dir",
}
FAST = ("--set", "job.epochs=2", "--workers", 1, "--servers", 1)


def test_the_default_job_trains_the_digits_and_leaves_a_whole_run(commands, tmp_path):
    run = tmp_path / "a folder with spaces" / "run"
    # A file of the user's must not hide a module of the standard library.
    (tmp_path / "random.py").write_text("raise SystemExit('the wrong random')\n")
    train = commands.start("train", "--out", run, "--json", tmp_path / "result.json")
    assert (train.wait(), train.err) == (0, "")
    assert train.left() == []
    assert len(train.seen) == 6

    assert {path.name for path in run.iterdir()} >= {
        "job.toml",
        "metrics.jsonl",
        "curves.png",
        "model.safetensors",
        "summary.json",
        "logs",
    }
    assert {path.name for path in (run / "logs").glob("*.log")} == {
        "controller-0.log",
        "paramserver-0.log",
        "paramserver-1.log",
        "dataserver-0.log",
        "worker-0.log",
        "worker-1.log",
    }
    assert "worker-1 joined" in (run / "metrics.jsonl").read_text()
    job = read_job(run / "job.toml")
    assert (job.worker.count, job.data.source, job.job.epochs) == (2, "digits", 30)

    png = (run / "curves.png").read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    assert width > 300
    assert height > 300

    shapes = {name: array.shape for name, array in load_file(run / "model.safetensors").items()}
    assert sorted(shapes.values()) == [(10,), (64, 256), (128,), (128, 10), (256,), (256, 128)]
    for array in load_file(run / "model.safetensors").values():
        assert array.dtype == np.float32
        assert np.isfinite(array).all()

    result = json.loads((tmp_path / "result.json").read_text())
    assert set(result) >= CONTRACT
    assert result["test_accuracy"] >= 0.95
    assert (result["workers"], result["servers"], result["epochs"]) == (2, 2, 30)
    assert result["samples"] == 30 * 1438
    assert result["samples_per_second"] == pytest.approx(result["samples"] / result["wall_seconds"])
    assert result["bytes_pushed"] > 0
    assert result["bytes_pulled"] > 0
    assert Path(result["run_dir"]) == run
    assert result == json.loads((run / "summary.json").read_text())
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert sum(row["samples"] for row in rows if row["kind"] == "epoch") == result["samples"]
    assert f"test accuracy {100 * result['test_accuracy']:.2f} %" in train.out
    assert str(run) in train.out
    assert "waiting for paramserver-0" in train.out


def test_two_runs_at_once_take_two_folders_and_do_not_disturb_each_other(commands, tmp_path):
    both = [commands.start("train", *FAST), commands.start("train", *FAST)]
    assert [train.wait() for train in both] == [0, 0]
    runs = sorted((tmp_path / "runs").iterdir())
    assert len(runs) == 2
    for run in runs:
        assert json.loads((run / "summary.json").read_text())["samples"] == 2 * 1438


def test_an_order_to_stop_ends_a_training_well(training, commands, tmp_path):
    train = training("--workers", 1)
    address = (tmp_path / "run" / "logs" / "controller.address").read_text().strip()

    status = commands.start("status", "--controller", address)
    assert (status.wait(), status.err) == (0, "")
    assert "training" in status.out
    assert "samples/s" in status.out
    for role in ("paramserver-0", "paramserver-1", "dataserver-0", "worker-0"):
        assert role in status.out

    as_json = commands.start("status", "--json", "--controller", address)
    assert as_json.wait() == 0
    report = json.loads(as_json.out)
    assert report["phase"] == "training"
    assert {role["pid"] for role in report["roles"]} == {
        child.pid for child in train.children() if "controller" not in child.command
    }

    watch = commands.start("status", "--watch", "--json", "--controller", address)
    commands.until(lambda: watch.out.count("\n") >= 2, 30)
    stop = commands.start("stop", "--controller", address)
    assert (stop.wait(), stop.err) == (0, "")
    assert stop.out == f"the job at {address} ends\n"
    assert train.wait(15) == 0
    assert "ended before the job was complete" in train.out
    assert train.left() == []
    assert watch.wait(15) == 0
