"""`bench threads` and `bench lockfree`: their rows, and once for a moment the real thing."""

import pytest

from dualshard.bench import lockfree, threads
from dualshard.bench.lockfree import bench_lockfree
from dualshard.bench.peer_lanes import LaneRun
from dualshard.bench.peers import installed, peer
from dualshard.bench.threads import HOGWILD, ONE, TWO, bench_threads
from dualshard.common.errors import UserError


def test_two_threads_are_compared_with_one_and_with_pytorch():
    found = {ONE: [100.0, 90.0], TWO: [190.0, 171.0], HOGWILD: [150.0, 100.0]}
    one, hogwild = threads.make_rows("mlp", 8, found)
    assert one.name == "mlp, minibatches of 8, 2 threads, against 1"
    assert (one.value, one.against, one.ratio, one.holds) == (180.5, 95.0, 1.9, True)
    assert hogwild.name == "mlp, minibatches of 8, 2 threads, against PyTorch, 2 processes"
    assert (hogwild.against, hogwild.goal, hogwild.holds) == (125.0, 1.5, False)
    (alone,) = threads.make_rows("mlp", 8, {ONE: [1.0], TWO: [1.8]})
    assert alone.holds is False


def test_errors_stand_beside_the_serial_run():
    rows = lockfree.make_rows({1: [97.9, 98.1], 2: [97.8, 97.9], 4: [97.7, 97.8]})
    assert [row.value for row in rows] == [
        200,
        215,
        pytest.approx(98.05),
        225,
        pytest.approx(97.95),
    ]
    assert [row.holds for row in rows] == [None, None, True, None, False]
    assert rows[1].name == "errors on the test set, 2 threads, mean of 2 seeds"
    assert (rows[1].against, rows[1].ratio) == (200, pytest.approx(200 / 215))
    assert lockfree.errors(97.97) == 203


def test_without_data_it_is_one_line(tmp_path):
    with pytest.raises(UserError, match="--data DIR"):
        bench_lockfree(tmp_path, 1, 1, print)


@pytest.mark.parametrize("count", [1, 2])
def test_lanes_take_bursts_and_count_samples(count):
    run = LaneRun("mlp", 8, count)
    assert run.measure(0.02) > 0
    assert run.measure(0.02) > 0
    run.close()


@pytest.mark.processes
def test_the_whole_benchmark_on_a_small_case():
    said = []
    rows = bench_threads(["mlp"], [8], 0, 1, 0.05, said.append)
    assert len(rows) == (2 if installed("torch") else 1)
    assert all(row.value and row.ratio for row in rows)
    assert "mlp, minibatches of 8" in said


@pytest.mark.processes
def test_hogwild_runs_any_net_of_the_zoo(tmp_path):
    pytest.importorskip("torch")
    with peer("torch", "peer_hogwild", tmp_path, "lenet", 2) as made, made.running():
        assert list(made.variants) == ["plain SGD", "foreach SGD", "fused SGD"]
        assert all(measure(0.05) > 0 for measure in made.variants.values())
