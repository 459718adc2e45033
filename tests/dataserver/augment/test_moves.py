"""Crop, reflect and cutout against one NumPy step after the other."""

import numpy as np
import pytest

from dualshard.common.errors import UserError
from dualshard.dataserver.augment import parse_augment
from dualshard.dataserver.augment.affine import Kind, Warp
from dualshard.dataserver.augment.pixels import Pixels
from dualshard.dataserver.randomness import Stream

CHAINS = [
    ["crop:4", "reflect", "cutout:5"],
    ["cutout:4", "crop:3", "reflect:hv", "crop:3", "cutout:3"],
    ["reflect:v", "cutout:6", "reflect", "crop:5"],
]


def top_bit(random, draw):
    return random.uniform(draw) >= 0.5


def step(images, entry, random):
    """One entry, one image at a time."""
    name, _, amount = entry.partition(":")
    n, height, width = images.shape[:3]
    result = images.copy()
    for i in range(n):
        if name == "reflect":
            axes = amount or "h"
            if "h" in axes and top_bit(random, 0)[i]:
                result[i] = result[i][:, ::-1]
            if "v" in axes and top_bit(random, 1)[i]:
                result[i] = result[i][::-1]
            continue
        p = int(amount)
        spans = [2 * p + 1] * 2 if name == "crop" else [width, height]
        x, y = (int(np.float64(random.uniform(draw)[i]) * s) for draw, s in enumerate(spans))
        if name == "crop":
            rest = [(0, 0)] * (images.ndim - 3)
            padded = np.pad(images[i], [(p, p), (p, p), *rest])
            result[i] = padded[y : y + height, x : x + width]
        else:
            x, y = x - p // 2, y - p // 2
            result[i, max(y, 0) : max(y + p, 0), max(x, 0) : max(x + p, 0)] = 0
    return result


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("shape", [(9, 7), (8, 6, 3), (7, 11, 1), (6, 6, 2)])
def test_a_chain_is_its_steps(chain, shape):
    random = Stream.of(2, 0, np.arange(60))
    images = np.random.default_rng(0).integers(1, 256, (60, *shape)).astype(np.uint8)
    expected = images
    for ordinal, entry in enumerate(chain):
        expected = step(expected, entry, random.child(ordinal))
    images.setflags(write=False)
    (transform,) = parse_augment(chain)
    labels = np.arange(60)
    changed, same = transform((images, labels), random)
    assert same is labels
    assert changed.dtype == np.uint8
    np.testing.assert_array_equal(changed, expected)
    floats = transform((images.astype(np.float32), labels), random)[0]
    assert floats.dtype == np.float32
    np.testing.assert_array_equal(floats, expected)


def test_one_pixel():
    (transform,) = parse_augment(["reflect:hv", "crop:1"])
    ones = np.ones((90, 1, 1), np.uint8)
    kept = transform((ones,), Stream.of(0, 0, np.arange(90)))[0].sum()
    # One place in nine shows it.
    assert 2 <= kept <= 22


def test_reflections_beside_a_warp_are_in_it_and_crops_are_not():
    (warp,) = parse_augment(["reflect", "rotate:5", "reflect:v"])
    assert isinstance(warp, Warp)
    assert [part.kind for part in warp.parts] == [Kind.REFLECT, Kind.ROTATE, Kind.REFLECT]
    first, second, third = parse_augment(["crop:2", "reflect", "rotate:5", "cutout:2"])
    assert [type(one) for one in (first, second, third)] == [Pixels, Warp, Pixels]


def test_a_reflection_in_a_warp_is_a_reflection():
    images = np.random.default_rng(0).integers(0, 256, (20, 6, 5)).astype(np.uint8)
    (warp,) = parse_augment(["reflect:hv", "shift:0"])
    random = Stream.of(2, 0, np.arange(20))
    expected = step(images, "reflect:hv", random.child(0))
    np.testing.assert_array_equal(warp((images,), random)[0], expected)


def test_a_square_larger_than_the_image_is_refused():
    (transform,) = parse_augment(["crop:9"])
    with pytest.raises(UserError) as caught:
        transform((np.zeros((1, 8, 12), np.uint8),), Stream.of(0, 0, np.arange(1)))
    assert str(caught.value) == (
        "data.augment = crop:9: expected at most the shorter side of the images, and they are "
        "8 x 12; write crop:8 or less"
    )
