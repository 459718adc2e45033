"""Nets that are compiled stage by stage, against the layers themselves in float64."""

import numpy as np
import pytest

from dualshard.worker.layout import Layout
from dualshard.worker.nn.activations import GELU, LeakyReLU, ReLU, Sigmoid, Tanh
from dualshard.worker.nn.convolution import Conv2D
from dualshard.worker.nn.dense import Dense
from dualshard.worker.nn.dropout import Dropout
from dualshard.worker.nn.flatten import Flatten
from dualshard.worker.nn.losses import SigmoidCrossEntropy, SoftmaxCrossEntropy, SquaredError
from dualshard.worker.nn.native.staged import Staged
from dualshard.worker.nn.norm import BatchNorm, LayerNorm
from dualshard.worker.nn.pooling import AveragePool, GlobalAveragePool, MaxPool
from dualshard.worker.nn.residual import Residual
from dualshard.worker.nn.sequential import Sequential

NETS = {
    "pooled convolutions": ([Conv2D(1, 16, 5), ReLU(), MaxPool(2), Dense(16 * 16, 3)], (12, 12, 1)),
    "normalised, pooled": (
        [Conv2D(2, 8, 3, bias=False), BatchNorm(8), ReLU(), MaxPool(2), Dense(8 * 9, 3)],
        (8, 8, 2),
    ),
    "pool before the activation": ([Conv2D(1, 9, 3), MaxPool(3), Tanh(), Dense(9, 3)], (6, 7)),
    "bias and normalisation": ([Conv2D(2, 5, 3), BatchNorm(5), Dense(5 * 9, 3)], (5, 5, 2)),
    "odd counts of channels": (
        [
            Conv2D(3, 10, 3, stride=2, padding=1),
            Sigmoid(),
            Conv2D(10, 21, (3, 2)),
            GlobalAveragePool(),
        ],
        (13, 11, 3),
    ),
    "wide padding": ([Conv2D(1, 8, 5, padding=4), ReLU(), MaxPool(3), Dense(8 * 9, 3)], (7, 7)),
    "padding of one side": ([Conv2D(1, 8, 3, padding=(0, 2)), ReLU(), Dense(8 * 5 * 9, 3)], (7, 7)),
    "stride beyond the kernel": ([Conv2D(1, 8, 2, stride=3), ReLU(), Dense(8 * 9, 3)], (8, 8)),
    "two strides": ([Conv2D(2, 4, 3, stride=(1, 2)), ReLU(), Dense(4 * 5 * 3, 3)], (7, 7, 2)),
    "more padding than kernel": ([Conv2D(1, 4, 2, padding=3), ReLU(), Dense(4 * 81, 3)], (4, 4)),
    "identity shortcut": (
        [
            Conv2D(1, 8, 3, padding=1),
            ReLU(),
            Residual(
                [Conv2D(8, 8, 3, padding=1), BatchNorm(8), ReLU(), Conv2D(8, 8, 3, padding=1)]
            ),
            ReLU(),
            GlobalAveragePool(),
            Dense(8, 3),
        ],
        (6, 5),
    ),
    "projection": (
        [
            Residual(
                [Conv2D(2, 12, 3, stride=2, padding=1, bias=False), BatchNorm(12)],
                [Conv2D(2, 12, 1, stride=2, bias=False), BatchNorm(12)],
            ),
            ReLU(),
            Residual([Conv2D(12, 12, 1), ReLU()], [Dropout(0.5)]),
            Residual([]),
            Dense(12 * 9, 3),
        ],
        (6, 6, 2),
    ),
    "random on both ways": (
        [
            Dense(6, 8),
            Residual([Dropout(0.3), Dense(8, 8), Dropout(0.2)], [Dropout(0.4)]),
            Dense(8, 3),
        ],
        (6,),
    ),
    "whatever is not compiled": (
        [
            Conv2D(1, 4, 3),
            LayerNorm(4),
            GELU(),
            AveragePool(2),
            LeakyReLU(),
            Flatten(),
            Dense(16, 3),
        ],
        (6, 6),
    ),
    "normalised rows": ([Dense(6, 9), BatchNorm(9), Tanh(), Dropout(0.2), Dense(9, 3)], (6,)),
}
LOSSES = {
    "softmax": SoftmaxCrossEntropy(),
    "smoothed": SoftmaxCrossEntropy(0.1),
    "logistic": SigmoidCrossEntropy(),
    "squared": SquaredError(),
}


def compare(net, sample, count, seed=3):
    """One step in float32 by stages and in float64 by layers: all gradients and measures agree."""
    layout, rng = Layout(net.shapes()), np.random.default_rng(seed)
    parameters = layout.views(np.zeros(layout.size, np.float32))
    net.start(parameters, rng)
    for name, values in parameters.items():
        values += 0.1 * rng.standard_normal(values.shape, dtype=np.float32)
        if name.endswith("variance"):
            values[...] = abs(values)
    gradients = layout.views(np.full(layout.size, np.nan, np.float32))
    inputs = rng.standard_normal((count, *sample)).astype(np.float32)
    labels = rng.integers(0, 3, count)
    metrics = net.gradients(parameters, gradients, (inputs, labels), np.random.default_rng(9))
    exact = {name: np.array(values, float) for name, values in parameters.items()}
    slopes = {name: np.zeros_like(values) for name, values in exact.items()}
    batch = inputs.astype(float), labels
    expected = net.gradients(exact, slopes, batch, np.random.default_rng(9))
    assert metrics == pytest.approx(expected, rel=1e-4)
    scale = max(abs(slope).max() for slope in slopes.values())
    for name, slope in slopes.items():
        np.testing.assert_allclose(
            gradients[name], slope, rtol=2e-3, atol=2e-5 * scale, err_msg=name
        )
    measured = net.evaluate(parameters, (inputs, labels))
    assert measured == pytest.approx(net.evaluate(exact, batch), rel=1e-4)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("name", NETS)
def test_stages_compute_what_the_layers_do(name, count):
    layers, sample = NETS[name]
    net = Sequential(layers, SoftmaxCrossEntropy(), sample_shape=sample)
    assert isinstance(net._program, Staged)
    compare(net, sample, count)


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_and_l2_lead_back_through_stages(loss, l2):
    layers, sample = NETS["normalised, pooled"]
    compare(Sequential(layers, LOSSES[loss], l2, sample_shape=sample), sample, 4)


class AllDecay(Sequential):
    """A user's net with L2 on biases, too."""

    def decayed(self, name):
        return True


@pytest.mark.parametrize("layers", [[Dense(6, 3)], [Dense(6, 4), LeakyReLU(), Dense(4, 3)]])
def test_l2_is_on_the_parameters_that_the_net_says(layers):
    compare(AllDecay(layers, SoftmaxCrossEntropy(), 0.3), (6,), 4)


def test_a_smaller_batch_after_a_larger_one_sees_nothing_of_it():
    layers, sample = NETS["pooled convolutions"]
    net = Sequential(layers, SoftmaxCrossEntropy(), sample_shape=sample)
    for count in (7, 2, 5):
        compare(net, sample, count, seed=count)


def test_nan_in_a_pixel_reaches_loss_and_gradients():
    layers, sample = NETS["pooled convolutions"]
    net = Sequential(layers, SoftmaxCrossEntropy(), sample_shape=sample)
    layout = Layout(net.shapes())
    parameters = layout.views(np.full(layout.size, 0.1, np.float32))
    gradients = layout.views(np.zeros(layout.size, np.float32))
    inputs = np.ones((2, *sample), np.float32)
    inputs[1, 3, 3] = np.nan
    metrics = net.gradients(parameters, gradients, (inputs, np.array([0, 1])), None)
    assert np.isnan(metrics["loss"])
    assert np.isnan(gradients["conv2d1.weight"]).any()


def test_parts_of_the_gradient_are_told_from_the_end_and_are_final_then():
    layers, sample = NETS["identity shortcut"]
    net = Sequential(layers, SoftmaxCrossEntropy(), 0.1, sample_shape=sample)
    layout, rng = Layout(net.shapes()), np.random.default_rng(0)
    parameters = layout.views(rng.standard_normal(layout.size).astype(np.float32))
    gradients = layout.views(np.full(layout.size, np.nan, np.float32))
    told = []

    def ready(begin):
        told.append((begin, gradients.flat[begin:].copy()))

    net.on_ready(ready, 20)
    batch = rng.standard_normal((3, *sample)).astype(np.float32), np.array([0, 1, 2])
    net.gradients(parameters, gradients, batch, rng)
    begins = [begin for begin, _ in told]
    assert len(begins) >= 3
    assert begins == sorted(begins, reverse=True)
    assert begins[-1] == 0
    for begin, part in told:
        np.testing.assert_array_equal(part, gradients.flat[begin:])


def test_factors_of_a_dense_layer_give_its_gradient_and_it_may_be_left_out():
    layers, sample = NETS["pooled convolutions"]
    net = Sequential(layers, SoftmaxCrossEntropy(), sample_shape=sample)
    layout, rng = Layout(net.shapes()), np.random.default_rng(0)
    parameters = layout.views(rng.standard_normal(layout.size).astype(np.float32))
    gradients = layout.views(np.zeros(layout.size, np.float32))
    batch = rng.standard_normal((3, *sample)).astype(np.float32), np.array([0, 1, 2])
    net.gradients(parameters, gradients, batch, rng)
    inputs, errors = net.factors()["dense1.weight"]
    np.testing.assert_allclose(inputs.T @ errors, gradients["dense1.weight"], rtol=1e-4, atol=1e-4)
    gradients.flat[:] = 7
    net.skip_products(["dense1.weight"])
    net.gradients(parameters, gradients, batch, rng)
    assert (gradients["dense1.weight"] == 7).all()
    assert not (gradients["dense1.bias"] == 7).any()
