"""JAX loss functions as models, against our own layers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lanes_at_once import check_lanes

from dualshard.common.cluster import DataShape
from dualshard.common.errors import UserError
from dualshard.common.job import Job
from dualshard.common.messages import Portion
from dualshard.worker.adapters.forms import adapt, is_model
from dualshard.worker.batches import Lease, Minibatch
from dualshard.worker.events import Compute
from dualshard.worker.layout import Layout, Parameters
from dualshard.worker.model import Model
from dualshard.worker.step import Stepper
from dualshard.worker.zoo import mlp

jax = pytest.importorskip("jax")
jnp = jax.numpy
DATA = DataShape(100, 20, 3, (2, 2), 5)


def init(key: Any) -> Any:
    one, two = jax.random.split(key)
    return {
        "dense1": {"weight": jax.random.normal(one, (4, 5)), "bias": jnp.zeros(5)},
        "dense2": {"weight": jax.random.normal(two, (5, 3)), "bias": jnp.zeros(3)},
    }


def loss(tree: Any, inputs: Any, labels: Any) -> Any:
    """The perceptron that `mlp(4, (5,), 3)` is."""
    x = inputs.reshape(len(inputs), -1)
    x = jax.nn.relu(x @ tree["dense1"]["weight"] + tree["dense1"]["bias"])
    x = x @ tree["dense2"]["weight"] + tree["dense2"]["bias"]
    return -jax.nn.log_softmax(x)[jnp.arange(len(x)), labels].mean(), x


def wrapped(*functions: Any) -> Model:
    model = adapt(functions, "mine.py:net", 3)
    assert model is not None
    return model


def arrays(model: Model, seed: int = 0) -> tuple[Parameters, Parameters]:
    layout = Layout(model.shapes())
    parameters, gradients = (layout.views(np.zeros(layout.size, np.float32)) for _ in range(2))
    model.start(parameters, np.random.default_rng(seed))
    gradients.flat[:] = np.nan
    return parameters, gradients


def batch(samples: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(samples, 2, 2)).astype(np.float32)
    inputs.flags.writeable = False  # as it comes by the wire
    return inputs, random.integers(0, 3, samples)


def test_gradients_and_measures_are_those_of_our_own_perceptron() -> None:
    model, ours = wrapped(init, loss), mlp(4, (5,), 3)
    parameters, gradients = arrays(model)
    places = {name: name.replace("/", ".") for name in parameters}
    assert sorted(places.values()) == sorted(ours.shapes())
    same = {place: parameters[name] for name, place in places.items()}
    oracle = {name: np.zeros_like(values) for name, values in same.items()}
    before = parameters.flat.copy()
    for samples in (8, 1, 300):
        data, random = batch(samples), np.random.default_rng(0)
        metrics = model.gradients(parameters, gradients, data, random)
        expected = ours.gradients(same, oracle, data, random)
        assert metrics == pytest.approx(expected, rel=1e-5)
        assert model.evaluate(parameters, data) == pytest.approx(expected, rel=1e-5)
        for name, place in places.items():
            assert gradients[name].dtype == np.float32
            np.testing.assert_allclose(gradients[name], oracle[place], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(parameters.flat, before)


def test_first_values_follow_from_the_stream_alone() -> None:
    model = wrapped(init, loss)
    (one, _), (two, _), (other, _) = (arrays(model, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.flat, two.flat)
    assert (one["dense1/weight"] != other["dense1/weight"]).all()
    assert not one["dense1/bias"].any()


def test_paths_name_leaves_of_any_tree() -> None:
    shapes = wrapped(lambda key: {"a": [jnp.ones(2), (jnp.ones(()),)]}, loss).shapes()
    assert shapes == {"a/0": (2,), "a/1/0": ()}
    assert wrapped(lambda key: jnp.ones(3), loss).shapes() == {"parameters": (3,)}


def test_a_key_comes_while_training_and_not_in_an_evaluation() -> None:
    def noisy(tree: Any, inputs: Any, labels: Any, key: Any) -> Any:
        noise = 0.0 if key is None else jax.random.normal(key)
        return ((tree - 2) ** 2).sum() + noise * tree.sum(), {"noise": noise}

    model = wrapped(lambda key: jnp.ones(3), noisy)
    parameters, gradients = arrays(model)
    found = []
    for seed in (3, 4, 3):
        metrics = model.gradients(parameters, gradients, batch(), np.random.default_rng(seed))
        np.testing.assert_allclose(gradients.flat, metrics["noise"] - 2, rtol=1e-5)
        found.append(metrics["noise"])
    assert found[0] == found[2] != found[1]
    assert model.evaluate(parameters, batch()) == {"loss": 3.0, "noise": 0.0}


class Net:
    """The functions as methods."""

    def init(self, key: Any) -> Any:
        return init(key)

    def loss(self, tree: Any, inputs: Any, labels: Any) -> Any:
        return loss(tree, inputs, labels)


def test_an_object_with_both_functions_will_do() -> None:
    assert is_model(Net())
    assert not is_model(Net)
    assert not is_model(loss)
    model = adapt(Net(), "mine.py:net", 3)
    assert model is not None
    parameters, gradients = arrays(model)
    assert model.gradients(parameters, gradients, batch(), np.random.default_rng(0))["loss"] > 0


def first_step(init: Any, loss: Any) -> Any:
    model = wrapped(init, loss)
    return model.gradients(*arrays(model), batch(), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("init", "loss", "expected"),
    [
        (
            lambda key: {"w": jnp.ones(3, jnp.float16)},
            loss,
            "parameters of float32; w is float16: let init() return jnp.float32",
        ),
        (
            lambda key: {"w": [jnp.ones(3), jnp.arange(3)]},
            loss,
            "parameters of float32; w/1 is int32: let init() return jnp.float32",
        ),
        (
            lambda key: {"a/b": jnp.ones(3), "a": {"b": jnp.ones(3)}},
            loss,
            "a path for each parameter; two leaves of a/b have the same",
        ),
        (
            lambda key: jnp.ones(3),
            lambda tree, inputs, labels: tree * inputs.mean(),
            "a loss of one number; loss() returned (3,)",
        ),
    ],
)
def test_what_cannot_be_trained_is_one_line(init: Any, loss: Any, expected: str) -> None:
    with pytest.raises(UserError) as refused:
        first_step(init, loss)
    assert str(refused.value) == f"model.ref = mine.py:net: expected {expected}"


FILE = """
import jax
import jax.numpy as jnp

traced = []


def build(inputs, classes, scale=1.0):
    return lambda key: scale * jax.random.normal(key, (inputs, classes)), loss


def init(key):
    return jax.random.normal(key, (4, 3))


def loss(w, inputs, labels):
    traced.append(inputs.shape)
    outputs = inputs.reshape(len(inputs), -1) @ w
    return -jax.nn.log_softmax(outputs)[jnp.arange(len(labels)), labels].mean(), outputs


net = init, loss
nothing = (lambda key: {}), loss
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)


def job(ref: str, **settings: Any) -> Job:
    model = {"ref": f"mine.py:{ref}", "args": settings.pop("args", {})}
    return Job.from_dict({"model": model, "data": {"batch_size": 8}, **settings})


def compute(stepper: Stepper, lane: int, seed: int) -> None:
    """One minibatch on one lane."""
    data = batch(8, seed)
    lease = Lease("tcp://there:1", Portion(0, 0, False, *data), 1)
    stepper.compute(Compute(lane, [Minibatch(lease, seed, *data)]))


@pytest.mark.parametrize("ref", ["build", "net"])
def test_lanes_at_the_same_time_share_what_was_compiled_once(here: None, ref: str) -> None:
    settings = job(ref, worker={"threads": 2}, train={"in_flight": 1})
    stepper = Stepper(settings, DATA)
    check_lanes(stepper, compute, times=20)
    compiled = stepper._models[0]._gradients  # type: ignore[attr-defined]
    assert all(model._gradients is compiled for model in stepper._models)  # type: ignore[attr-defined]


def test_the_seed_of_the_job_decides_how_it_starts(here: None) -> None:
    one, two, other = (Stepper(job("net", job={"seed": n}), DATA).vector for n in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


def test_arguments_are_for_builders(here: None) -> None:
    small = Stepper(job("build", args={"scale": 0.0}), DATA)
    assert not small.vector.any()
    with pytest.raises(UserError) as refused:
        Stepper(job("net", args={"scale": 0.0}), DATA)
    assert str(refused.value) == (
        "model.args = {'scale': 0.0}: expected no arguments; "
        "mine.py:net is a tuple already: name a function that builds it"
    )
    with pytest.raises(UserError) as refused:
        Stepper(job("nothing"), DATA)
    assert str(refused.value) == (
        "model.ref = mine.py:nothing: expected a model with parameters; its shapes() is empty"
    )
