"""`bench train` and `bench width`: their rows, and a run of each side on a handful of images."""

from math import inf

import pytest

from dualshard.bench import compression, overlap, training, width
from dualshard.bench.recipes import OURS, PLAIN, RECIPES
from dualshard.bench.report import Row
from dualshard.bench.runs import Run, find_mnist, read_run, train_cluster, train_torch
from dualshard.bench.training import BSP, CLUSTER, LOCAL, TWO_PROCESSES
from dualshard.common.errors import RoleError, UserError


def run(speed: float, *evaluations: tuple[float, float]) -> Run:
    return Run(speed, evaluations or ((1.0, 0.98),))


def test_a_run_is_read_from_its_directory():
    rows = [
        {"kind": "event", "seconds": 0.0, "text": "all are here"},
        {"kind": "evaluation", "seconds": 1.5, "accuracy": 0.96},
        {"kind": "epoch", "seconds": 2.0},
        {"kind": "evaluation", "seconds": 2.5, "accuracy": 0.975},
        {"kind": "evaluation", "seconds": 3.5, "accuracy": 0.97},
    ]
    read = read_run({"samples_per_second": 123.0, "bytes_pushed": 4000}, rows)
    assert read == Run(123.0, ((1.5, 0.96), (2.5, 0.975), (3.5, 0.97)), 4000)
    assert [read.seconds_to(target) for target in (0.96, 0.97, 0.975, 0.99)] == [1.5, 2.5, 2.5, inf]
    assert read.accuracy == 0.97


def test_each_row_is_against_the_recipe_that_does_best_in_it():
    adam, fused, rmsprop = PLAIN
    found = {
        CLUSTER: [run(60_000.0, (1.0, 0.97), (2.0, 0.975), (3.0, 0.981))],
        BSP: [run(40_000.0)],
        LOCAL: [run(150_000.0, (1.0, 0.97), (2.0, 0.975))],
        adam: [run(20_000.0, (2.0, 0.97), (5.0, 0.975))],
        fused: [run(30_000.0, (3.0, 0.97), (6.0, 0.975))],
        rmsprop: [run(10_000.0, (9.0, 0.96))],
        OURS: [run(15_000.0, (4.0, 0.98))],
        TWO_PROCESSES: [run(6_000.0, (8.0, 0.98))],
    }
    rows = {row.name: row for row in training.make_rows(found)}
    assert len(rows) == 9 + 3 + 1 + 3

    speed = rows["speed of training, against plain PyTorch"]
    assert (speed.against, speed.ratio, speed.goal, speed.holds) == (30_000.0, 2.0, 2.5, False)
    early = rows["time to 97.0 %, against plain PyTorch"]
    assert (early.value, early.against, early.goal, early.holds) == (1.0, 2.0, None, None)
    late = rows["time to 97.5 %, against plain PyTorch"]
    assert (late.value, late.against, late.ratio, late.holds) == (2.0, 5.0, 2.5, True)
    assert rows["speed of training, against PyTorch DDP"].ratio == 10.0
    assert rows["time to 97.5 %, against PyTorch with our recipe"].ratio == 2.0
    assert rows["test accuracy after 3 epochs"].value == pytest.approx(98.1)
    assert [row.goal for row in rows.values() if row.goal] == [2.5, 2.0, 4.0, 2.0, 1.0]
    local = rows["speed of training, local, against plain PyTorch"]
    assert (local.ratio, local.goal, local.holds) == (5.0, 4.0, True)
    assert rows["time to 97.5 %, local, against plain PyTorch"].ratio == 2.5
    assert rows["speed of training, async, against bsp"].ratio == 1.5


def test_without_pytorch_only_our_side_is_reported(monkeypatch, tmp_path):
    (tmp_path / "train-images-idx3-ubyte").touch()
    monkeypatch.setattr(training, "find_spec", lambda name: None)
    monkeypatch.setattr(training, "train_cluster", lambda *_: run(5.0, (1.0, 0.97), (2.0, 0.98)))
    monkeypatch.setattr(training, "bench_overlap", lambda *_: [Row("a step", 1.0, "ms")])
    said = []
    rows = training.bench_train(tmp_path, 1, said.append)
    assert [row.name for row in rows] == [
        "speed of training",
        "time to 97.0 %",
        "time to 97.5 %",
        "speed of training, local",
        "time to 97.0 %, local",
        "time to 97.5 %, local",
        "speed of training, async, against bsp",
        "test accuracy after 3 epochs",
        "test accuracy after 3 epochs, bsp",
        "test accuracy after 3 epochs, local",
        "a step",
    ]
    assert [row.value for row in rows[:6]] == [5.0, 1.0, 2.0] * 2
    assert all(row.against is None and row.goal is None for row in rows[:6])
    told = "5 samples/s, 1.00 s to 97.0%, 2.00 s to 97.5%, last 98.00%"
    assert said == [
        "PyTorch is not installed: nothing to compare with (pip install torch)",
        f"warm-up: dualshard, 2 workers: {told}",
        f"round 1 of 1: dualshard, 2 workers: {told}",
        f"round 1 of 1: dualshard, 2 workers, bsp: {told}",
        f"round 1 of 1: dualshard, 2 workers, local: {told}",
    ]


def test_the_worst_seed_of_a_width_must_keep_the_promise():
    rows = width.make_rows({1: [97.6], 16: [97.4, 96.9, 97.1]})
    assert [(row.name, row.value, row.against, row.goal, row.holds) for row in rows] == [
        ("test accuracy after 3 epochs, 1 worker, against the promise", 97.6, 97.5, 1.0, True),
        ("test accuracy after 3 epochs, 16 workers, median", 97.1, 97.0, None, None),
        (
            "test accuracy after 3 epochs, 16 workers, worst of 3 seeds, against the promise",
            96.9,
            97.0,
            1.0,
            False,
        ),
    ]


@pytest.mark.parametrize("bench", [training.bench_train, width.bench_width])
def test_absent_data_is_one_line_that_names_the_option(bench, tmp_path):
    with pytest.raises(UserError) as absent:
        bench(tmp_path, 1, print)
    assert str(absent.value) == (
        f"--data = {tmp_path}: expected a folder with MNIST's four IDX files, raw or .gz; "
        "give the one that you have: --data DIR"
    )


def test_an_exchange_that_costs_a_tenth_of_the_step_is_allowed():
    row = overlap.make_row([0.1, 0.2, 0.3], [0.18])
    assert (row.value, row.against, row.unit) == (pytest.approx(200), pytest.approx(180), "ms")
    assert row.ratio == pytest.approx(0.9)


def test_each_code_is_compared_with_none():
    found = {"none": [Run(10.0, ((1.0, 0.98),), 4e6)], "f16": [Run(5.0, ((1.0, 0.97),), 2e6)]}
    rows = {row.name: row for row in compression.make_rows(found)}
    assert rows["none: pushed"].against is None
    assert rows["none: pushed"].value == 4.0
    assert rows["f16: pushed, against none"].ratio == 2.0
    assert rows["f16: test accuracy after 3 epochs, against none"].value == pytest.approx(97.0)
    assert rows["f16: speed of training, against none"].ratio == 0.5


@pytest.mark.processes
def test_a_run_of_the_cluster(images, tmp_path):
    settings = {"job.epochs": 1, "worker.count": 1, "paramserver.count": 1}
    trained = train_cluster(f"idx:{find_mnist(images)}", tmp_path / "ours", settings)
    assert trained.samples_per_second > 0
    assert 0.0 <= trained.accuracy <= 1.0
    with pytest.raises(RoleError, match=r"^dualshard train ended with status 2: dualshard: job\.e"):
        train_cluster(f"idx:{images}", tmp_path / "bad", {"job.epochs": 0})


@pytest.mark.processes
def test_compression_on_a_handful_of_images(images):
    said = []
    rows = compression.bench_compression(images, 1, said.append, ("none", "topk 0.01"))
    pushed = {row.name: row.value for row in rows if row.unit == "MB"}
    assert list(pushed) == ["none: pushed", "topk 0.01: pushed, against none"]
    assert pushed["topk 0.01: pushed, against none"] < 0.03 * pushed["none: pushed"]
    assert said[0].startswith("seed 0, none: ")


@pytest.mark.processes
def test_overlap_on_a_small_net(images, tmp_path):
    said = []
    (row,) = overlap.bench_overlap(images, tmp_path, 1, said.append, [16], 2)
    assert row.value
    assert row.against
    assert said[0].startswith("round 1 of 1: a step of ")


@pytest.mark.processes
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_of_pytorch(images, tmp_path, processes):
    pytest.importorskip("torch")
    trained = train_torch(tmp_path / "torch", images, RECIPES[OURS], 0, processes=processes)
    assert trained.samples_per_second > 0
    assert len(trained.evaluations) == 3 * 4
    seconds = [moment for moment, _ in trained.evaluations]
    assert seconds == sorted(seconds)
