"""Elastic deformation: its field against a smoothed one, its look-up against scipy's."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from dualshard.dataserver.augment import parse_augment
from dualshard.dataserver.augment.affine import rotate, shift
from dualshard.dataserver.augment.draws import bell
from dualshard.dataserver.augment.elastic import Elastic, basis
from dualshard.dataserver.augment.maps import compose
from dualshard.dataserver.randomness import Stream


def fields(keys, down, across):
    """(n, 2, height, width): written as the formula, from the same draws."""
    rows, columns = len(down), len(across)
    draws = [[bell(key, draw) for draw in range(2 * rows * columns)] for key in keys]
    z = np.array(draws, np.float64).reshape(-1, 2, rows, columns)
    return down.T.astype(np.float64) @ z @ across.astype(np.float64)


def test_rank_6_for_28_pixels_and_the_deviation_within_one_percent():
    rows = basis(28, 4.0)
    assert rows.shape == (6, 28)
    assert rows.dtype == np.float32
    noise = np.zeros((28, 28))
    exact = np.zeros((28, 28))
    for place in np.ndindex(28, 28):
        noise[place] = 1
        exact += gaussian_filter(noise, 4.0, mode="constant") ** 2
        noise[place] = 0
    ours = np.outer((rows**2).sum(0), (rows**2).sum(0))
    np.testing.assert_allclose(np.sqrt(ours / exact), 1, atol=0.011)


def test_a_field_has_the_deviation_and_the_correlation_of_a_smoothed_one():
    rows = basis(28, 4.0)
    ours = fields(Stream.of(0, 0, np.arange(400)).keys, rows, rows).reshape(-1, 28, 28)
    noise = np.random.default_rng(0).uniform(-1, 1, (800, 28, 28)) * 3**0.5
    theirs = gaussian_filter(noise, (0, 4, 4), mode="constant")
    assert ours.std() == pytest.approx(theirs.std(), rel=0.05)
    for lag in (2, 4, 8):
        mine, other = (
            (field[:, 10, 8] * field[:, 10, 8 + lag]).mean() / field[:, 10, 8:9].var()
            for field in (ours, theirs)
        )
        assert mine == pytest.approx(other, abs=0.15)


@pytest.mark.parametrize("shape", [(12, 9), (9, 12, 3), (1, 1), (8, 8, 1)])
@pytest.mark.parametrize("after", [(), (rotate(30), shift(1))])
def test_the_look_up_is_scipys(shape, after):
    n = 6
    random = Stream.of(1, 0, np.arange(n))
    transform = Elastic(20, 2.0, [shift(2), rotate(20)], after)
    images = np.random.default_rng(1).uniform(0, 1, (n, *shape)).astype(np.float32)
    images.setflags(write=False)
    changed = transform((images,), random)[0]
    height, width = shape[:2]
    scaled = basis(width, 2.0) * np.float32(20 / 3**0.5)
    field = fields(random.child(2).keys, basis(height, 2.0), scaled)
    before = compose(random.keys, transform.before).astype(np.float64)
    later = compose(random.keys, after, 3).astype(np.float64)
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    y, x = np.mgrid[:height, :width]
    p = np.stack([x - middle[0], y - middle[1], np.ones_like(x)], -1).astype(np.float64)
    for i in range(n):
        q = p @ later[i].T
        at = [q[..., 1] + middle[1], q[..., 0] + middle[0]]
        d = [map_coordinates(one, at, order=1, mode="nearest") for one in field[i]]
        ahead = np.stack([q[..., 0] + d[0], q[..., 1] + d[1], np.ones_like(d[0])], -1)
        source = ahead @ before[i].T + middle
        planes = images[i].reshape(height, width, -1).astype(np.float64)
        for channel in range(planes.shape[2]):
            padded = np.pad(planes[..., channel], 2)
            where = [source[..., 1] + 2, source[..., 0] + 2]
            expected = map_coordinates(padded, where, order=1, mode="constant")
            got = changed[i].reshape(height, width, -1)[..., channel]
            np.testing.assert_allclose(got, expected, atol=2e-4)


@pytest.mark.parametrize("shape", [(12, 9), (28, 28), (9, 12, 3)])
@pytest.mark.parametrize("after", [(), (rotate(30), shift(1))])
def test_bytes_are_the_rounded_floats_and_an_image_is_the_same_in_any_batch(shape, after):
    n = 19
    transform = Elastic(20, 2.0, [shift(2), rotate(20)], after)
    pixels = np.random.default_rng(2).integers(0, 256, (n, *shape)).astype(np.uint8)
    found = []
    for images in (pixels, pixels.astype(np.float32)):
        whole = transform((images,), Stream.of(1, 0, np.arange(n)))[0]
        for begin, end in ((0, 1), (1, 10), (10, 19)):
            some = transform((images[begin:end],), Stream.of(1, 0, np.arange(begin, end)))[0]
            np.testing.assert_array_equal(some, whole[begin:end])
        found.append(whole)
    assert np.abs(found[0] - found[1]).max() < 0.6


def test_alpha_0_changes_nothing_and_affine_neighbours_are_joined():
    images = np.random.default_rng(1).integers(0, 256, (5, 10, 10)).astype(np.uint8)
    (same,) = parse_augment(["elastic:0:4"])
    changed = same((images,), Stream.of(0, 0, np.arange(5)))[0]
    np.testing.assert_array_equal(changed, images)
    (chain,) = parse_augment(["rotate:5", "elastic:34:4", "shift:2"])
    assert isinstance(chain, Elastic)
    assert (chain.before, chain.after) == ((rotate(5.0),), (shift(2.0),))
    assert len(parse_augment(["elastic:34:4", "elastic:34:4"])) == 2
