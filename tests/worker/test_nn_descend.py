"""Steps in one compiled call: against the plain reference in float64, and what they refuse."""

from itertools import pairwise

import numpy as np
import pytest

from dualshard.common.errors import UserError
from dualshard.worker.layout import Layout
from dualshard.worker.model import Pace
from dualshard.worker.nn.activations import ReLU
from dualshard.worker.nn.dense import Dense
from dualshard.worker.nn.losses import SoftmaxCrossEntropy
from dualshard.worker.nn.native.interpreter import descend
from dualshard.worker.nn.sequential import Sequential
from dualshard.worker.zoo import logistic, mlp

NETS = {
    "relu": lambda *sizes: mlp(*sizes, "relu"),
    "tanh": lambda *sizes: mlp(*sizes, "tanh"),
    "sigmoid": lambda *sizes: mlp(*sizes, "sigmoid"),
    "logistic": lambda *sizes: logistic(*sizes, l2=0.3),
}
SIZES = [  # shape of a sample, hidden widths, classes, samples of each minibatch
    ((1,), (), 2, (1,)),
    ((3, 5), (7,), 3, (4, 1, 6)),
    ((28, 28), (33, 17), 10, (8, 8, 8, 3)),
]


class Mine(Sequential):
    def gradients(self, *arguments):
        return super().gradients(*arguments)


def setup(net, shape, counts, octets=False):
    """Flat parameters, and minibatches of float32 or bytes."""
    rng, layout = np.random.default_rng(7), Layout(net.shapes())
    parameters = layout.views(np.zeros(layout.size, np.float32))
    net.start(parameters, rng)
    classes = next(reversed(net.shapes().values()))[0]
    batches = []
    for count in counts:
        inputs = rng.integers(0, 256, (count, *shape), np.uint8)
        if not octets:
            inputs = rng.normal(size=(count, *shape)).astype(np.float32)
        batches.append((inputs, rng.integers(0, classes, count)))
    return parameters, batches


def paces_of(parameters):
    """A pace of its own for each parameter; the first bias is frozen."""
    paces = {name: Pace(0.05 + 0.01 * n, 0.02 * n) for n, name in enumerate(parameters)}
    return {**paces, "dense1.bias": Pace(0.0)}


def one_by_one(net, parameters, batches, paces):
    """The same in float64, by the layers."""
    values = {name: value.astype(float) for name, value in parameters.items()}
    measures = []
    for inputs, labels in batches:
        inputs = inputs / 255 if inputs.dtype == np.uint8 else inputs
        gradients = {name: np.full(value.shape, np.nan) for name, value in values.items()}
        batch = inputs.astype(float), labels
        measures.append(net.gradients(values, gradients, batch, np.random.default_rng()))
        for name, (rate, shrink) in paces.items():
            values[name] -= shrink * values[name] + rate * gradients[name]
    return values, measures


def go(net, parameters, batches, paces=None):
    return net.descend(parameters, batches, paces or paces_of(parameters), random=None)


@pytest.mark.parametrize("octets", [False, True])
@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize(("shape", "hidden", "classes", "counts"), SIZES)
def test_a_burst_agrees_with_steps_one_by_one(kind, shape, hidden, classes, counts, octets):
    net = NETS[kind](int(np.prod(shape)), hidden, classes)
    parameters, batches = setup(net, shape, counts, octets)
    before = {name: value.copy() for name, value in parameters.items()}
    expected, measured = one_by_one(net, parameters, batches, paces_of(parameters))
    measures = go(net, parameters, batches)
    for name, value in parameters.items():
        np.testing.assert_allclose(value, expected[name], rtol=2e-5, atol=2e-6)
    np.testing.assert_array_equal(parameters["dense1.bias"], before["dense1.bias"])
    assert (parameters["dense1.weight"] != before["dense1.weight"]).any()
    for found, exact in zip(measures, measured, strict=True):
        assert found["loss"] == pytest.approx(exact["loss"], rel=2e-5)
        assert found["accuracy"] == exact["accuracy"]


def test_how_a_burst_is_cut_changes_no_bit():
    net = mlp(28 * 28, (33, 17), 10)
    found = []
    for cuts in ((0, 4), (0, 1, 4), (0, 1, 2, 3, 4)):
        parameters, batches = setup(net, (28, 28), (8, 8, 8, 3))
        for begin, end in pairwise(cuts):
            go(net, parameters, batches[begin:end])
        found.append(parameters.flat)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_bytes_and_floats_and_any_memory_order_are_one_compilation():
    net = mlp(6, (5,), 3)
    for octets in (False, True):
        parameters, batches = setup(net, (6,), (4, 3), octets)
        go(net, parameters, batches)
    compiled = len(descend.signatures)
    parameters, batches = setup(net, (6,), (4, 3))
    strange = [(np.asfortranarray(inputs), labels[::1]) for inputs, labels in batches]
    strange[0][0].flags.writeable = False
    mixed = [*strange, setup(net, (6,), (2,), octets=True)[1][0]]
    expected, _ = one_by_one(net, parameters, mixed, paces_of(parameters))
    go(net, parameters, mixed)
    np.testing.assert_allclose(parameters["dense1.weight"], expected["dense1.weight"], rtol=1e-4)
    assert len(descend.signatures) == compiled


def test_nan_reaches_loss_and_parameters():
    net = mlp(6, (5,), 3)
    parameters, batches = setup(net, (6,), (4,))
    batches[0][0][2, 1] = np.nan
    (measures,) = go(net, parameters, batches)
    assert np.isnan(measures["loss"])
    assert np.isnan(parameters["dense2.weight"]).any()


def test_a_label_that_is_no_class_is_refused_after_the_steps_before():
    net = mlp(6, (5,), 3)
    parameters, batches = setup(net, (6,), (4, 4, 4))
    expected, _ = one_by_one(net, parameters, batches[:1], paces_of(parameters))
    batches[1][1][2] = 3
    with pytest.raises(UserError, match="3"):
        go(net, parameters, batches)
    np.testing.assert_allclose(parameters["dense2.weight"], expected["dense2.weight"], rtol=1e-5)


def test_samples_of_another_size_are_refused_before_any_step():
    net = mlp(6, (5,), 3)
    parameters, batches = setup(net, (6,), (4,))
    before = parameters.flat.copy()
    with pytest.raises(UserError, match="build the model for 7 inputs"):
        go(net, parameters, [*batches, (np.ones((2, 7), np.float32), np.zeros(2, np.int64))])
    np.testing.assert_array_equal(parameters.flat, before)


def test_it_is_not_offered_where_something_else_must_run():
    plain = mlp(6, (5,), 3)
    parameters, batches = setup(plain, (6,), (4,))
    before = parameters.flat.copy()
    mine = Mine(list(plain.layers.values()), SoftmaxCrossEntropy())
    uncompiled = Sequential([ReLU(), Dense(6, 3)], SoftmaxCrossEntropy())
    assert go(mine, parameters, batches) is None
    assert go(plain, dict(parameters), batches, paces_of(parameters)) is None
    own, others = setup(uncompiled, (6,), (4,))
    assert go(uncompiled, own, others) is None
    np.testing.assert_array_equal(parameters.flat, before)


def test_afterwards_there_are_no_factors():
    net = mlp(6, (5,), 3)
    parameters, batches = setup(net, (6,), (4,))
    net.gradients(parameters, Layout(net.shapes()).views(parameters.flat.copy()), batches[0], None)
    assert net.factors()
    go(net, parameters, batches)
    assert not net.factors()
