"""The layer tests of tests/worker on a device: the same cases against the same oracles."""

from copy import copy

import numpy as np
import pytest
from layer_cases import (
    CASES,
    LOSSES,
    Run,
    check_dtype_and_shape,
    check_how_arrays_lie,
    check_loss,
    check_nan,
    check_numeric_gradients,
    check_torch,
    host,
)

EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@EACH
@pytest.mark.parametrize("samples", [1, 3])
def test_backward_agrees_with_numeric_gradients(case, samples, cupy):
    check_numeric_gradients(cupy, case, samples)


@EACH
@pytest.mark.parametrize("samples", [1, 5])
def test_a_layer_agrees_with_pytorch(case, samples, cupy):
    check_torch(cupy, case, samples, pytest.importorskip("torch"))


@EACH
def test_a_layer_agrees_with_pytorch_in_float32(case, cupy):
    check_torch(cupy, case, 4, pytest.importorskip("torch"), np.float32, rtol=1e-4)


@EACH
def test_how_arrays_lie_in_memory_changes_nothing_and_none_is_written(case, cupy):
    check_how_arrays_lie(cupy, case)


@EACH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_and_shape_are_kept(case, dtype, cupy):
    check_dtype_and_shape(cupy, case, dtype)


@EACH
def test_nan_is_not_swallowed(case, cupy):
    check_nan(cupy, case)


@EACH
def test_a_layer_on_the_device_is_the_one_on_the_host(case, cupy):
    there, here = (Run(xp, case, 3, np.float32) for xp in (cupy, np))
    for training in (False, True):
        close = {"rtol": 1e-4, "atol": 1e-5}
        np.testing.assert_allclose(host(there.forward(training)), here.forward(training), **close)
    (found, delta), (expected, source) = there.backward(), here.backward()
    np.testing.assert_allclose(host(delta), source, **close)
    for name, gradient in expected.items():
        np.testing.assert_allclose(host(found[name]), gradient, **close)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: f"{type(loss).__name__}{vars(loss)}")
@pytest.mark.parametrize("samples", [1, 7])
def test_slope_of_a_loss_agrees_with_numeric_gradients(loss, samples, cupy):
    check_loss(cupy, copy(loss), samples)
