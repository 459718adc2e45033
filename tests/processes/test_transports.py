"""The same run by shared memory and by tcp: the lane changes the speed, not a single bit."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

pytestmark = pytest.mark.processes


def trained(out: Path, transport: str, *, epochs: int = 3) -> dict[str, np.ndarray]:
    command = [sys.executable, "-m", "dualshard.deploy", "train", "--out", str(out)]
    command += ["--workers", "1", "--data-servers", "1", "--servers", "2"]
    for setting in (
        f"train.transport={transport}",
        f"job.epochs={epochs}",
        "paramserver.shard_bytes=64KiB",
        "train.staleness_scaling=0",
    ):
        command += ["--set", setting]
    subprocess.run(command, check=True, timeout=90, capture_output=True)
    return load_file(out / "model.safetensors")


def test_shared_memory_and_tcp_give_the_same_parameters(tmp_path: Path) -> None:
    shared, sent = trained(tmp_path / "shm", "shm"), trained(tmp_path / "tcp", "tcp")
    assert shared.keys() == sent.keys()
    for name, values in shared.items():
        np.testing.assert_array_equal(values, sent[name], err_msg=name)
    assert any(np.abs(values).max() > 0 for values in shared.values())
