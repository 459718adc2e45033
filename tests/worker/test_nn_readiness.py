"""What a net tells while backpropagation runs, and that telling changes no bit."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualshard.worker.layout import Layout
from dualshard.worker.model import Model
from dualshard.worker.nn.activations import ReLU, Tanh
from dualshard.worker.nn.dense import Dense
from dualshard.worker.nn.losses import SoftmaxCrossEntropy
from dualshard.worker.nn.native.interpreter import run
from dualshard.worker.nn.readiness import stages
from dualshard.worker.nn.sequential import Sequential
from dualshard.worker.zoo import logistic, mlp

BEGINS = [0, 12 * 9 + 9, 12 * 9 + 9 + 9 * 7 + 7]
"""Where the layers of 12-9-7-4 begin."""
NETS = {
    "relu": lambda: mlp(12, (9, 7), 4),
    "tanh": lambda: mlp(12, (9, 7), 4, "tanh"),
    "sigmoid": lambda: mlp(12, (9, 7), 4, "sigmoid"),
    "l2": lambda: logistic(12, (9, 7), 4, l2=0.3),
    "layers of no parameters around": lambda: Sequential(
        [Tanh(), Dense(12, 9), ReLU(), Dense(9, 7), ReLU(), Dense(7, 4), Tanh()],
        SoftmaxCrossEntropy(),
    ),
}


def setup(net, samples=6, seed=0):
    """Flat parameters, and a batch."""
    rng, layout = np.random.default_rng(seed), Layout(net.shapes())
    parameters = layout.views(rng.standard_normal(layout.size, dtype=np.float32))
    inputs = rng.standard_normal((samples, 12), dtype=np.float32)
    return layout, parameters, (inputs, rng.integers(0, 4, samples))


def gradients_of(net, parameters, batch, plain=False):
    """Metrics and the flat gradient, written over NaN; `plain` hands in arrays, no flat vector."""
    layout = Layout(net.shapes())
    views = layout.views(np.full(layout.size, np.nan, np.float32))
    arguments = (dict(parameters), dict(views)) if plain else (parameters, views)
    metrics = net.gradients(*arguments, batch, np.random.default_rng())
    return metrics, views.flat


def spied(net, parameters, batch, granule, plain=False):
    """What was told, and each time a copy of the flat gradient at that moment."""
    layout, told = Layout(net.shapes()), []
    views = layout.views(np.full(layout.size, np.nan, np.float32))
    net.on_ready(lambda begin: told.append((begin, views.flat.copy())), granule)
    arguments = (dict(parameters), dict(views)) if plain else (parameters, views)
    metrics = net.gradients(*arguments, batch, np.random.default_rng())
    return told, metrics, views.flat


@pytest.mark.parametrize("plain", [False, True], ids=["compiled", "plain"])
@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("granule", [1, 40, 100, 10**6])
def test_telling_changes_no_bit_and_what_is_told_is_final(kind, granule, plain):
    net = NETS[kind]()
    _, parameters, batch = setup(net)
    expected, exact = gradients_of(net, parameters, batch, plain)
    told, metrics, gradient = spied(net, parameters, batch, granule, plain)
    assert metrics == expected
    assert gradient.tobytes() == exact.tobytes()
    assert [begin for begin, _ in told] == stages(BEGINS, exact.size, granule)
    for begin, then in told:
        assert np.isfinite(then[begin:]).all()
        assert then[begin:].tobytes() == exact[begin:].tobytes()


@pytest.mark.parametrize("kind", ["relu", "l2"])
def test_backpropagation_has_not_gone_further_than_it_told(kind):
    net = NETS[kind]()
    _, parameters, batch = setup(net)
    told, _, _ = spied(net, parameters, batch, 1)
    assert [begin for begin, _ in told] == BEGINS[::-1]
    for begin, then in told:
        assert np.isnan(then[:begin]).all()


@pytest.mark.parametrize("callback", [None, print])
def test_a_small_net_runs_in_one_compiled_call(monkeypatch, callback):
    calls = []

    def counted(*arguments):
        calls.append(arguments[-2:])
        return run(*arguments)

    monkeypatch.setattr("dualshard.worker.nn.native.program.run", counted)
    net = mlp(784, (256, 128), 10)
    rng, layout = np.random.default_rng(1), Layout(net.shapes())
    views = layout.views(np.zeros(layout.size, np.float32))
    batch = np.zeros((2, 784), np.float32), np.array([0, 1])
    told = []
    net.on_ready(callback and told.append)
    net.gradients(views, views, batch, rng)
    assert calls == [(0, 3)]
    assert told == ([0] if callback else [])
    calls.clear()
    net.on_ready(told.append, 1)
    net.gradients(views, views, batch, rng)
    assert calls == [(2, 3), (1, 2), (0, 1)]
    net.on_ready(None)
    told.clear()
    net.gradients(views, views, batch, rng)
    assert calls[3:] == [(0, 3)]
    assert told == []


def test_evaluating_tells_nothing():
    net = mlp(12, (9,), 4)
    _, parameters, batch = setup(net)
    told = []
    net.on_ready(told.append, 1)
    net.evaluate(parameters, batch)
    net.evaluate(dict(parameters), batch)
    assert told == []


@pytest.mark.parametrize("plain", [False, True], ids=["compiled", "plain"])
def test_a_refused_batch_tells_nothing_and_the_next_one_all(plain):
    net = mlp(12, (9,), 4)
    _, parameters, (inputs, labels) = setup(net)
    with pytest.raises(Exception, match="label 4 in row 0"):
        spied(net, parameters, (inputs, labels * 0 + 4), 1, plain)
    assert net.factors() == {}
    told, _, _ = spied(net, parameters, (inputs, labels), 1, plain)
    assert [begin for begin, _ in told] == [12 * 9 + 9, 0]


class Clipped(Sequential):
    """Changes gradients after the layers have written them."""

    def gradients(self, parameters, gradients, batch, rng):
        metrics = super().gradients(parameters, gradients, batch, rng)
        for gradient in gradients.values():
            np.clip(gradient, -1e-3, 1e-3, out=gradient)
        return metrics


class Sized(Sequential):
    """Only a shorter way to build."""

    def __init__(self, width):
        super().__init__([Dense(12, width), Dense(width, 4)], SoftmaxCrossEntropy())


def test_a_subclass_that_replaces_gradients_tells_nothing_early():
    net = Clipped([Dense(12, 9), Dense(9, 4)], SoftmaxCrossEntropy())
    _, parameters, batch = setup(net)
    net.skip_products(net.shapes().keys())
    for plain in (False, True):
        told, _, gradient = spied(net, parameters, batch, 1, plain)
        assert told == []
        assert net.factors() == {}
        assert abs(gradient).max() == np.float32(1e-3)
    net = Sized(9)
    assert [begin for begin, _ in spied(net, parameters, batch, 1)[0]] == [12 * 9 + 9, 0]
    assert net.factors().keys() == {"dense1.weight", "dense2.weight"}


class Plain(Model):
    """What a user writes who knows four methods."""

    def shapes(self):
        return {"weight": (2, 3)}

    def start(self, parameters, rng):
        parameters["weight"][:] = 0

    def gradients(self, parameters, gradients, batch, rng):
        gradients["weight"][:] = 1
        return {"loss": 0.0}

    def evaluate(self, parameters, batch):
        return {"loss": 0.0}


def test_a_plain_model_need_not_know_of_it():
    net, told = Plain(), []
    net.on_ready(told.append, 1)
    net.skip_products(["weight"])
    gradients = {"weight": np.zeros((2, 3), np.float32)}
    net.gradients({}, gradients, (), np.random.default_rng())
    assert told == []
    assert net.factors() == {}
    assert gradients["weight"].all()


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(1, 200))
def test_stages_are_whole_layers_of_a_granule_or_more(sizes, granule):
    ends = np.cumsum(sizes).tolist()
    begins = [0, *ends[:-1]]
    found = stages(begins, ends[-1], granule)
    assert found == sorted(set(found) & set(begins), reverse=True)
    assert found[-1] == 0
    widths = -np.diff([ends[-1], *found])
    assert (widths[:-1] >= granule).all()
    assert found[0] == max([b for b in begins if ends[-1] - b >= granule], default=0)


def test_stages_written_out():
    assert stages([0, 200_960, 233_856], 235_146, 262_144) == [0]
    assert stages([0, 100, 1100], 1110, 1000) == [100, 0]
    assert stages([0], 5, 1) == [0]


PARTS = """
import numpy as np
from dualshard.worker.layout import Layout
from dualshard.worker.nn.native.interpreter import run
from dualshard.worker.zoo import mlp

net = mlp(4, (3,), 2)
net.on_ready(id, 1)
net.skip_products(["dense1.weight"])
layout = Layout(net.shapes())
parameters = layout.views(np.zeros(layout.size, np.float32))
batch = np.ones((2, 4), np.float32), np.array([0, 1])
net.gradients(parameters, parameters, batch, np.random.default_rng())
net.evaluate(parameters, batch)
print(len(run.signatures))
"""


def test_parts_of_a_step_compile_nothing_more():
    done = subprocess.run(
        [sys.executable, "-c", PARTS], capture_output=True, text=True, check=True, timeout=100
    )
    assert done.stdout == "1\n"
