"""`bench admm`: its rows from made-up runs, its data and jobs, and runs on a handful of images."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest

from dualshard.bench import admm, admm_runs
from dualshard.bench.admm import PARTS, bench_admm
from dualshard.bench.admm_accuracy import (
    A_FOUR,
    A_FOUR_THREE,
    A_LATE,
    A_ONE,
    A_SIGMOID,
    A_THREE,
    A_X10,
    B_BARE,
    B_HEAD,
    BACKPROP,
    BACKPROP_NINE,
    BACKPROP_THREE,
    EASGD,
    LARGE,
    LOCAL,
    A,
    on,
    sixty_rows,
    sixty_sides,
    small_rows,
    small_sides,
)
from dualshard.bench.admm_jobs import PASSES, agreeing, backprop
from dualshard.bench.admm_runs import Ground, Outcome, Side, read_outcome, run_side, write_data
from dualshard.bench.admm_slow import (
    AVERAGED,
    FULL,
    PARTIAL,
    named,
    replica_rows,
    replica_sides,
    slow_rows,
    slow_sides,
)
from dualshard.bench.admm_slow import (
    PARTS as MACHINES,
)
from dualshard.bench.report import Row
from dualshard.bench.runs import read_rows, told
from dualshard.common.config import resolve
from dualshard.common.errors import UserError
from dualshard.common.partition import parts


def outcome(
    accuracy: float, megabytes: float = 49.0, rounds: float = 48.0, **more: float
) -> Outcome:
    return Outcome(
        **{
            "seconds": 10.0,
            "evaluations": ((9.0, accuracy / 100),),
            "traffic": 1e6 * megabytes,
            "rounds": rounds,
            "server_traffic": 0.0,
            **more,
        }
    )


def by_name(rows: list[Row]) -> dict[str, Row]:
    assert len({row.name for row in rows}) == len(rows)
    return {row.name: row for row in rows}


def small() -> dict[str, list[Outcome]]:
    """Runs that keep every promise for 12,000 images."""
    return {
        A: [outcome(95.9), outcome(96.1), outcome(96.2)],
        BACKPROP: [outcome(accuracy, 147.0, 1128.0) for accuracy in (95.4, 96.3, 96.2)],
        LARGE: [outcome(95.0, 147.0, 144.0)] * 3,
        LOCAL: [outcome(95.3, 46.0, 24.0)] * 3,
        EASGD: [outcome(95.1, 160.0, 80.0)] * 3,
        A_SIGMOID: [outcome(95.2)] * 3,
        A_FOUR: [outcome(94.2, 90.0)] * 3,
        A_LATE: [outcome(94.0, lateness=5.5)] * 3,
        A_X10: [outcome(94.5)] * 3,
        B_HEAD: [outcome(95.0, copy_accuracy=0.945)] * 3,
        B_BARE: [outcome(93.0)] * 3,
    }


def misses(rows: list[Row]) -> list[str]:
    return [row.name for row in rows if row.holds is False]


def test_small_rows_hold_for_runs_that_keep_their_promises():
    rows = by_name(small_rows(small()))
    assert [name for name, row in rows.items() if row.goal is not None] == [
        "12k, A, 2 parts: accuracy, worst of 3 seeds, against the promise",
        "12k, A, 2 parts: accuracy, against backprop, 2 parts, less 0.5",
        "12k, A, 2 parts: bytes, against backprop, 2 parts",
        "12k, A, sigmoid: accuracy, worst of 3 seeds, against the promise",
        "12k, A, 4 parts: accuracy, worst of 3 seeds, against the promise",
        "12k, A, late targets: accuracy, worst of 3 seeds, against the promise",
        "12k, B, with a head: accuracy, worst of 3 seeds, against the promise",
        "12k, A, late targets: lateness, against 5",
        "12k, B, with a head: accuracy with the worse copy, against the better one less 1",
        "12k, B, without a head: accuracy, best of 3 seeds, which is to stay below",
    ]
    assert misses(list(rows.values())) == []
    worst = rows["12k, A, 2 parts: accuracy, worst of 3 seeds, against the promise"]
    assert (worst.value, worst.against) == (pytest.approx(95.9), 95.5)
    near = rows["12k, A, 2 parts: accuracy, against backprop, 2 parts, less 0.5"]
    assert (near.value, near.against) == (pytest.approx(96.1), pytest.approx(95.7))
    fewer = rows["12k, A, 2 parts: bytes, against backprop, 2 parts"]
    assert (fewer.value, fewer.against, fewer.ratio, fewer.goal) == (
        49.0,
        147.0,
        3.0,
        pytest.approx(3.0),
    )
    assert rows["12k, A, 2 parts: rounds, against backprop, 2 parts"].ratio == 23.5
    assert rows["12k, A, 2 parts: bytes, against local SGD, 2 workers"].ratio == 46 / 49


@pytest.mark.parametrize(
    ("side", "runs", "missed"),
    [
        (A, [outcome(95.4)] * 3, {"worst of", "less 0.5"}),
        (A, [outcome(96.0), outcome(96.0), outcome(95.4)], {"worst of"}),
        (A, [outcome(95.6)] * 3, {"less 0.5"}),
        (A, [outcome(96.0, 49.1)] * 3, {"bytes, against backprop, 2 parts"}),
        (A_SIGMOID, [outcome(94.9)] * 3, {"worst of"}),
        (A_FOUR, [outcome(93.9)] * 3, {"worst of"}),
        (A_LATE, [outcome(93.4, lateness=5.5)] * 3, {"worst of"}),
        (A_LATE, [outcome(94.0, lateness=4.9)] * 3, {"lateness"}),
        (A_LATE, [outcome(94.0)] * 3, {"lateness"}),
        (B_HEAD, [outcome(94.4, copy_accuracy=0.944)] * 3, {"worst of"}),
        (B_HEAD, [outcome(95.0, copy_accuracy=0.939)] * 3, {"the worse copy"}),
        (B_HEAD, [outcome(95.0, copy_accuracy=0.962)] * 3, {"the worse copy"}),
        (B_HEAD, [outcome(95.0)] * 3, {"the worse copy"}),
        (B_BARE, [outcome(93.0), outcome(93.0), outcome(94.1)], {"stay below"}),
    ],
)
def test_each_promise_for_12000_images_can_be_missed(side, runs, missed):
    found = misses(small_rows({**small(), side: runs}))
    assert len(found) == len(missed)
    assert all(any(words in name for name in found) for words in missed), found


def sixty() -> dict[str, list[Outcome]]:
    return {
        A_ONE: [outcome(97.2, 61.0, 59.0)] * 3,
        A_THREE: [outcome(97.8, 184.0, 177.0)] * 3,
        A_FOUR_THREE: [outcome(97.1)] * 3,
        BACKPROP_THREE: [outcome(97.2, 184.0, 1407.0)] * 3,
        BACKPROP_NINE: [outcome(97.8, 553.0, 4221.0)] * 3,
        LARGE: [outcome(97.0, 553.0, 531.0)] * 3,
        LOCAL: [outcome(97.6, 230.0)] * 3,
        EASGD: [outcome(97.5, 900.0)] * 3,
    }


def test_rows_of_60000_images_and_each_promise_missed():
    rows = sixty_rows(sixty())
    assert (misses(rows), len(by_name(rows))) == ([], 3 + 2 * 3 + 3 * 3)
    for side, low in ((A_ONE, 96.9), (A_THREE, 97.4), (A_FOUR_THREE, 96.9)):
        worse = {
            **sixty(),
            side: [*sixty()[side][1:], replace(sixty()[side][0], evaluations=((1.0, low / 100),))],
        }
        (name,) = misses(sixty_rows(worse))
        assert name == f"60k, {side}: accuracy, worst of 3 seeds, against the promise"
    wasteful = {**sixty(), A_ONE: [outcome(97.2, 62.0)] * 3}
    assert misses(sixty_rows(wasteful)) == ["60k, A, 1 sweep: bytes, against backprop, 3 epochs"]


def test_rows_of_slow_machines():
    found = {
        named(side, part): [outcome(accuracy, seconds=seconds)] * 3
        for side, accuracy, seconds in (("A, asynchronous", 94.0, 9.0), (BACKPROP, 96.0, 27.0))
        for part in MACHINES
    }
    rows = by_name(slow_rows(found))
    lower, upper = (
        f"12k, A, asynchronous, {part} machine 3 times slower" for part in ("lower", "upper")
    )
    assert list(rows) == [
        f"{start}: {what}" if what[0] == "t" or "worst" in what else f"{start}, {what}"
        for start in (lower, upper)
        for what in (
            "accuracy, worst of 3 seeds, against the promise",
            "against backprop, 2 parts: accuracy",
            "time to the end, against backprop, 2 parts",
        )
    ]
    assert misses(list(rows.values())) == []
    assert rows[f"{lower}: time to the end, against backprop, 2 parts"].ratio == 3.0
    found[named("A, asynchronous", "upper")] = [outcome(92.9)] * 3
    assert misses(slow_rows(found)) == [f"{upper}: accuracy, worst of 3 seeds, against the promise"]


def test_rows_of_replicas():
    found = {
        PARTIAL: [outcome(94.2, seconds=10.0)] * 3,
        FULL: [outcome(95.0, seconds=22.0)] * 3,
        AVERAGED: [outcome(95.1, seconds=22.0)] * 3,
    }
    rows = replica_rows(found)
    assert [(row.ratio, row.goal, row.holds) for row in rows] == [
        (2.2, 2.0, True),
        (pytest.approx(94.2 / 94.0), 1.0, True),
        (2.2, None, None),
        (pytest.approx(94.2 / 95.1), None, None),
    ]
    late = {**found, PARTIAL: [outcome(93.9, seconds=11.1)] * 3}
    assert [row.holds for row in replica_rows(late)][:2] == [False, False]


def test_an_outcome_is_read_from_a_run_directory():
    rows = [
        {"kind": "event", "seconds": 0.0, "text": "all are here"},
        {"kind": "evaluation", "seconds": 1.5, "accuracy": 0.95, "copy_accuracy": 0.90},
        {"kind": "epoch", "seconds": 2.0, "rounds": 10, "lateness": 1.0},
        {"kind": "epoch", "seconds": 3.0, "rounds": 30, "lateness": 3.0},
        {"kind": "evaluation", "seconds": 3.5, "accuracy": 0.96, "copy_accuracy": 0.955},
    ]
    summary = {"wall_seconds": 3.0, "bytes_pushed": 7, "bytes_pulled": 8, "pushes": 5}
    crossing = {"rounds": 40, "bytes_up": 100, "bytes_down": 200}
    read = read_outcome({**summary, **crossing}, rows)
    evaluations = ((1.5, 0.95), (3.5, 0.96))
    assert read == Outcome(3.0, evaluations, 300, 40, 15, copy_accuracy=0.955, lateness=2.5)
    assert [read.seconds_to(target) for target in (0.9, 0.96, 0.97)] == [1.5, 3.5, inf]
    uncut = read_outcome(summary, [{"kind": "evaluation", "seconds": 1.0, "accuracy": 0.9}])
    assert uncut == Outcome(3.0, ((1.0, 0.9),), 15, 5, 15)
    replicas = read_outcome({**summary, **crossing, "bytes_up": 0, "bytes_down": 0}, rows)
    assert (replicas.traffic, replicas.rounds) == (15, 5)


def test_the_data_are_the_first_images_and_their_test_set(images, tmp_path, monkeypatch):
    monkeypatch.setattr(admm_runs, "HELD_OUT", 56)
    for validation in (False, True):
        write_data(images, 100, tmp_path / f"{validation}.npz", validation=validation)
        write_data(images, 256, tmp_path / f"all-{validation}.npz", validation=validation)
    test, held = (dict(np.load(tmp_path / f"{name}.npz")) for name in ("False", "True"))
    all_test, all_held = (dict(np.load(tmp_path / f"all-{name}.npz")) for name in (False, True))
    pixels = np.random.default_rng(0).integers(0, 256, (256, 28, 28), np.uint8)
    for archive in (test, held):
        np.testing.assert_array_equal(archive["x_train"], pixels[:100])
        np.testing.assert_array_equal(archive["y_train"], np.arange(100) % 10)
    np.testing.assert_array_equal(all_test["x_train"], pixels)
    np.testing.assert_array_equal(all_held["x_train"], pixels[:200])
    assert (len(test["x_test"]), len(all_test["x_test"])) == (32, 32)
    for archive in (held, all_held):
        np.testing.assert_array_equal(archive["x_test"], pixels[200:])
        np.testing.assert_array_equal(archive["y_test"], np.arange(200, 256) % 10)


ALL_SIDES = {**small_sides(), **sixty_sides(), **slow_sides(), **replica_sides()}


@pytest.mark.parametrize("name", ALL_SIDES)
def test_every_job_is_one_that_the_command_takes(name):
    settings = ALL_SIDES[name].settings
    job = resolve(
        None, {}, tuple(f"{key}={told(value)}" for key, value in settings.items()), {}
    ).job
    assert job.worker.count % parts(job) == 0
    assert list(job.model.args["hidden"]) == [256, 128, 64]


def test_all_compute_the_same_amount():
    jobs = {name: side.settings for name, side in small_sides().items()}
    compute = {name: job["job.epochs"] * job.get("admm.passes", 1) for name, job in jobs.items()}
    assert set(compute.values()) == {12}
    assert {job["admm.passes"] for job in jobs.values() if "admm.passes" in job} == {PASSES}


def test_the_command_runs_the_parts_that_are_named(images, monkeypatch):
    grounds = []

    def part(ground: Ground) -> list[Row]:
        grounds.append(ground)
        return [Row("x", 1.0, "s", 1.0, 1.0, 2.0)]

    monkeypatch.setattr(admm, "PARTS", {"one": part, "two": part})
    assert bench_admm(["two"], images, 2, print) == [Row("x", 1.0, "s", 1.0, 1.0, 2.0)]
    (row,) = bench_admm(["one"], images, 1, print, validation=True)
    assert row == Row("validation: x", 1.0, "s", 1.0, 1.0, None)
    assert [(ground.seeds, ground.validation) for ground in grounds] == [(2, False), (1, True)]
    assert not grounds[0].folder.exists()
    assert list(PARTS) == ["small", "sixty", "slow", "replicas", "link"]


def test_absent_data_is_one_line_that_names_the_option(tmp_path):
    with pytest.raises(UserError, match=r"^--data = .*: expected a folder with MNIST's four IDX "):
        bench_admm(["small"], tmp_path, 1, print)


# Real clusters.

TINY = {"job.epochs": 1, "job.evaluate_every": 1, "data.batch_size": 16}


@pytest.mark.processes
def test_a_run_of_local_sgd_with_a_slow_worker(images, tmp_path):
    side = Side({"data.source": f"idx:{images}", "train.mode": "local", **TINY}, 1)
    found = run_side(side, tmp_path / "run", 0)
    assert found.rounds >= 2
    assert found.traffic == found.server_traffic > 0
    assert len(found.evaluations) == 1


@pytest.mark.processes
@pytest.mark.timeout(300)
def test_cut_nets_in_small(images, tmp_path):
    said = []
    ground = Ground(images, tmp_path, 1, validation=False, say=said.append)
    brief = {"data.batch_size": 16, "admm.macro_batch": 64}
    sides = {
        A: Side({**agreeing(1), **brief}),
        BACKPROP: Side(backprop(PASSES, data_batch_size=16)),
        B_HEAD: Side({**agreeing(1, coupling="weights"), **brief}, slow=1),
    }
    found = ground.run(on(sides, ground.source(256)), "small")
    assert [line.partition(": ")[0] for line in said] == ["small, seed 0"] * 3
    once = 256 * 4 * 2  # float32, both ways
    assert [found[name][0].traffic for name in (A, BACKPROP)] == [128 * once, PASSES * 128 * once]
    assert found[A][0].rounds == 4
    assert found[BACKPROP][0].rounds == PASSES * 16
    assert all(len(runs[0].evaluations) == 1 for runs in found.values())
    evaluated = [row for row in read_rows(tmp_path / "small-0-2" / "run") if "copy_accuracy" in row]
    assert found[B_HEAD][0].copy_accuracy == evaluated[-1]["copy_accuracy"]
    (row,) = [
        row
        for row in small_rows({**small(), **found})
        if row.name.startswith("12k, A, 2 parts: b") and row.goal
    ]
    assert (row.ratio, row.holds) == (3.0, True)
