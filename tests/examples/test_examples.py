"""The examples and the README's cluster by hand, run as a user runs them: real processes."""

import json
import re
import shlex
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from dualshard.common.config import read_job
from dualshard.common.job import Job
from dualshard.common.references import load
from dualshard.dataserver.events import Prepare
from dualshard.dataserver.process import Store
from dualshard.worker.model import Model, as_float32

ROOT = Path(__file__).parents[2]
DUALSHARD = [sys.executable, "-P", "-m", "dualshard.deploy"]


def train(out: Path, *arguments: str) -> dict[str, float]:
    """The totals of a run of `dualshard train`, from the root of the repository."""
    totals = out / "totals.json"
    command = [*DUALSHARD, "train", *arguments, "--out", str(out), "--json", str(totals)]
    out.mkdir()
    ran = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found: dict[str, float] = json.loads(totals.read_text())
    return found


def softmax_regression() -> Model:
    build = load(f"{ROOT / 'examples' / 'softmax_regression.py'}:build")
    assert callable(build)
    model = build(inputs=6, classes=3)
    assert isinstance(model, Model)
    return model


def test_softmax_regression_has_the_gradient_of_its_loss() -> None:
    """Against central differences of the loss, written again in float64."""
    model, rng = softmax_regression(), np.random.default_rng(5)
    parameters = {
        name: rng.normal(size=shape).astype(np.float32) for name, shape in model.shapes().items()
    }
    gradients = {name: np.full_like(values, np.nan) for name, values in parameters.items()}
    x = rng.normal(size=(7, 2, 3)).astype(np.float32)
    labels = rng.integers(0, 3, 7)

    def loss(wide: dict[str, np.ndarray]) -> float:
        logits = x.reshape(7, 6).astype(np.float64) @ wide["weight"] + wide["bias"]
        picked = np.exp(logits)[np.arange(7), labels] / np.exp(logits).sum(axis=1)
        return float(-np.log(picked).mean())

    metrics = model.gradients(parameters, gradients, (x, labels), rng)
    wide = {name: values.astype(np.float64) for name, values in parameters.items()}
    assert metrics["loss"] == pytest.approx(loss(wide), rel=1e-5)
    assert metrics == model.evaluate(parameters, (x, labels))
    for name, values in wide.items():
        assert gradients[name].dtype == np.float32
        for index in np.ndindex(values.shape):
            kept = values[index]
            values[index] = kept + 1e-5
            above = loss(wide)
            values[index] = kept - 1e-5
            below = loss(wide)
            values[index] = kept
            assert gradients[name][index] == pytest.approx((above - below) / 2e-5, abs=1e-5)


@pytest.mark.processes
def test_softmax_regression_trains(tmp_path: Path) -> None:
    model = ["--model", "examples/softmax_regression.py:build"]
    totals = train(tmp_path / "run", *model, "--set", "job.epochs=5")
    assert totals["epochs"] == 5
    assert totals["samples"] == 5 * 1438
    assert totals["test_accuracy"] > 0.85


@pytest.mark.processes
@pytest.mark.parametrize(
    ("framework", "reference"),
    [
        ("torch", "torch_mlp.py:Net"),
        ("jax", "jax_mlp.py:build"),
        ("numpy", "sequential.py:net"),
    ],
)
def test_models_of_every_form_train(tmp_path: Path, framework: str, reference: str) -> None:
    pytest.importorskip(framework)
    model = ["--model", f"examples/{reference}"]
    totals = train(tmp_path / "run", *model, "--set", "job.epochs=8")
    assert totals["samples"] == 8 * 1438
    assert totals["test_accuracy"] > 0.8


@pytest.mark.processes
def test_a_module_that_was_trained_loads_in_plain_pytorch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    run, file = tmp_path / "run", tmp_path / "model.pt"
    model = ["--model", "examples/torch_mlp.py:Net", "--set", "model.args.hidden=32"]
    totals = train(run, *model, "--set", "job.epochs=4")
    command = [*DUALSHARD, "export", str(run), "--format", "pt", "--out", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    module: Any = load(f"{ROOT / 'examples' / 'torch_mlp.py'}:Net")
    net = module(inputs=64, classes=10, hidden=32)
    net.load_state_dict(torch.load(file, weights_only=True))
    store = Store(read_job(run / "job.toml"))
    images, labels = store.prepare(Prepare(True, 0, 0)).arrays
    assert len(labels) == store.facts.test_samples
    with torch.no_grad():
        outputs = net.eval()(torch.from_numpy(as_float32(images))).numpy()
    assert (outputs.argmax(axis=1) == labels).mean() == pytest.approx(totals["test_accuracy"])


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_an_example_is_short_and_says_how_it_is_run(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) < 60
    command = f"    dualshard train (--model |--set data.source=)examples/{path.name}:"
    assert any(re.match(command, line) for line in lines)


@pytest.mark.processes
def test_data_of_ones_own_trains(tmp_path: Path) -> None:
    own = "examples/own_data.py"
    data = ["--set", f"data.source={own}:Stripes", "--set", f"data.augment={own}:Window"]
    totals = train(tmp_path / "run", *data, "--set", "job.epochs=2")
    assert totals["samples"] == 2 * 3200
    assert totals["test_accuracy"] > 0.9


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">2xBB{array.ndim}I", 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def test_the_mnist_job_is_the_defaults_but_for_its_data_and_length() -> None:
    job, plain = read_job(ROOT / "examples" / "mnist.toml"), Job()
    assert (job.job.epochs, job.data.source) == (3, "idx:data/mnist")
    assert job.model.args == {"hidden": (256, 128), "activation": "relu"}
    assert (job.train, job.optimizer, job.worker) == (plain.train, plain.optimizer, plain.worker)
    assert (job.paramserver, job.data.batch_size) == (plain.paramserver, plain.data.batch_size)


@pytest.mark.processes
def test_the_mnist_job_trains_on_files_of_that_format(tmp_path: Path) -> None:
    images, labels = load_digits(return_X_y=True)
    images = np.minimum(images.reshape(-1, 8, 8) * 16, 255)
    for part, chosen in (("train", slice(0, 1500)), ("t10k", slice(1500, None))):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", images[chosen])
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", labels[chosen])
    source = ["--set", f"data.source=idx:{tmp_path}"]
    totals = train(tmp_path / "run", "examples/mnist.toml", *source)
    assert totals["samples"] == 3 * 1500
    assert totals["test_accuracy"] > 0.75
    assert (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.processes
def test_the_lenet_job_trains_on_images_of_that_size(tmp_path: Path) -> None:
    images, labels = load_digits(return_X_y=True)
    images = np.minimum(images.reshape(-1, 8, 8) * 16, 255).repeat(3, axis=1).repeat(3, axis=2)
    images = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    for part, chosen in (("train", slice(0, 1500)), ("t10k", slice(1500, None))):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", images[chosen])
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", labels[chosen])
    settings = ["--set", f"data.source=idx:{tmp_path}", "--set", "job.epochs=4"]
    totals = train(tmp_path / "run", "examples/mnist_lenet.toml", *settings)
    assert totals["samples"] == 4 * 1500
    assert totals["test_accuracy"] > 0.85


def commands_by_hand(port: int) -> list[list[str]]:
    """The commands of the README's four terminals, on another port, and fewer epochs."""
    text = (ROOT / "README.md").read_text()
    block = re.search(r"```sh\n(# terminal 1\n.*?)```", text, re.DOTALL)
    assert block is not None
    shown = block[1].replace(":7077", f":{port}").replace("job.epochs=50", "job.epochs=3")
    lines = [line for line in shown.splitlines() if not line.startswith("#")]
    assert len(lines) == 4
    commands = [shlex.split(one) for line in lines for one in line.split(" & ")]
    assert {words[0] for words in commands} == {"dualshard"}
    return [[*DUALSHARD, *words[1:]] for words in commands]


def run_together(commands: Sequence[Sequence[str]], folder: Path) -> list[tuple[int, str]]:
    """Exit status and output of commands that run at the same time, started in this order."""
    logs = [folder / f"{number}.log" for number in range(len(commands))]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command, log in zip(commands, logs, strict=True):
            with log.open("wb") as output:
                started.append(
                    subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
                )
        statuses = [process.wait(60) for process in started]
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
                process.wait()
    return [(status, log.read_text()) for status, log in zip(statuses, logs, strict=True)]


@pytest.mark.processes
def test_the_readmes_cluster_by_hand_trains_whichever_role_starts_first(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    *others, controller = reversed(commands_by_hand(port))
    ended = run_together([*others, [*controller, "--out", "run"]], tmp_path)
    assert [status for status, _ in ended] == [0] * 6, ended
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["epochs"], summary["workers"], summary["servers"]) == (3, 2, 2)
