"""PyTorch modules as models, against plain PyTorch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lanes_at_once import check_lanes

from dualshard.common.cluster import DataShape
from dualshard.common.errors import UserError
from dualshard.common.job import Job
from dualshard.common.messages import Portion
from dualshard.worker.adapters.forms import adapt, copy_of, is_model
from dualshard.worker.batches import Lease, Minibatch
from dualshard.worker.events import Compute
from dualshard.worker.layout import Layout, Parameters
from dualshard.worker.model import Model
from dualshard.worker.step import Stepper

torch = pytest.importorskip("torch")
nn = torch.nn
DATA = DataShape(100, 20, 3, (6, 6), 5)


class Net(nn.Module):
    """A convolution, normalisation and a dense layer, with buffers of all kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.out = nn.Linear(16, 3)
        self.gain = nn.Parameter(torch.tensor(1.5))
        self.register_buffer("table", torch.arange(3.0))
        self.register_buffer("local", torch.ones(3), persistent=False)

    def forward(self, x: Any) -> Any:
        x = torch.max_pool2d(torch.relu(self.norm(self.conv(x[:, None]))), 2)
        return self.out(x.flatten(1)) * self.gain + self.table * self.local


def made(seed: int = 0, build: Callable[[], Any] = Net) -> Any:
    torch.manual_seed(seed)
    return build()


def wrapped(module: Any, loss: Any = None) -> Model:
    model = adapt(module if loss is None else (module, loss), "mine.py:Net", 3)
    assert model is not None
    return model


def arrays(model: Model) -> tuple[Parameters, Parameters]:
    layout = Layout(model.shapes())
    parameters, gradients = (layout.views(np.zeros(layout.size, np.float32)) for _ in range(2))
    model.start(parameters, np.random.default_rng(0))
    gradients.flat[:] = np.nan  # as it comes: with anything
    return parameters, gradients


def batch(samples: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(samples, 6, 6)).astype(np.float32)
    inputs.flags.writeable = False  # as it comes by the wire
    return inputs, random.integers(0, 3, samples)


def plain_step(module: Any, inputs: np.ndarray, labels: np.ndarray, rate: float) -> float:
    """One step of gradient descent in plain PyTorch; returns the loss."""
    module.train()
    module.zero_grad()
    outputs = module(torch.tensor(inputs))
    loss = nn.functional.cross_entropy(outputs, torch.tensor(labels))
    loss.backward()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter -= np.float32(rate) * parameter.grad
    return float(loss.detach())


def test_names_order_and_first_values_are_those_of_the_state_dict() -> None:
    module = made()
    state = {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}
    del state["norm.num_batches_tracked"]
    model = wrapped(module)
    parameters, _ = arrays(model)
    assert list(model.shapes().items()) == [(name, values.shape) for name, values in state.items()]
    for name, values in state.items():
        np.testing.assert_array_equal(parameters[name], values)


def test_training_is_bit_for_bit_that_of_plain_pytorch() -> None:
    """Gradient descent over ten steps; the running statistics too, to the rounding of p -= g."""
    plain, model = made(), wrapped(made())
    parameters, gradients = arrays(model)
    averaged = [name for name in parameters if model.averaged(name)]
    assert averaged == ["table", "norm.running_mean", "norm.running_var"]
    for step in range(10):
        inputs, labels = batch(8 - step % 3, step)
        expected = plain_step(plain, inputs, labels, 0.1)
        random = np.random.default_rng(step)
        metrics = model.gradients(parameters, gradients, (inputs, labels), random)
        assert metrics["loss"] == expected
        for name, values in parameters.items():
            values -= gradients[name] if name in averaged else np.float32(0.1) * gradients[name]
        for name, tensor in plain.state_dict().items():
            if name in averaged:
                np.testing.assert_allclose(parameters[name], tensor, rtol=1e-6, atol=1e-7)
            elif name in parameters:
                np.testing.assert_array_equal(parameters[name], tensor, err_msg=name)


def test_running_statistics_are_pushed_as_momentum_times_running_minus_batch() -> None:
    model = wrapped(made())
    parameters, gradients = arrays(model)
    parameters["norm.running_mean"][:] = 1.0
    before = parameters.flat.copy()
    model.gradients(parameters, gradients, batch(), np.random.default_rng(0))
    conv = made().conv(torch.tensor(batch()[0])[:, None]).detach().numpy().astype(np.float64)
    mean = conv.mean(axis=(0, 2, 3))
    variance = conv.var(axis=(0, 2, 3), ddof=1)  # PyTorch keeps the unbiased one
    found = gradients["norm.running_mean"]
    np.testing.assert_allclose(found, 0.1 * (1.0 - mean), rtol=1e-5)
    np.testing.assert_allclose(gradients["norm.running_var"], 0.1 * (1 - variance), rtol=1e-4)
    assert not gradients["table"].any()
    np.testing.assert_array_equal(parameters.flat, before)


def test_an_evaluation_uses_the_averages_of_the_vector_and_no_dropout() -> None:
    module = made(build=lambda: nn.Sequential(Net(), nn.Dropout(0.5)))
    model, plain = wrapped(copy_of(module)), module.eval()
    parameters, gradients = arrays(model)
    model.gradients(parameters, gradients, batch(), np.random.default_rng(0))
    parameters["0.norm.running_mean"][:] = 0.25
    plain[0].norm.running_mean[:] = 0.25
    inputs, labels = batch(600)
    outputs = plain(torch.tensor(inputs)).detach()
    metrics = model.evaluate(parameters, (inputs, labels))
    expected = nn.functional.cross_entropy(outputs, torch.tensor(labels))
    assert metrics["loss"] == pytest.approx(float(expected), rel=1e-5)
    assert metrics["accuracy"] == float((outputs.argmax(1).numpy() == labels).mean())


def test_parameters_and_gradients_are_not_copied() -> None:
    module = made()
    model = wrapped(module)
    parameters, gradients = arrays(model)
    model.gradients(parameters, gradients, batch(), np.random.default_rng(0))
    for name, tensor in module.named_parameters():
        assert tensor.data_ptr() == parameters[name].ctypes.data
        assert tensor.grad.data_ptr() == gradients[name].ctypes.data
    others, _ = arrays(model)
    others["out.bias"][:] = 5.0
    model.evaluate(others, batch())
    assert module.out.bias.data_ptr() == others["out.bias"].ctypes.data
    model.gradients(parameters, gradients, batch(), np.random.default_rng(0))
    assert module.out.bias.data_ptr() == parameters["out.bias"].ctypes.data


def test_dropout_follows_the_stream_of_the_minibatch() -> None:
    model = wrapped(made(build=lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 9), nn.Dropout())))
    parameters, gradients = arrays(model)
    found = []
    for seed in (3, 4, 3):
        model.gradients(parameters, gradients, batch(), np.random.default_rng(seed))
        found.append(gradients.flat.copy())
    np.testing.assert_array_equal(found[0], found[2])
    assert (found[0] != found[1]).any()


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(36, 36), nn.Linear(36, 36)
        self.two.weight = self.one.weight
        self.one.bias.requires_grad = False

    def forward(self, x: Any) -> Any:
        return self.two(self.one(x.flatten(1)))


def test_tied_weights_are_one_parameter_and_frozen_ones_stay() -> None:
    model, plain = wrapped(made(build=Tied)), made(build=Tied)
    parameters, gradients = arrays(model)
    assert list(parameters) == ["one.weight", "one.bias", "two.bias"]
    assert [model.decayed(name) for name in parameters] == [True, False, False]
    model.gradients(parameters, gradients, batch(), np.random.default_rng(0))
    inputs, labels = batch()
    nn.functional.cross_entropy(plain(torch.tensor(inputs)), torch.tensor(labels)).backward()
    np.testing.assert_array_equal(gradients["one.weight"], plain.one.weight.grad)
    assert not gradients["one.bias"].any()


def test_weights_decay_and_averages_do_not() -> None:
    model = wrapped(made())
    assert [name for name in model.shapes() if model.decayed(name)] == ["conv.weight", "out.weight"]


class WithLoss(Net):
    def loss(self, outputs: Any, labels: Any) -> Any:
        worst = outputs.abs().max()
        return nn.functional.cross_entropy(outputs, labels, reduction="sum"), {"worst": worst}


def test_a_loss_of_its_own_and_its_measures() -> None:
    model, plain = wrapped(made(build=WithLoss)), wrapped(made())
    for samples in (8, 300):  # an evaluation in one piece, and in two
        inputs, labels = batch(samples)
        found = model.evaluate(arrays(model)[0], (inputs, labels))
        assert found.keys() == {"loss", "accuracy", "worst"}
        if samples == 8:
            mean = plain.evaluate(arrays(plain)[0], (inputs, labels))["loss"]
            assert found["loss"] == pytest.approx(8 * mean, rel=1e-5)
    beside = wrapped(made(), lambda outputs, labels: outputs.square().mean())
    found = beside.evaluate(arrays(beside)[0], batch())
    assert found["loss"] != mean
    assert found.keys() == {"loss", "accuracy"}


class Lone(nn.Module):
    """One parameter, and a forward pass that the test writes."""

    def __init__(self, forward: Callable[[Any, Any], Any], dtype: Any = None) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(3, 36, dtype=dtype))
        self._forward = forward

    def forward(self, x: Any) -> Any:
        return self._forward(self, x.flatten(1))


def linear(self: Any, x: Any) -> Any:
    return x @ self.w.T


def replaces(self: Any, x: Any) -> Any:
    self.w = nn.Parameter(torch.zeros(3, 36))
    return x @ self.w.T


def moves(self: Any, x: Any) -> Any:
    self.w.data = torch.zeros(3, 36)
    return x @ self.w.T


def first_step(module: Any, loss: Any) -> Any:
    model = wrapped(module, loss)
    return model.gradients(*arrays(model), batch(), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("module", "loss", "expected"),
    [
        (
            lambda: Lone(lambda self, x: x @ self.w[:2].T),
            None,
            "outputs of shape (8, 3), a number for each class; forward() returned (8, 2)",
        ),
        (
            lambda: Lone(lambda self, x: [x]),
            None,
            "outputs of shape (8, 3), a number for each class; forward() returned list",
        ),
        (
            lambda: Lone(linear),
            lambda outputs, labels: outputs[0],
            "a loss of one number; loss() returned (3,)",
        ),
        (
            lambda: Lone(linear),
            lambda outputs, labels: 1.0,
            "a loss of one number; loss() returned float",
        ),
        (
            lambda: Lone(linear),
            lambda outputs, labels: (outputs.mean(), outputs),
            "a dictionary of measures beside the loss; it is of type Tensor",
        ),
        (
            lambda: Lone(linear),
            lambda outputs, labels: outputs.detach().mean(),
            "a loss that depends on the parameters; it has no gradient",
        ),
        (
            lambda: Lone(replaces),
            None,
            "parameters that stay where they are; "
            "w was replaced while it computed: write into it instead",
        ),
        (
            lambda: Lone(moves),
            None,
            "parameters that stay where they are; "
            "w was replaced while it computed: write into it instead",
        ),
        (lambda: Lone(linear), 7, "a loss that can be called; it is of type int"),
        (
            lambda: Lone(linear, torch.float64),
            None,
            "parameters of torch.float32; w is torch.float64: build the module with .float()",
        ),
        (
            lambda: Lone(linear).bfloat16(),
            None,
            "parameters of torch.float32; w is torch.bfloat16: build the module with .float()",
        ),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3)),
            None,
            "parameters of a known shape; "
            "1.weight has none yet: run a batch through the module in the builder",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_what_cannot_be_trained_is_one_line(
    module: Callable[[], Any], loss: Any, expected: str
) -> None:
    with pytest.raises(UserError) as refused:
        first_step(module(), loss)
    assert str(refused.value) == f"model.ref = mine.py:Net: expected {expected}"


FILE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, inputs, classes, rate=0.0):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(inputs, classes), nn.Dropout(rate))

    def forward(self, inputs):
        return self.net(inputs)


class Growing(Net):
    def forward(self, inputs):
        self.extra = nn.Parameter(torch.ones(2))
        return self.net(inputs)


class Masked(Net):
    def __init__(self, inputs, classes):
        super().__init__(inputs, classes)
        self.register_buffer("mask", torch.full((2,), -torch.inf))


def squared(outputs, labels):
    return (outputs - nn.functional.one_hot(labels, 3)).square().mean()


def pair(inputs, classes):
    return Net(inputs, classes), squared


module = Net(36, 3)
both = module, squared
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)


def job(ref: str, **settings: Any) -> Job:
    model = {"ref": f"mine.py:{ref}", "args": settings.pop("args", {})}
    return Job.from_dict({"model": model, **settings})


def compute(stepper: Stepper, lane: int, seed: int) -> None:
    """One minibatch on one lane."""
    data = batch(8, seed)
    lease = Lease("tcp://there:1", Portion(0, 0, False, *data), 1)
    stepper.compute(Compute(lane, [Minibatch(lease, seed, *data)]))


@pytest.mark.parametrize("ref", ["Net", "pair", "module", "both"])
def test_every_form_is_trained_with_a_module_for_each_lane(here: None, ref: str) -> None:
    settings = job(ref, worker={"threads": 2}, train={"in_flight": 1})
    stepper = Stepper(settings, DATA)
    assert list(stepper.layout.shapes) == ["net.1.weight", "net.1.bias"]
    assert stepper.vector.any()
    modules = [model._module for model in stepper._models]  # type: ignore[attr-defined]
    assert len(set(map(id, modules))) == len({id(module.net[1]) for module in modules}) == 3
    before = stepper.vector.copy()
    compute(stepper, 0, seed=1)
    compute(stepper, 1, seed=1)
    np.testing.assert_array_equal(stepper.gradients[0], stepper.gradients[1])
    assert stepper.gradients[0].any()
    np.testing.assert_array_equal(stepper.vector, before)


def test_lanes_that_compute_at_the_same_time_do_not_meet(here: None) -> None:
    """Two threads, many minibatches: each gradient is what it is alone."""
    settings = job("Net", worker={"threads": 2}, train={"in_flight": 1})
    stepper = Stepper(settings, DATA)
    check_lanes(stepper, compute, times=40)


def test_the_seed_of_the_job_decides_how_a_module_starts(here: None) -> None:
    one, two, other = (Stepper(job("Net", job={"seed": n}), DATA).vector for n in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


def test_a_module_that_is_there_already_keeps_its_values(here: None) -> None:
    one, other = (Stepper(job("module", job={"seed": n}), DATA).vector for n in (1, 2))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("ref", "args", "expected"),
    [
        (
            "module",
            {"rate": 0.5},
            "model.args = {'rate': 0.5}: expected no arguments; "
            "mine.py:module is a Net already: name a function that builds it",
        ),
        (
            "Growing",
            {},
            "model.ref = mine.py:Growing: expected extra to be not there as at first; "
            "after a step it is (2,)",
        ),
        (
            "Masked",
            {},
            "model.ref = mine.py:Masked: expected finite first values; "
            "start() leaves NaN or infinity in mask",
        ),
        (
            "squared",
            {},
            "model.args = {}: expected arguments of mine.py:squared; "
            "missing a required argument: 'outputs': it takes outputs, labels",
        ),
    ],
)
def test_errors_of_a_users_module_are_one_line(
    here: None, ref: str, args: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError) as refused:
        Stepper(job(ref, args=args), DATA)
    assert str(refused.value) == expected


def test_a_builder_is_no_model_and_what_it_returns_is() -> None:
    assert not is_model(Net)
    assert is_model(Net())
    assert is_model((Net(), nn.CrossEntropyLoss()))
    assert not is_model((print, nn.CrossEntropyLoss()))


def test_the_parameters_load_as_a_state_dict(here: None) -> None:
    """Strictly: what is not sent, PyTorch itself fills in."""
    model = wrapped(made())
    parameters, _ = arrays(model)
    fresh = made(seed=1)
    fresh.load_state_dict({name: torch.from_numpy(values) for name, values in parameters.items()})
    for name, values in parameters.items():
        np.testing.assert_array_equal(fresh.state_dict()[name], values)
