"""A whole job on a device: real processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("mode", ["async", "local"])
@pytest.mark.parametrize("transport", ["auto", "tcp"])
def test_a_job_on_a_device_learns(mode: str, transport: str, tmp_path: Path) -> None:
    settings = {
        "worker.device": "cuda:0",
        "train.mode": mode,
        "train.transport": transport,
        "job.epochs": "20",
    }
    line = [sys.executable, "-P", "-m", "dualshard.deploy", "train", "--out", str(tmp_path / "run")]
    line += ["--json", str(tmp_path / "totals.json")]
    line += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert "worker-0: device cuda:0: computing on cuda:0" in done.stdout
    assert json.loads((tmp_path / "totals.json").read_text())["test_accuracy"] > 0.9
