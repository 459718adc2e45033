"""Layers, losses and initialisers (the plain reference) against numeric gradients and PyTorch."""

import numpy as np
import pytest

from dualshard.common.errors import UserError
from dualshard.worker.nn import initialisers
from dualshard.worker.nn.activations import ReLU, Sigmoid, Tanh
from dualshard.worker.nn.dense import Dense
from dualshard.worker.nn.losses import SigmoidCrossEntropy, SoftmaxCrossEntropy, check_labels

LAYERS = [Dense(6, 4), ReLU(), Sigmoid(), Tanh()]
LOSSES = [SoftmaxCrossEntropy(), SigmoidCrossEntropy()]


def numeric_gradient(function, at, step=1e-6):
    """Central differences of a scalar function with respect to each element of `at`."""
    gradient = np.empty_like(at)
    for index in np.ndindex(at.shape):
        kept = at[index]
        at[index] = kept + step
        above = function()
        at[index] = kept - step
        below = function()
        at[index] = kept
        gradient[index] = (above - below) / (2 * step)
    return gradient


def parameters_of(layer, rng, dtype):
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in layer.shapes().items()}


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.noun)
def test_backward_agrees_with_numeric_gradients(layer):
    rng = np.random.default_rng(1)
    inputs, parameters = rng.normal(size=(5, 2, 3)), parameters_of(layer, rng, float)
    gradients = {name: np.full_like(value, np.nan) for name, value in parameters.items()}
    outer = rng.normal(size=layer.forward(parameters, inputs, None).shape)

    def scalar():
        return float(np.sum(outer * layer.forward(parameters, inputs, None)))

    layer.forward(parameters, inputs, None)
    delta = layer.backward(parameters, gradients, outer)
    np.testing.assert_allclose(delta, numeric_gradient(scalar, inputs), rtol=1e-6, atol=1e-8)
    for name, value in parameters.items():
        expected = numeric_gradient(scalar, value)
        np.testing.assert_allclose(gradients[name], expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("samples", [1, 7])
def test_slope_of_a_loss_agrees_with_numeric_gradients(loss, samples):
    rng = np.random.default_rng(2)
    logits, labels = 3 * rng.normal(size=(samples, 4)), rng.integers(0, 4, samples)
    expected = numeric_gradient(lambda: loss.value(logits, labels), logits)
    np.testing.assert_allclose(loss.slope(logits, labels), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_a_loss_survives_logits_that_overflow_the_exponential(loss):
    logits = np.array([[1e4, -1e4, 0.0]], np.float32)
    assert loss.value(logits, np.array([0])) == pytest.approx(0.0, abs=1.0)
    assert loss.value(logits, np.array([1])) >= 1e4
    assert np.isfinite(loss.slope(logits, np.array([1]))).all()


def test_losses_agree_with_pytorch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    logits, labels = rng.normal(size=(9, 5)).astype(np.float32), rng.integers(0, 5, 9)
    ours = [loss.value(logits, labels) for loss in LOSSES]
    z, t = torch.from_numpy(logits), torch.from_numpy(labels)
    onehot = torch.nn.functional.one_hot(t, 5).float()
    units = torch.nn.functional.binary_cross_entropy_with_logits(z, onehot, reduction="sum")
    expected = [float(torch.nn.functional.cross_entropy(z, t)), float(units) / 9]
    assert ours == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.noun)
def test_float32_stays_float32(layer):
    rng = np.random.default_rng(4)
    parameters = parameters_of(layer, rng, np.float32)
    gradients = {name: np.empty_like(value) for name, value in parameters.items()}
    outputs = layer.forward(parameters, rng.random((3, 6), dtype=np.float32), None)
    assert outputs.dtype == np.float32
    assert layer.backward(parameters, gradients, outputs).dtype == np.float32


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_a_slope_keeps_float32(loss):
    assert loss.slope(np.ones((2, 3), np.float32), np.array([0, 2])).dtype == np.float32


def test_dense_flattens_and_gives_back_the_shape():
    layer = Dense(12, 2)
    parameters = parameters_of(layer, np.random.default_rng(5), np.float32)
    gradients = {name: np.empty_like(value) for name, value in parameters.items()}
    outputs = layer.forward(parameters, np.ones((3, 2, 6), np.float32), None)
    assert outputs.shape == (3, 2)
    assert layer.backward(parameters, gradients, outputs).shape == (3, 2, 6)


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("he_normal", 2 / 300),
        ("he_uniform", 2 / 300),
        ("xavier_normal", 2 / 500),
        ("xavier_uniform", 2 / 500),
    ],
)
def test_initialisers_have_the_variance_of_the_paper(name, variance):
    draw = getattr(initialisers, name)
    weights = draw((300, 200), np.random.default_rng(6))
    assert weights.dtype == np.float32
    assert weights.var() == pytest.approx(variance, rel=0.03)
    assert abs(weights.mean()) < 4 * np.sqrt(variance / weights.size)
    if name.endswith("uniform"):
        assert abs(weights).max() <= np.sqrt(3 * variance) * (1 + 1e-6)
    assert np.array_equal(weights, draw((300, 200), np.random.default_rng(6)))


def test_a_wrong_label_is_named_with_its_row():
    with pytest.raises(UserError) as error:
        check_labels(np.array([0, 3, 4, -1]), 4)
    assert str(error.value) == (
        "data.source = label 4 in row 2 of a batch: expected labels from 0 to 3; "
        "set model.args.classes to the number of classes (now 4) or mend the labels"
    )
