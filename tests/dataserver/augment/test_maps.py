"""The maps of affine changes: their spread, their order, and draws that are those of Stream."""

from math import log, radians

import numpy as np
import pytest

from dualshard.dataserver.augment.affine import Warp, rotate, scale, shear, shift
from dualshard.dataserver.augment.draws import bell, below, bits, child_key, uniform
from dualshard.dataserver.augment.maps import compose
from dualshard.dataserver.randomness import Stream


def streams(n):
    return Stream.of(5, 0, np.arange(n))


def drawn(part, n=4000):
    maps = Warp([part]).maps(streams(n))
    assert maps.dtype == np.float32
    return maps.astype(np.float64)


def test_kernels_draw_what_streams_draw():
    random = Stream.of(3, 1, np.arange(200))
    own = random.child(7)
    for key, child, value in zip(random.keys, own.keys, own.uniform(4, -2.0, 3.0), strict=True):
        assert child_key(key, 7) == child
        assert uniform(child, 4, np.float32(-2), np.float32(3)) == value
        assert below(child, 4, 10) == int((value + 2) * 2 + 1e-9) or abs(value % 0.5) < 1e-6


def test_a_bell_is_four_numbers_of_mean_0_and_deviation_1():
    keys = streams(20_000).keys
    word = int(bits(keys[0], 9))
    exact = sum(word >> shift & 0xFFFF for shift in (0, 16, 32, 48)) - 131070
    assert bell(keys[0], 9) == pytest.approx(exact / np.sqrt(4 * (2**32 - 1) / 12), rel=1e-6)
    values = np.array([bell(key, 9) for key in keys], np.float64)
    assert abs(values.mean()) < 0.03
    assert values.std() == pytest.approx(1, abs=0.02)
    # Kurtosis 3 - 6 / (5 * 4) of a sum of four.
    assert (values**4).mean() == pytest.approx(2.7, abs=0.15)


def test_shift_spreads_over_both_directions_and_both_axes():
    moved = drawn(shift(3.0))
    np.testing.assert_array_equal(moved[:, :, :2], np.broadcast_to(np.eye(2), (4000, 2, 2)))
    for axis in (0, 1):
        assert -3.0 <= moved[:, axis, 2].min() < -2.9
        assert 2.9 < moved[:, axis, 2].max() <= 3.0
    assert abs(np.corrcoef(moved[:, 0, 2], moved[:, 1, 2])[0, 1]) < 0.07


def test_rotate_turns_within_its_angle_and_keeps_lengths():
    maps = drawn(rotate(30.0))
    angles = np.degrees(np.arctan2(maps[:, 0, 1], maps[:, 0, 0]))
    assert -30.0 <= angles.min() < -29.5
    assert 29.5 < angles.max() < 30.0001
    products = maps[:, :, :2] @ maps[:, :, :2].transpose(0, 2, 1)
    np.testing.assert_allclose(products, np.broadcast_to(np.eye(2), products.shape), atol=1e-6)


def test_scale_is_one_factor_as_often_smaller_as_larger():
    maps = drawn(scale(0.5, 2.0))
    np.testing.assert_array_equal(maps[:, 0, 0], maps[:, 1, 1])
    assert not maps[:, [0, 1], [1, 0]].any()
    logs = -np.log(maps[:, 0, 0])
    assert -log(2) - 1e-5 <= logs.min() < -0.68
    assert 0.68 < logs.max() <= log(2) + 1e-5
    assert abs(logs.mean()) < 0.03


def test_shear_is_along_x_then_along_y():
    maps = drawn(shear(20.0))[:50, :, :2]
    steep = np.tan(radians(20.0))
    for back in maps:
        s, t = -back[0, 1], -back[1, 0]
        assert max(abs(s), abs(t)) <= steep + 1e-6
        forth = np.array([[1, 0], [t, 1]]) @ np.array([[1, s], [0, 1]])
        np.testing.assert_allclose(back @ forth, np.eye(2), atol=1e-6)
    assert len(np.unique(maps[:, 0, 1])) == 50


def test_a_chain_is_the_product_of_its_parts_the_first_one_leftmost():
    random = streams(8)
    parts = [shift(3.0), rotate(90.0), scale(0.5, 2.0), shift(3.0)]
    chain = Warp(parts).maps(random)
    for i in range(8):
        product = np.eye(3)
        for ordinal, part in enumerate(parts):
            one = compose(random.keys, [part], ordinal)[i].astype(np.float64)
            product = product @ np.vstack([one, [0, 0, 1]])
        np.testing.assert_allclose(chain[i], product[:2], atol=1e-5)
