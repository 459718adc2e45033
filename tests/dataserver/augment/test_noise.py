"""Noise: its statistics, its range, the same numbers in any batch."""

import numpy as np
import pytest
from scipy import stats

from dualshard.common.errors import UserError
from dualshard.dataserver.augment import parse_augment
from dualshard.dataserver.augment.noise import STEPS, UNIT, quantiles
from dualshard.dataserver.randomness import Stream


def noise_on(value, deviation, shape, n=30, epoch=0):
    """float64 differences of images that held `value` alone."""
    (transform,) = parse_augment([f"noise:{deviation}"])
    images = np.full((n, *shape), value, np.float32)
    images.setflags(write=False)
    changed = transform((images,), Stream.of(2, epoch, np.arange(n)))[0]
    assert changed.dtype == np.float32
    return changed.astype(np.float64) - value


def correlation(first, second):
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def test_it_is_normal_with_mean_0_and_the_deviation_that_is_asked_for():
    z = noise_on(0.5, 0.1, (40, 40, 3)) / 0.1
    # 144,000 numbers: the mean within 4 of its own deviations, and so on.
    assert z.mean() == pytest.approx(0, abs=0.011)
    assert z.std() == pytest.approx(1, abs=0.008)
    assert stats.skew(z.ravel()) == pytest.approx(0, abs=0.03)
    assert stats.kurtosis(z.ravel()) == pytest.approx(0, abs=0.05)
    assert stats.kstest(z.ravel(), "norm").pvalue > 0.001
    assert 3.5 < np.abs(z).max() < 3.9


def test_neighbours_channels_images_and_epochs_have_nothing_in_common():
    z = noise_on(0.5, 0.1, (40, 40, 3))
    bound = 4 / 140_000**0.5
    assert abs(correlation(z[:, :, 1:], z[:, :, :-1])) < bound
    assert abs(correlation(z[:, 1:], z[:, :-1])) < bound
    assert abs(correlation(z[..., 1:], z[..., :-1])) < 2 * bound
    assert abs(correlation(z[1:], z[:-1])) < bound
    assert abs(correlation(z, noise_on(0.5, 0.1, (40, 40, 3), epoch=1))) < bound
    # Nor have their sizes: uncorrelated is not independent.
    assert abs(correlation(z[:, :, 1:] ** 2, z[:, :, :-1] ** 2)) < 2 * bound


def test_the_numbers_are_the_quantiles_of_the_normal_distribution():
    table = quantiles() * UNIT
    assert table.shape == (STEPS,)
    np.testing.assert_array_equal(table, -table[::-1])
    exact = stats.norm.ppf((np.arange(STEPS) + 0.5) / STEPS)
    np.testing.assert_allclose(table, exact, atol=0.002)
    assert table.std() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (23, 23), (9, 19, 3), (32, 16, 1)])
def test_bytes_are_rounded_and_have_the_same_noise_as_floats(shape):
    images = np.random.default_rng(0).integers(0, 256, (20, *shape)).astype(np.uint8)
    (transform,) = parse_augment(["noise:0.2"])
    random = Stream.of(2, 0, np.arange(20))
    changed = transform((images,), random)[0]
    assert (changed.dtype, changed.shape) == (np.uint8, images.shape)
    floats = transform((images / np.float32(255),), random)[0]
    assert np.abs(changed - floats.astype(np.float64) * 255).max() < 0.502
    inside = 0.5 + noise_on(0.5, 0.2, shape, 20)
    middle = np.clip(images / 255 + (inside - 0.5), 0, 1)
    kept = (inside > 0) & (inside < 1)
    np.testing.assert_allclose(floats[kept], middle[kept], atol=1e-6)


def test_it_is_clipped():
    (transform,) = parse_augment(["noise:0.3"])
    for value in (0, 255):
        images = np.full((8, 20, 20), value, np.uint8)
        changed = transform((images,), Stream.of(2, 0, np.arange(8)))[0]
        assert (changed == value).mean() == pytest.approx(0.5, abs=0.05)


def test_a_sample_has_the_same_pixels_in_any_batch_and_none_is_changed_by_0():
    images = np.random.default_rng(0).integers(0, 256, (12, 23, 29)).astype(np.uint8)
    (transform,) = parse_augment(["noise:0.1"])
    whole = transform((images,), Stream.of(2, 0, np.arange(12)))[0]
    picked = np.array([7, 0, 11])
    again = transform((images[picked],), Stream.of(2, 0, picked))[0]
    np.testing.assert_array_equal(again, whole[picked])
    (nothing,) = parse_augment(["noise:0"])
    np.testing.assert_array_equal(nothing((images,), Stream.of(2, 0, np.arange(12)))[0], images)


def test_a_deviation_that_is_none_and_no_images_are_refused():
    with pytest.raises(UserError) as caught:
        parse_augment(["noise:2"])
    assert str(caught.value) == (
        "data.augment = noise:2: expected noise:STDDEV, STDDEV a number from 0 to 1; write for "
        "example noise:0.05"
    )
    (transform,) = parse_augment(["noise:0.1"])
    with pytest.raises(UserError, match=r"data.augment = noise: expected samples of shape"):
        transform((np.zeros((2, 9), np.float32),), Stream.of(0, 0, np.arange(2)))
