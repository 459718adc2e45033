"""What a reference may name: our own forms. Those of PyTorch and JAX have files of their own."""

import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from dualshard.common.cluster import DataShape
from dualshard.common.errors import UserError
from dualshard.common.job import Job
from dualshard.common.messages import Portion
from dualshard.worker.batches import Lease, Minibatch
from dualshard.worker.building import build_model
from dualshard.worker.events import Compute
from dualshard.worker.nn.sequential import Sequential
from dualshard.worker.step import Stepper

DATA = DataShape(100, 20, 3, (2, 2), 5)

FILE = """
from dualshard.worker.nn.activations import ReLU
from dualshard.worker.nn.convolution import Conv2D
from dualshard.worker.nn.dense import Dense
from dualshard.worker.nn.flatten import Flatten
from dualshard.worker.nn.losses import SoftmaxCrossEntropy
from dualshard.worker.nn.norm import BatchNorm
from dualshard.worker.nn.pooling import MaxPool
from dualshard.worker.nn.sequential import Sequential


def build(inputs, classes):
    return Sequential([Dense(inputs, 5), ReLU(), Dense(5, classes)], SoftmaxCrossEntropy())


def convolve():
    layers = [Conv2D(1, 4, 2, padding=1), BatchNorm(4), ReLU(), MaxPool(2), Flatten(), Dense(4, 3)]
    return Sequential(layers, SoftmaxCrossEntropy(), sample_shape=(2, 2))


net = build(4, 3)
images = convolve()
pair = net, None
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)


def job(ref: str, **settings: Any) -> Job:
    model = {"ref": f"mine.py:{ref}", "args": settings.pop("args", {})}
    return Job.from_dict({"model": model, **settings})


TWO: dict[str, Any] = {"worker": {"threads": 2}, "train": {"in_flight": 1}}


def steps(stepper: Stepper, lane: int) -> list[np.ndarray]:
    """Gradients of one lane, all with the same parameters."""
    random, found = np.random.default_rng(0), []
    for number in range(30):
        inputs = random.normal(size=(7, 2, 2)).astype(np.float32)
        data = inputs, random.integers(0, 3, 7)
        lease = Lease("tcp://there:1", Portion(0, 0, False, *data), 1)
        stepper.compute(Compute(lane, [Minibatch(lease, number, *data)]))
        found.append(stepper.gradients[lane].copy())
    return found


def together(stepper: Stepper) -> dict[int, list[np.ndarray]]:
    """The same of two lanes that compute at the same time."""
    found: dict[int, list[np.ndarray]] = {}

    def work(lane: int) -> None:
        found[lane] = steps(stepper, lane)

    threads = [Thread(target=work, args=(lane,)) for lane in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize(("builder", "net"), [("build", "net"), ("convolve", "images")])
def test_a_net_that_is_there_already_trains_as_one_that_is_built(builder: str, net: str) -> None:
    """On lanes at the same time, and again: none, and no earlier run, has touched it."""
    expected = steps(Stepper(job(builder, **TWO), DATA), 0)
    for _ in range(2):
        stepper = Stepper(job(net, **TWO), DATA)
        assert all(type(model) is Sequential for model in stepper._models)
        found = together(stepper)
        np.testing.assert_array_equal(found[0], expected)
        np.testing.assert_array_equal(found[1], expected)


def test_arguments_are_for_builders() -> None:
    with pytest.raises(UserError) as refused:
        build_model(job("net", args={"inputs": 4}), DATA)
    assert str(refused.value) == (
        "model.args = {'inputs': 4}: expected no arguments; "
        "mine.py:net is a Sequential already: name a function that builds it"
    )


def test_a_pair_of_our_own_is_no_model() -> None:
    with pytest.raises(UserError) as refused:
        build_model(job("pair"), DATA)
    assert str(refused.value) == (
        "model.ref = mine.py:pair: expected a Model, a PyTorch module, (module, loss), or "
        "(init, loss) of JAX, or a builder of one; this is of type tuple"
    )


def test_who_has_no_model_of_a_framework_does_not_wait_for_it() -> None:
    code = (
        "import sys\n"
        "from dualshard.common.cluster import DataShape\n"
        "from dualshard.common.job import Job\n"
        "import dualshard.worker.process\n"
        "from dualshard.worker.building import build_model\n"
        "for ref in ('mlp', 'mine.py:net', 'mine.py:build'):\n"
        "    build_model(Job.from_dict({'model': {'ref': ref}}), DataShape(9, 9, 3, (2, 2), 1))\n"
        "print(sorted({'jax', 'torch', 'cupy'} & sys.modules.keys()))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False
    )
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


def test_a_framework_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("pure.py").write_text("net = (lambda key: None), (lambda tree, inputs, labels: 0.0)\n")
    monkeypatch.setitem(sys.modules, "jax", None)
    monkeypatch.delitem(sys.modules, "dualshard.worker.adapters.jax", raising=False)
    with pytest.raises(UserError) as refused:
        build_model(Job.from_dict({"model": {"ref": "pure.py:net"}}), DATA)
    assert str(refused.value) == (
        "model.ref = pure.py:net: expected JAX, for a pair of functions; "
        "install it with: pip install 'dualshard[jax]'"
    )
