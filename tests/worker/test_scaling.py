"""Inputs as nets take them, against plain arithmetic in float64."""

import numpy as np
import pytest

from dualshard.common.cluster import DataShape
from dualshard.worker.scaling import Scaling

RANDOM = np.random.default_rng(4)
SHAPES = [(5,), (6, 4), (6, 4, 3), (70, 60, 3)]


def data(shape: tuple[int, ...], mean: tuple[float, ...] = (), std: tuple[float, ...] = ()):
    return DataShape(10, 10, 3, shape, 2, mean, std)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_scaled_as_told(shape: tuple[int, ...], normalised: bool, dtype: type) -> None:
    channels = shape[2] if len(shape) == 3 else 1
    mean = tuple(0.1 * (1 + c) for c in range(channels)) if normalised else ()
    std = tuple(0.2 * (1 + c) for c in range(channels)) if normalised else ()
    inputs = (RANDOM.random((7, *shape)) * (255 if dtype is np.uint8 else 1)).astype(dtype)
    before = inputs.copy()
    scaling = Scaling(data(shape, mean, std))
    exact = inputs.astype(np.float64) / (255 if dtype is np.uint8 else 1)
    if normalised:
        exact = (exact - np.array(mean)) / np.array(std)
    found = scaling(inputs)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(scaling.on(np, inputs), exact, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(inputs, before)


def test_bytes_and_a_device_agree_to_the_bit() -> None:
    inputs = RANDOM.integers(0, 256, (9, 8, 8, 3)).astype(np.uint8)
    scaling = Scaling(data((8, 8, 3), (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)))
    np.testing.assert_array_equal(scaling(inputs), scaling.on(np, inputs))


def test_float32_that_is_not_normalised_is_not_copied() -> None:
    inputs = np.ones((3, 4), np.float32)
    assert Scaling(data((4,)))(inputs) is inputs


def test_the_buffer_is_used_again_and_several_stand_beside_each_other() -> None:
    scaling = Scaling(data((4,)))
    first = scaling(np.full((3, 4), 255, np.uint8))
    assert np.shares_memory(first, scaling(np.zeros((2, 4), np.uint8)))
    one, two = scaling.all([np.full((1, 4), 255, np.uint8), np.zeros((2, 4), np.uint8)])
    assert one.tolist() == [[1.0] * 4]
    assert not two.any()


def test_no_samples_and_strides() -> None:
    scaling = Scaling(data((4,), (0.5,), (0.5,)))
    assert scaling(np.empty((0, 4), np.uint8)).shape == (0, 4)
    wide = RANDOM.integers(0, 256, (5, 8)).astype(np.uint8)
    np.testing.assert_allclose(scaling(wide[:, ::2]), wide[:, ::2] / 127.5 - 1, atol=1e-6)
