"""The comparison of couplings in one process, on random images."""

from pathlib import Path

import numpy as np
import pytest

from dualshard.bench.cut_nets import main, make_job, train


def test_without_mnist_it_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 2
    assert "expected a folder with MNIST's four IDX files" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("coupling", "rounds", "passing"),
    [("activations", 2, 2 * 300 * 128), ("backprop", 3, 2 * 300 * 128)],
)
def test_rounds_and_bytes_are_those_that_would_travel(
    coupling: str, rounds: int, passing: int
) -> None:
    random = np.random.default_rng(0)
    arrays = random.random((300, 28, 28), np.float32), random.integers(0, 10, 300)
    job = make_job(coupling, ["relu2"], 1, admm={"macro_batch": 256})
    found = train(job, arrays, [arrays])
    assert found["rounds"] == rounds  # 256 and 44 samples, or 128, 128 and 44
    assert found["MB"] == pytest.approx(passing * 4 / 1e6)
    assert found["loss"] > 0
