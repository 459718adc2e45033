"""Normalisation beside what all layers are tested for: running averages, evaluation, errors."""

import numpy as np
import pytest
from layer_cases import CASES, Run

from dualshard.common.errors import UserError
from dualshard.worker.layout import Layout
from dualshard.worker.nn.activations import ReLU
from dualshard.worker.nn.dense import Dense
from dualshard.worker.nn.losses import SoftmaxCrossEntropy
from dualshard.worker.nn.norm import BatchNorm, LayerNorm
from dualshard.worker.nn.sequential import Sequential

BATCH = [case for case in CASES if case.name.startswith("batch normalisation")]
EACH = pytest.mark.parametrize("case", BATCH, ids=lambda case: case.name)


def theirs(torch, run):
    """PyTorch's layer with the same parameters."""
    values = {name: torch.from_numpy(value.copy()) for name, value in run.parameters.items()}
    layer = torch.nn.BatchNorm1d(3, dtype=torch.float64)
    layer.load_state_dict(
        {
            "weight": values["weight"],
            "bias": values["bias"],
            "running_mean": values["mean"],
            "running_var": values["variance"],
            "num_batches_tracked": torch.tensor(0),
        }
    )
    return layer


@EACH
def test_running_averages_move_as_pytorchs_do(case):
    torch = pytest.importorskip("torch")
    run = Run(np, case, 6)
    layer = theirs(torch, run)
    layer(torch.from_numpy(run.inputs.reshape(-1, 3)))
    run.forward()
    steps, _ = run.backward()
    moved = {name: run.parameters[name] - steps[name] for name in ("mean", "variance")}
    np.testing.assert_allclose(moved["mean"], layer.running_mean, rtol=1e-12)
    np.testing.assert_allclose(moved["variance"], layer.running_var, rtol=1e-12)


@EACH
def test_evaluation_uses_the_running_averages(case):
    torch = pytest.importorskip("torch")
    run = Run(np, case, 4)
    layer = theirs(torch, run).eval()
    expected = layer(torch.from_numpy(run.inputs.reshape(-1, 3))).detach().numpy()
    outputs = run.forward(training=False)
    np.testing.assert_allclose(outputs.reshape(-1, 3), expected, rtol=1e-12)


@pytest.mark.parametrize("compiled", [True, False])
def test_a_running_variance_below_zero_counts_as_zero(compiled):
    """Several workers may push it there for a moment: an evaluation then is no NaN."""
    net = Sequential(
        [Dense(4, 3), BatchNorm(3), ReLU(), Dense(3, 2)], SoftmaxCrossEntropy(), sample_shape=(4,)
    )
    layout, rng = Layout(net.shapes()), np.random.default_rng(2)
    views = layout.views(np.zeros(layout.size, np.float32))
    net.start(views, rng)
    batch = rng.standard_normal((6, 4)).astype(np.float32), np.arange(6) % 2
    losses = []
    for variance in (-0.5, 0.0, 1.0):
        views["batchnorm1.variance"][:] = variance
        losses.append(net.evaluate(views if compiled else dict(views), batch)["loss"])
    assert losses[0] == losses[1] != losses[2]
    assert np.isfinite(losses).all()


def test_one_number_has_no_variance_that_could_be_averaged():
    run = Run(np, BATCH[0], samples=1)
    assert np.array_equal(run.forward()[0], run.parameters["bias"])
    steps, delta = run.backward()
    assert not delta.any()
    assert not steps["variance"].any()
    expected = 0.1 * (run.parameters["mean"] - run.inputs[0])
    np.testing.assert_allclose(steps["mean"], expected, rtol=1e-12)


def test_a_large_batch_keeps_the_digits_of_float32():
    """A running float32 sum over the pixels would lose three of them."""
    layer, rng = BatchNorm(2), np.random.default_rng(1)
    parameters = {name: np.empty(2, np.float32) for name in layer.shapes()}
    layer.start(parameters, rng)
    inputs = (100 + rng.standard_normal((64, 64, 64, 2))).astype(np.float32)
    outputs = layer.forward(parameters, inputs, rng).astype(float)
    np.testing.assert_allclose(outputs.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(outputs.var(axis=(0, 1, 2)), 1, atol=2e-5)


@pytest.mark.parametrize("layer", [BatchNorm(3), LayerNorm((4, 3))], ids=lambda layer: layer.noun)
def test_first_values_change_nothing(layer):
    parameters = {name: np.full(shape, np.nan) for name, shape in layer.shapes().items()}
    layer.start(parameters, np.random.default_rng(1))
    inputs = np.random.default_rng(2).normal(size=(50, 4, 3))
    normal = layer.forward(parameters, inputs, np.random.default_rng(3))
    axes = (0, 1) if isinstance(layer, BatchNorm) else (1, 2)
    np.testing.assert_allclose(normal.mean(axis=axes), 0, atol=1e-12)
    np.testing.assert_allclose(normal.var(axis=axes), 1, rtol=1e-4)


def test_only_batch_normalisation_has_running_averages():
    assert BatchNorm(3).averaged() == {"mean", "variance"}
    assert LayerNorm(3).averaged() == frozenset()


@pytest.mark.parametrize(
    ("layer", "sample", "sentence"),
    [
        (
            BatchNorm(3),
            (4, 4, 2),
            "BatchNorm.features = 3: expected 2, the last of a sample of shape (4, 4, 2); "
            "write BatchNorm(2)",
        ),
        (
            LayerNorm(3),
            (4,),
            "LayerNorm.features = (3,): expected 4, the last of a sample of shape (4,); "
            "write LayerNorm(4)",
        ),
        (
            LayerNorm((3, 4)),
            (2, 5, 4),
            "LayerNorm.features = (3, 4): expected (5, 4), the last of a sample of shape "
            "(2, 5, 4); write LayerNorm((5, 4))",
        ),
    ],
)
def test_samples_of_other_features_are_refused(layer, sample, sentence):
    with pytest.raises(UserError) as error:
        layer.outputs(sample)
    assert str(error.value) == sentence
