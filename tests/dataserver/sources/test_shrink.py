"""Shrinking against means over areas in float64."""

import numpy as np
import pytest

from dualshard.dataserver.sources.shrink import area_weights, shrink


def covered(before, after):
    """How much of each old element (columns) each new one (rows) covers, as parts of itself."""
    edges = np.arange(after + 1)[:, None] * before / after
    place = np.arange(before)
    shared = np.minimum(edges[1:], place + 1) - np.maximum(edges[:-1], place)
    return np.clip(shared, 0, None) * after / before


def means(image, height, width):
    rows = np.tensordot(covered(len(image), height), image.astype(np.float64), (1, 0))
    return np.moveaxis(np.tensordot(covered(image.shape[1], width), rows, (1, 1)), 0, 1)


@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((375, 375), (224, 224)),
        ((10, 12), (10, 12)),
        ((1, 5), (1, 3)),
        ((2, 2), (1, 1)),
        ((96, 64), (12, 8)),
        ((97, 65), (12, 8)),
        ((40, 41), (39, 13)),
        ((33, 47), (16, 23)),
    ],
)
def test_each_pixel_is_the_mean_of_its_area(before, after, channels):
    image = np.random.default_rng(0).integers(0, 256, (*before, *channels)).astype(np.uint8)
    made = shrink(image, *after)
    assert (made.shape, made.dtype) == ((*after, *channels), np.uint8)
    error = made - means(image, *after)
    # Rounded twice, with weights of 8 bits: noise is the worst case.
    assert np.abs(error).max() < 2
    assert np.sqrt((error**2).mean()) < 0.75
    assert error.size < 1000 or abs(error.mean()) < 0.1


def test_a_part_of_an_image_is_like_a_copy_of_it():
    image = np.random.default_rng(1).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    part = image[3:43, 10:60]
    np.testing.assert_array_equal(shrink(part, 20, 30), shrink(part.copy(), 20, 30))


@pytest.mark.parametrize("before", [1, 2, 7, 300, 1000])
@pytest.mark.parametrize("after", [1, 2, 7, 224])
def test_weights_are_those_of_the_areas_and_lose_nothing(before, after):
    if after > before:
        return
    firsts, weights = area_weights(before, after)
    assert (weights.sum(axis=1) == 256).all()
    assert firsts.min() >= 0
    assert firsts.max() + weights.shape[1] <= before
    dense = np.zeros((after, before))
    for row, first, some in zip(dense, firsts, weights, strict=True):
        row[first : first + len(some)] = some / 256
    np.testing.assert_allclose(dense, covered(before, after), atol=1 / 256)


def test_white_stays_white():
    assert (shrink(np.full((301, 257), 255, np.uint8), 100, 3) == 255).all()
