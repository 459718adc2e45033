"""`dualshard bench`: what it prints and writes, and what it refuses. Nothing is measured."""

import json
import os

import pytest
from click.testing import CliRunner

from dualshard.bench import admm, compute, push_pull, scale
from dualshard.bench.machine import machine_facts
from dualshard.bench.report import Row
from dualshard.deploy import bench
from dualshard.deploy.commands import dualshard

ROWS = [Row("speed", 3000.0, "samples/s", 1000.0, 3.0, 2.5), Row("accuracy", 98.2, "%")]


@pytest.fixture
def run(monkeypatch):
    """Calls the command; `bench scale` has the rows above, and signals are left as they are."""
    monkeypatch.setattr(bench.signal, "signal", lambda number, handler: None)
    monkeypatch.setattr(scale, "bench_scale", lambda rounds, seconds, say: ROWS)
    return lambda *arguments: CliRunner().invoke(dualshard, ["bench", *map(str, arguments)])


def test_rows_are_printed_and_written(run, tmp_path):
    result = run("scale", "--json", tmp_path / "rows.json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads((tmp_path / "rows.json").read_text()) == [row.to_dict() for row in ROWS]
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "| speed | 3,000 samples/s | 1,000 | 3.00 | 2.50 | yes |" in lines
    assert "| accuracy | 98.20 % | | | | |" in lines
    assert result.stdout.startswith("\ncommand: dualshard")


def test_sizes_and_rules_are_lists(run, monkeypatch):
    asked = []
    monkeypatch.setattr(
        push_pull, "bench_push_pull", lambda *given: asked.append(given[:4]) or ROWS
    )
    assert run("pushpull").exit_code == 0
    arguments = ["--sizes", "1,8", "--rules", "adam", "--rounds", "2", "--seconds", "0.1"]
    assert run("pushpull", *arguments).exit_code == 0
    rules = ["sgd", "momentum", "adagrad", "rmsprop", "adam"]
    assert asked == [([64, 256], rules, 5, 0.5), ([1, 8], ["adam"], 2, 0.1)]


def test_nets_and_batches_are_lists(run, monkeypatch):
    asked = []
    monkeypatch.setattr(compute, "bench_compute", lambda *given: asked.append(given[:5]) or ROWS)
    assert run("compute").exit_code == 0
    arguments = ["--nets", "lenet,mlp", "--batches", "8,64", "--rounds", "2", "--seconds", "0.1"]
    assert run("compute", *arguments).exit_code == 0
    nets = ["mlp", "ciresan", "lenet", "lenet_bn", "cifar", "resnet20"]
    assert asked == [(nets, [], "cpu", 5, 1.0), (["lenet", "mlp"], [8, 64], "cpu", 2, 0.1)]


def test_parts_of_admm_are_a_list(run, monkeypatch, tmp_path):
    asked = []

    def measure(*given, **more):
        asked.append((*given[:3], more))
        return ROWS

    monkeypatch.setattr(admm, "bench_admm", measure)
    assert run("admm").exit_code == 0
    options = ["--part", "link,small", "--seeds", "1", "--data", tmp_path, "--validation"]
    assert run("admm", *options).exit_code == 0
    assert asked == [
        (["small", "sixty", "slow", "replicas", "link"], None, 3, {"validation": False}),
        (["link", "small"], tmp_path, 1, {"validation": True}),
    ]
    described = " ".join(run("admm", "--help").stdout.split())
    assert "against exact backprop, local SGD and EASGD" in described
    assert all(option in described for option in ("--part", "--seeds", "--validation", "--json"))


def test_the_machine_and_what_was_set_on_it_are_told(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    facts = machine_facts()
    assert list(facts) == [
        "date",
        "processor",
        "load average",
        "versions",
        "BLAS",
        "environment",
    ]
    assert "OPENBLAS_CORETYPE=Haswell" in facts["environment"]
    assert "kernels" in facts["BLAS"]
    assert "numpy" in facts["versions"]
    for name in [name for name in os.environ if name.startswith("OPENBLAS_")]:
        monkeypatch.delenv(name)
    assert machine_facts()["environment"] == "no OPENBLAS_* variable is set"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            [],
            "name a benchmark: pushpull, encrypted, scale, straggler, compression, memory, train, "
            "width, apply, compute, threads, lockfree, accuracy, data, admm; see ",
        ),
        (["speed"], "No such command 'speed'"),
        (["scale", "--rounds", "0"], "Invalid value for '--rounds': 0 is not in the range x>=1; "),
        (
            ["pushpull", "--sizes", "64,0"],
            "Invalid value for '--sizes': '64,0' is not a list of MiB like 64,256; ",
        ),
        (
            ["pushpull", "--rules", "sgd,lion"],
            "Invalid value for '--rules': 'sgd,lion' is not a list of sgd, momentum, adagrad, "
            "rmsprop, adam; ",
        ),
        (
            ["compute", "--nets", "lenet,alexnet"],
            "Invalid value for '--nets': 'lenet,alexnet' is not a list of mlp, ciresan, lenet, "
            "lenet_bn, cifar, resnet20; ",
        ),
        (
            ["compute", "--batches", "8;32"],
            "Invalid value for '--batches': '8;32' is not a list of numbers of samples like 8,32; ",
        ),
        (
            ["compute", "--device", "gpu"],
            "--device = gpu: expected cpu or cuda:N; for example --device cuda:0",
        ),
        (
            ["data", "--part", "jpeg,png"],
            "Invalid value for '--part': 'jpeg,png' is not a list of pixels, jpeg, end-to-end, "
            "wait, state; ",
        ),
        (
            ["admm", "--part", "small,large"],
            "Invalid value for '--part': 'small,large' is not a list of small, sixty, slow, "
            "replicas, link; ",
        ),
        (["admm", "--seeds", "0"], "Invalid value for '--seeds': 0 is not in the range x>=1; "),
        (
            ["admm", "--data", "nowhere"],
            "--data = nowhere: expected a folder with MNIST's four IDX files, raw or .gz; give the "
            "one that you have: --data DIR",
        ),
        (
            ["accuracy", "--epochs", ""],
            "Invalid value for '--epochs': '' is not a list of numbers of epochs like 2,10; ",
        ),
        (
            ["scale", "--json", "nowhere/rows.json"],
            "--json = nowhere/rows.json: expected a file that can be written; there is no folder "
            "nowhere: choose another",
        ),
        (
            ["train", "--data", "nowhere"],
            "--data = nowhere: expected a folder with MNIST's four IDX files, raw or .gz; give the "
            "one that you have: --data DIR",
        ),
    ],
)
def test_bad_input_is_one_line(run, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"dualshard: {words}")
    assert list(tmp_path.iterdir()) == []
