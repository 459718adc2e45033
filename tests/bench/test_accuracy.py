"""`bench accuracy`: its rows, its recipe, and a run of both sides on a handful of images."""

from pathlib import Path

import pytest

from dualshard.bench import accuracy
from dualshard.bench.accuracy import DDP, OURS, bench_accuracy, make_rows, make_settings
from dualshard.bench.recipes import one_cycle
from dualshard.bench.runs import Run
from dualshard.common.config import read_job
from dualshard.common.errors import UserError

EXAMPLE = Path(__file__).parents[2] / "examples" / "mnist_lenet.toml"


def run(*evaluations: tuple[float, float]) -> Run:
    return Run(1000.0, evaluations)


def test_the_worst_seed_must_keep_the_promise():
    found = {
        OURS: [run((2.0, 0.98), (6.0, 0.9931)), run((3.0, 0.985), (5.0, 0.9925))],
        DDP: [run((5.0, 0.985), (9.0, 0.994)), run((5.0, 0.985), (11.0, 0.994))],
    }
    rows = make_rows(2, found)
    assert [row.name for row in rows] == [
        *(
            f"time to {target} %, job of 2 epochs, against PyTorch DDP, 2 processes"
            for target in ("98.0", "99.0", "99.3")
        ),
        "test accuracy, job of 2 epochs, against PyTorch DDP, 2 processes",
        "test accuracy, job of 2 epochs, worst of 2 seeds, against the promise",
    ]
    assert [(row.value, row.against, row.ratio) for row in rows[:3]] == [
        (2.5, 5.0, 2.0),
        (5.5, 10.0, pytest.approx(20 / 11)),
        (None, 10.0, None),
    ]
    assert rows[3].value == pytest.approx(99.28)
    assert rows[3].against == pytest.approx(99.4)
    assert (rows[4].value, rows[4].against, rows[4].holds) == (99.25, 99.3, False)
    assert [row.goal for row in rows] == [None] * 4 + [1.0]

    (*_, kept) = make_rows(10, {OURS: [run((9.0, 0.9951))]})
    assert (kept.name, kept.holds) == (
        "test accuracy, job of 10 epochs, worst of 1 seed, against the promise",
        True,
    )
    assert len(make_rows(3, {OURS: [run((9.0, 0.9951))]})) == 4  # nothing is promised for 3


def test_the_example_is_the_job_that_is_measured():
    example = read_job(EXAMPLE)
    settings = make_settings(example.job.epochs, example.job.seed)
    assert example.data.augment == (f"shift:{accuracy.SHIFT:g}",)
    assert settings.pop("data.augment") == f'["shift:{accuracy.SHIFT:g}"]'
    assert {key: example.value(key) for key in settings} == settings


def test_pytorchs_recipe_is_ours():
    settings = make_settings(2, 0)
    recipe = one_cycle(accuracy.RATE, accuracy.RISE, accuracy.SHIFT, accuracy.BATCH, 2)
    assert recipe.arguments == {
        "lr": settings["optimizer.lr"],
        "momentum": read_job(EXAMPLE).optimizer.momentum,
        "nesterov": True,
    }
    assert (recipe.net, recipe.epochs) == (settings["model.ref"], settings["job.epochs"])
    assert (recipe.batch, recipe.schedule) == (
        settings["data.batch_size"],
        settings["optimizer.schedule"],
    )


def test_absent_data_is_one_line_that_names_the_option(tmp_path):
    with pytest.raises(UserError, match=r"^--data = .*: expected a folder with MNIST's four IDX "):
        bench_accuracy(tmp_path, [2], 1, print)


@pytest.mark.processes
def test_both_sides_on_a_handful_of_images(images):
    pytest.importorskip("torch")
    said = []
    rows = bench_accuracy(images, [1], 1, said.append)
    assert [line.partition(": ")[0] for line in said] == ["1 epoch, round 1 of 1"] * 2
    last = rows[-1]
    assert last.name == "test accuracy, job of 1 epoch, against PyTorch DDP, 2 processes"
    assert last.value is not None
    assert last.against is not None
