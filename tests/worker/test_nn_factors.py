"""Activations and error vectors that nets hand out: their product is the gradient."""

import numpy as np
import pytest

from dualshard.worker.layout import Layout
from dualshard.worker.nn.activations import ReLU, Sigmoid, Tanh
from dualshard.worker.nn.dense import Dense
from dualshard.worker.nn.losses import SigmoidCrossEntropy, SoftmaxCrossEntropy
from dualshard.worker.nn.sequential import Sequential
from dualshard.worker.zoo import logistic, mlp

NETS = {
    "relu": lambda: mlp(12, (9, 7), 4),
    "one layer": lambda: mlp(12, (), 4),
    "sigmoid": lambda: logistic(12, (9, 1), 4),
    "no compiled form": lambda: Sequential(
        [Tanh(), Dense(12, 9), ReLU(), Sigmoid(), Dense(9, 4)], SigmoidCrossEntropy()
    ),
}
BACKENDS = pytest.mark.parametrize("plain", [False, True], ids=["compiled", "plain"])


class Case:
    """A net with parameters, and gradients that begin as NaN."""

    def __init__(self, net, plain, samples=6):
        rng, layout = np.random.default_rng(3), Layout(net.shapes())
        flat = rng.standard_normal(layout.size, dtype=np.float32)
        parameters = layout.views(flat)
        gradients = layout.views(np.full(layout.size, np.nan, np.float32))
        self.flat, self.net = gradients.flat, net
        self.parameters = dict(parameters) if plain else parameters
        self.gradients = dict(gradients) if plain else gradients
        self.batch = (
            rng.standard_normal((samples, 3, 4), dtype=np.float32),
            rng.integers(0, 4, samples),
        )

    def step(self, samples=None):
        batch = tuple(array[:samples] for array in self.batch)
        return self.net.gradients(self.parameters, self.gradients, batch, np.random.default_rng())


def agree(case, factors, samples):
    for name, (activations, deltas) in factors.items():
        rows, columns = case.net.shapes()[name]
        assert activations.shape == (samples, rows)
        assert deltas.shape == (samples, columns)
        assert activations.dtype == deltas.dtype == np.float32
        exact = activations.T.astype(float) @ deltas.astype(float)
        np.testing.assert_allclose(case.gradients[name], exact, rtol=1e-5, atol=1e-6)


@BACKENDS
@pytest.mark.parametrize("kind", NETS)
def test_the_product_of_the_factors_is_the_gradient(kind, plain):
    case = Case(NETS[kind](), plain)
    assert case.net.factors() == {}
    for samples in (6, 1, 4):
        case.step(samples)
        factors = case.net.factors()
        assert set(factors) == {name for name in case.net.shapes() if name.endswith("weight")}
        agree(case, factors, samples)


@BACKENDS
def test_the_sum_of_the_error_vectors_is_the_gradient_of_the_bias(plain):
    """So they hold the 1 / k of the mean."""
    case = Case(mlp(12, (9,), 4), plain)
    case.step()
    for name, (_, deltas) in case.net.factors().items():
        bias = case.gradients[name.replace("weight", "bias")]
        np.testing.assert_allclose(deltas.sum(axis=0), bias, rtol=1e-5, atol=1e-6)


def test_factors_are_views_of_the_scratch():
    case = Case(mlp(12, (9,), 4), plain=False)
    case.step()
    first = case.net.factors()
    case.step()
    for name, pair in case.net.factors().items():
        assert all(map(np.shares_memory, pair, first[name]))
        assert all(part.flags.c_contiguous for part in pair)


@BACKENDS
def test_factors_end_with_an_evaluation(plain):
    case = Case(mlp(12, (9,), 4), plain)
    case.step()
    assert case.net.factors()
    case.net.evaluate(case.parameters, case.batch)
    assert case.net.factors() == {}


@BACKENDS
@pytest.mark.parametrize("kind", NETS)
def test_a_callback_finds_the_factors_of_what_is_ready(kind, plain):
    case, seen = Case(NETS[kind](), plain), []
    begins = {name: begin for name, (begin, _) in Layout(case.net.shapes()).spans().items()}

    def ready(begin):
        factors = case.net.factors()
        assert all(begins[name] >= begin for name in factors)
        agree(case, factors, 6)
        seen.append(set(factors))

    case.net.on_ready(ready, 1)
    for _ in range(2):
        seen.clear()
        case.step()
        weights = [name for name in case.net.shapes() if name.endswith("weight")]
        assert seen == [set(weights[-count:]) for count in range(1, len(weights) + 1)]


@BACKENDS
@pytest.mark.parametrize("kind", NETS)
def test_skipped_products_are_left_unwritten_and_all_else_is_the_same(kind, plain):
    case, told = Case(NETS[kind](), plain), []
    metrics = case.step()
    expected, weights = case.flat.copy(), list(case.net.factors())
    kept = {name: np.copy(pair[1]) for name, pair in case.net.factors().items()}
    case.net.on_ready(told.append, 1)
    for skipped in (weights[:1], weights, weights[1:], ["dense1.bias", "no such", weights[0]], []):
        case.net.skip_products(skipped)
        case.flat[:], told[:] = np.nan, []
        assert case.step() == metrics
        left = {name for name, value in case.gradients.items() if np.isnan(value).all()}
        assert left == set(skipped) & set(weights)
        written = ~np.isnan(case.flat)
        assert np.array_equal(case.flat[written], expected[written])
        assert len(told) == len(weights)
        for name, deltas in kept.items():
            assert np.array_equal(case.net.factors()[name][1], deltas)


@BACKENDS
def test_l2_has_no_factors_and_skips_nothing(plain):
    case = Case(logistic(12, (9,), 4, l2=0.1), plain)
    case.net.skip_products(["dense1.weight"])
    case.step()
    assert case.net.factors() == {}
    assert np.isfinite(case.flat).all()


class Masked(Dense):
    """A user's layer: half of its weights stay as they are."""

    def backward(self, parameters, gradients, delta):
        delta = super().backward(parameters, gradients, delta)
        gradients["weight"][::2] = 0
        return delta


def test_a_subclass_of_dense_has_no_factors():
    case = Case(Sequential([Masked(12, 9), Dense(9, 4)], SoftmaxCrossEntropy()), plain=False)
    case.net.skip_products(["dense1.weight", "dense2.weight"])
    case.step()
    assert set(case.net.factors()) == {"dense2.weight"}
    assert not case.gradients["dense1.weight"][::2].any()
    assert np.isnan(case.gradients["dense2.weight"]).all()


def test_factors_are_of_the_backend_that_ran_last():
    net = mlp(12, (9,), 4)
    compiled, plain = Case(net, plain=False), Case(net, plain=True)
    for case, samples in ((compiled, 6), (plain, 5), (compiled, 3), (plain, 2)):
        case.step(samples)
        assert len(net.factors()) == 2
        agree(case, net.factors(), samples)
