"""Nets of all kinds of layers: numeric gradients, running averages, readiness, errors."""

import numpy as np
import pytest

from dualshard.common.errors import UserError
from dualshard.worker.layout import Layout
from dualshard.worker.nn.activations import GELU, ReLU, Tanh
from dualshard.worker.nn.convolution import Conv2D
from dualshard.worker.nn.dense import Dense
from dualshard.worker.nn.dropout import Dropout
from dualshard.worker.nn.flatten import Flatten
from dualshard.worker.nn.losses import SoftmaxCrossEntropy
from dualshard.worker.nn.norm import BatchNorm, LayerNorm
from dualshard.worker.nn.pooling import AveragePool, GlobalAveragePool, MaxPool
from dualshard.worker.nn.residual import Residual
from dualshard.worker.nn.sequential import Sequential


def mixed(l2=0.0, smoothing=0.1):
    """A net of every kind of layer, for images of 7x6 with one channel."""
    layers = [
        *(Conv2D(1, 3, 3, padding=1, bias=False), BatchNorm(3), ReLU(), MaxPool(2)),
        Residual([Conv2D(3, 4, 3, padding=1), Tanh()], [Conv2D(3, 4, 1), BatchNorm(4)]),
        *(LayerNorm(4), GELU(), Dropout(0.3), AveragePool((1, 2)), Flatten()),
        *(Dense(12, 5), BatchNorm(5), Dense(5, 3)),
    ]
    loss = SoftmaxCrossEntropy(label_smoothing=smoothing)
    return Sequential(layers, loss, l2, sample_shape=(7, 6))


class Case:
    """A net with flat parameters, gradients that begin as NaN, and a batch."""

    def __init__(self, net, sample=(7, 6), samples=4, dtype=np.float32):
        rng, layout = np.random.default_rng(3), Layout(net.shapes())
        self.net, self.batch = (
            net,
            (
                rng.standard_normal((samples, *sample), dtype=np.float32),
                rng.integers(0, 3, samples),
            ),
        )
        self.parameters = layout.views(np.empty(layout.size, np.float32))
        net.start(self.parameters, rng)
        self.gradients = layout.views(np.full(layout.size, np.nan, np.float32))
        if dtype != np.float32:
            self.parameters = {n: v.astype(dtype) for n, v in self.parameters.items()}
            self.gradients = {n: v.astype(dtype) for n, v in self.gradients.items()}

    def step(self, seed=5):
        rng = np.random.default_rng(seed)
        return self.net.gradients(self.parameters, self.gradients, self.batch, rng)


@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_gradients_agree_with_numeric_ones(l2):
    case = Case(mixed(l2), dtype=np.float64)
    case.step()
    exact = {name: value.copy() for name, value in case.gradients.items()}
    rng = np.random.default_rng(8)
    for name, value in case.parameters.items():
        if case.net.averaged(name):
            continue
        for _ in range(3):
            index = tuple(rng.integers(0, size) for size in value.shape)
            kept, losses = value[index], []
            for shift in (1e-6, -1e-6):
                value[index] = kept + shift
                losses.append(case.step()["loss"])
            value[index] = kept
            slope = (losses[0] - losses[1]) / 2e-6
            assert exact[name][index] == pytest.approx(slope, rel=1e-5, abs=1e-8), name


def test_l2_leaves_biases_and_normalisation_alone():
    plain, decayed = Case(mixed()), Case(mixed(0.5))
    plain.step()
    decayed.step()
    for name, gradient in decayed.gradients.items():
        weight = plain.parameters[name] * np.float32(0.5 if gradient.ndim > 1 else 0)
        np.testing.assert_allclose(gradient, plain.gradients[name] + weight, rtol=1e-5, atol=1e-6)


def test_running_averages_are_named_and_move_towards_the_batch():
    case = Case(mixed())
    named = {name for name in case.net.shapes() if case.net.averaged(name)}
    assert named == {
        f"{layer}.{part}"
        for layer in ("batchnorm1", "residual1.shortcut.batchnorm1", "batchnorm2")
        for part in ("mean", "variance")
    }
    for _ in range(300):
        case.step()
        for name in named:
            case.parameters[name][...] -= case.gradients[name]
    case.step()
    assert all(np.abs(case.gradients[name]).max() < 1e-6 for name in named)


def test_training_is_a_function_of_the_random_stream_and_evaluation_has_none():
    case = Case(mixed())
    first = case.step(), case.gradients.flat.copy()
    other = case.step(seed=6), case.gradients.flat.copy()
    again = case.step(), case.gradients.flat.copy()
    assert again[0] == first[0] != other[0]
    assert np.array_equal(again[1], first[1])
    assert not np.array_equal(again[1], other[1])
    measures = case.net.evaluate(case.parameters, case.batch)
    assert measures == case.net.evaluate(case.parameters, case.batch) != first[0]


def test_evaluation_of_many_samples_is_that_of_the_parts():
    case = Case(mixed(), samples=300)
    inputs, labels = case.batch
    whole = case.net.evaluate(case.parameters, case.batch)
    parts = [
        case.net.evaluate(case.parameters, (inputs[k : k + 1], labels[k : k + 1]))
        for k in range(300)
    ]
    assert whole["loss"] == pytest.approx(np.mean([part["loss"] for part in parts]), rel=1e-5)


def test_a_batch_is_left_as_it_was():
    case = Case(mixed())
    kept = [array.copy() for array in case.batch]
    for array in case.batch:
        array.flags.writeable = False
    case.step()
    case.net.evaluate(case.parameters, case.batch)
    assert all(map(np.array_equal, case.batch, kept))


@pytest.mark.parametrize("plain", [False, True], ids=["compiled", "plain"])
@pytest.mark.parametrize("granule", [1, 60, 10**6])
def test_what_is_told_to_be_ready_is_final_running_averages_included(granule, plain):
    case, told = Case(mixed()), []
    flat = case.gradients.flat
    if plain:
        case.parameters, case.gradients = dict(case.parameters), dict(case.gradients)
    case.step()
    expected = flat.copy()
    flat[:] = np.nan
    case.net.on_ready(lambda begin: told.append((begin, flat.copy())), granule)
    case.step()
    begins = [begin for begin, _ in told]
    assert begins[-1] == 0
    assert begins == sorted(set(begins), reverse=True)
    if plain:  # a compiled stage may hold several layers
        assert len(told) == {1: 7, 60: 3, 10**6: 1}[granule]
    for begin, then in told:
        assert np.array_equal(then[begin:], expected[begin:])


def test_factors_are_those_of_the_dense_layers():
    case = Case(mixed())
    case.step()
    assert set(case.net.factors()) == {"dense1.weight", "dense2.weight"}
    for name, (activations, deltas) in case.net.factors().items():
        np.testing.assert_allclose(
            case.gradients[name], activations.T @ deltas, rtol=1e-5, atol=1e-6
        )
    case.net.skip_products(["dense1.weight", "conv2d1.weight"])
    case.gradients.flat[:] = np.nan
    case.step()
    assert {name for name, value in case.gradients.items() if np.isnan(value).any()} == {
        "dense1.weight"
    }


def test_smoothed_labels_are_not_compiled_without_their_smoothing():
    net = Sequential([Dense(6, 3)], SoftmaxCrossEntropy(label_smoothing=0.2))
    case = Case(net, sample=(6,))
    metrics, compiled = case.step(), case.gradients.flat.copy()
    case.parameters, case.gradients = dict(case.parameters), dict(case.gradients)
    assert case.step() == metrics
    assert np.array_equal(compiled[:18].reshape(6, 3), case.gradients["dense1.weight"])
    inputs, labels = case.batch
    logits = inputs @ case.parameters["dense1.weight"]
    expected = SoftmaxCrossEntropy(label_smoothing=0.2).value(logits, labels)
    assert metrics["loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("sample", [(7, 6), (7, 6, 1)])
@pytest.mark.parametrize("handed", [(7, 6), (7, 6, 1)])
def test_one_channel_needs_no_axis(sample, handed):
    net = Sequential(
        [Conv2D(1, 3, 3), GlobalAveragePool()], SoftmaxCrossEntropy(), sample_shape=sample
    )
    case = Case(net, sample=handed)
    assert np.isfinite(case.step()["loss"])
    assert case.net.evaluate(case.parameters, case.batch)["loss"] == case.step()["loss"]


@pytest.mark.parametrize("handed", [(6, 7), (42,), (7, 6, 3), (3, 7, 2)])
def test_images_of_another_shape_are_refused(handed):
    case = Case(mixed())
    case.batch = np.ones((4, *handed), np.float32), case.batch[1]
    with pytest.raises(UserError) as error:
        case.step()
    assert str(error.value) == (
        f"model.args.sample_shape = (7, 6): expected {handed}, the shape of a sample; "
        f"build the model for samples of shape {handed}"
    )


BAD = {
    "Sequential.sample_shape = None: expected the shape of one sample; "
    "pass sample_shape=(28, 28, 1) for images of 28x28 with one channel": (
        [Conv2D(1, 2, 3), Dense(8, 2)],
        None,
    ),
    "Sequential.layers = outputs of shape (5, 4, 2): expected one number for each class; "
    "add a Dense layer, or GlobalAveragePool, at the end": ([Conv2D(1, 2, 3)], (7, 6)),
    "Sequential.layers = 2: expected a layer with parameters; add a Dense layer": (
        [ReLU(), Flatten()],
        (7, 6),
    ),
    "Dense.inputs = 8: expected 40, the outputs of the layer before; write Dense(40, 2)": (
        [Conv2D(1, 2, 3), Dense(8, 2)],
        (7, 6),
    ),
}


@pytest.mark.parametrize(("sentence", "arguments"), BAD.items())
def test_nets_that_do_not_fit_are_refused(sentence, arguments):
    layers, sample = arguments
    with pytest.raises(UserError) as error:
        Sequential(layers, SoftmaxCrossEntropy(), sample_shape=sample)
    assert str(error.value) == sentence


def test_the_array_module_reaches_layers_and_loss():
    net, module = mixed(), type(np)("another")
    net.use(module)
    assert all(layer.xp is module for layer in net.layers.values())
    assert net.loss.xp is module
