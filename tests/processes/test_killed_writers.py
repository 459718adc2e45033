"""A process that is killed while it writes checkpoints."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dualshard.paramserver.checkpoint import all_checkpoints, open_checkpoint, read_vector

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "paramserver"))

from checkpoint_samples import copies_of  # noqa: E402 (a helper of another folder)

pytestmark = pytest.mark.processes

KILLS = 50


def test_a_killed_writer_leaves_the_last_complete_checkpoint(tmp_path: Path) -> None:
    """SIGKILL at seeded random moments: whatever `latest` names reads whole."""
    moments = random.Random(11)
    writer = subprocess.Popen(
        [sys.executable, str(HERE / "checkpoint_writer.py"), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdin is not None
    assert writer.stdout is not None
    numbers, halves = [], 0
    for _ in range(KILLS):
        writer.stdin.write(f"{moments.uniform(0.0, 4.0)}\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == "killed\n"
        found = open_checkpoint(tmp_path, "RUN")
        number = found.manifest.number
        expected = np.concatenate([copy.values for copy in copies_of(number, 300)])
        np.testing.assert_array_equal(read_vector(found, "RUN"), expected)
        newest = all_checkpoints(tmp_path)[-1]
        halves += not (newest / "_SUCCESS").exists()
        numbers.append(number)
    writer.communicate(timeout=10)
    assert writer.returncode == 0
    assert numbers == sorted(numbers)
    assert len(set(numbers)) > KILLS / 10, "writers completed checkpoints"
    assert halves > KILLS / 10, "kills in the middle of writing"
