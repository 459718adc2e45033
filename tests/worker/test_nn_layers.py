"""Every layer (the plain reference) against numeric gradients and PyTorch; see `layer_cases`."""

import numpy as np
import pytest
from layer_cases import (
    CASES,
    check_dtype_and_shape,
    check_how_arrays_lie,
    check_nan,
    check_numeric_gradients,
    check_torch,
)

EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@EACH
@pytest.mark.parametrize("samples", [1, 3])
def test_backward_agrees_with_numeric_gradients(case, samples):
    check_numeric_gradients(np, case, samples)


@EACH
@pytest.mark.parametrize("samples", [1, 5])
def test_a_layer_agrees_with_pytorch(case, samples):
    check_torch(np, case, samples, pytest.importorskip("torch"))


@EACH
def test_a_layer_agrees_with_pytorch_in_float32(case):
    check_torch(np, case, 4, pytest.importorskip("torch"), np.float32, rtol=2e-5)


@EACH
def test_how_arrays_lie_in_memory_changes_nothing_and_none_is_written(case):
    check_how_arrays_lie(np, case)


@EACH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_and_shape_are_kept(case, dtype):
    check_dtype_and_shape(np, case, dtype)


@EACH
def test_nan_is_not_swallowed(case):
    check_nan(np, case)
