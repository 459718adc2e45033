"""Losses against numeric gradients and PyTorch."""

import numpy as np
import pytest
from layer_cases import LOSSES, check_loss

from dualshard.common.errors import UserError
from dualshard.worker.nn.losses import SoftmaxCrossEntropy, SquaredError, check_labels

EACH = pytest.mark.parametrize(
    "loss", LOSSES, ids=lambda loss: f"{type(loss).__name__}{vars(loss)}"
)


@EACH
@pytest.mark.parametrize("samples", [1, 7])
def test_slope_of_a_loss_agrees_with_numeric_gradients(loss, samples):
    check_loss(np, loss, samples)


@pytest.mark.parametrize("loss", LOSSES[:3], ids=lambda loss: type(loss).__name__)
def test_a_loss_survives_logits_that_overflow_the_exponential(loss):
    logits, smoothing = (
        np.array([[1e4, -1e4, 0.0]], np.float32),
        getattr(loss, "label_smoothing", 0),
    )
    assert loss.value(logits, np.array([0])) == pytest.approx(smoothing * 1e4, rel=1e-4, abs=1.0)
    assert loss.value(logits, np.array([1])) >= 1e4
    assert np.isfinite(loss.slope(logits, np.array([1]))).all()


def test_losses_agree_with_pytorch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    logits, labels = rng.normal(size=(9, 5)).astype(np.float32), rng.integers(0, 5, 9)
    z, t = torch.from_numpy(logits).requires_grad_(), torch.from_numpy(labels)
    onehot, functional = torch.nn.functional.one_hot(t, 5).float(), torch.nn.functional
    units = functional.binary_cross_entropy_with_logits(z, onehot, reduction="sum")
    theirs = [
        functional.cross_entropy(z, t),
        functional.cross_entropy(z, t, label_smoothing=0.1),
        units / 9,
        functional.mse_loss(z, onehot) * 5 / 2,
    ]
    for loss, expected in zip(LOSSES, theirs, strict=True):
        assert loss.value(logits, labels) == pytest.approx(float(expected.detach()), rel=1e-6)
        (slope,) = torch.autograd.grad(expected, z, retain_graph=True)
        np.testing.assert_allclose(loss.slope(logits, labels), slope, rtol=1e-5, atol=1e-7)


def test_the_squared_error_of_a_right_answer_is_zero():
    assert SquaredError().value(np.eye(3), np.arange(3)) == 0
    assert SquaredError().value(np.eye(3), np.array([0, 1, 1])) == pytest.approx(1 / 3)


@pytest.mark.parametrize("amount", [-0.1, 1, float("nan"), True, "0.1"])
def test_an_amount_of_smoothing_out_of_range_is_refused(amount):
    with pytest.raises(UserError) as error:
        SoftmaxCrossEntropy(label_smoothing=amount)
    assert str(error.value) == (
        f"SoftmaxCrossEntropy.label_smoothing = {amount}: expected a number from 0 to below 1; "
        "use 0 for none, 0.1 for a tenth"
    )


def test_a_wrong_label_is_named_with_its_row():
    with pytest.raises(UserError) as error:
        check_labels(np.array([0, 3, 4, -1]), 4)
    assert str(error.value) == (
        "data.source = label 4 in row 2 of a batch: expected labels from 0 to 3; "
        "set model.args.classes to the number of classes (now 4) or mend the labels"
    )
