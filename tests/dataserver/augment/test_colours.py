"""Brightness, contrast and saturation against one float64 NumPy step after the other."""

import numpy as np
import pytest

from dualshard.common.errors import UserError
from dualshard.dataserver.augment import parse_augment
from dualshard.dataserver.augment.colours import Colours
from dualshard.dataserver.randomness import Stream

LISTS = [
    ["brightness:0.3"],
    ["contrast:0.5"],
    ["saturation:0.9"],
    ["brightness:0.2", "contrast:0.4", "saturation:0.6"],
    ["saturation:1", "contrast:1", "brightness:0.5", "contrast:0.3", "saturation:0.4"],
]


def streams(n, epoch=0):
    return Stream.of(3, epoch, np.arange(n))


def grey(images):
    """(n, height, width, 1) of three channels; one is grey already."""
    if images.shape[3] == 1:
        return images
    return (0.299 * images[..., 0] + 0.587 * images[..., 1] + 0.114 * images[..., 2])[..., None]


def reference(images, entries, random):
    """float64, (n, height, width, channels), not clipped."""
    result = images.astype(np.float64)
    for part, entry in enumerate(entries):
        name, amount = entry.split(":")
        factors = random.child(part).uniform(0, 1 - float(amount), 1 + float(amount))
        f = factors.astype(np.float64)[:, None, None, None]
        other = {
            "brightness": 0.0,
            "contrast": grey(result).mean(axis=(1, 2, 3), keepdims=True),
            "saturation": grey(result),
        }[name]
        result = f * result + (1 - f) * other
    return result


@pytest.mark.parametrize("entries", LISTS)
@pytest.mark.parametrize("shape", [(7, 5, 3), (1, 1, 3), (33, 32, 3)])
def test_equals_the_reference(entries, shape):
    (transform,) = parse_augment(entries)
    images = np.random.default_rng(0).integers(0, 256, (40, *shape)).astype(np.uint8)
    images.setflags(write=False)
    labels = np.arange(40)
    expected = np.clip(reference(images, entries, streams(40)), 0, 255)
    changed, same = transform((images, labels), streams(40))
    assert same is labels
    assert changed.dtype == np.uint8
    assert np.abs(changed - expected).max() < 0.502
    if shape != (1, 1, 3):
        assert (changed != images).any(axis=(1, 2, 3)).all()

    floats = images / np.float32(255)
    changed = transform((floats, labels), streams(40))[0]
    assert changed.dtype == np.float32
    assert (changed.min(), changed.max()) >= (0, 0)
    assert changed.max() <= 1
    np.testing.assert_allclose(changed, expected / 255, atol=3e-6)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1)])
def test_grey_images_have_brightness_and_contrast(shape):
    entries = ["contrast:0.5", "brightness:0.3"]
    (transform,) = parse_augment(entries)
    images = np.random.default_rng(0).integers(0, 256, (20, *shape)).astype(np.uint8)
    changed = transform((images,), streams(20))[0]
    expected = reference(images.reshape(20, 6, 5, 1), entries, streams(20)).reshape(images.shape)
    assert np.abs(changed - np.clip(expected, 0, 255)).max() < 0.502


def test_brightness_takes_any_channels():
    (transform,) = parse_augment(["brightness:0.5"])
    images = np.full((9, 4, 4, 2), 100, np.uint8)
    changed = transform((images,), streams(9))[0]
    factors = streams(9).child(0).uniform(0, 0.5, 1.5)
    np.testing.assert_allclose(changed[:, 0, 0, 1], 100 * factors, atol=0.51)


def test_it_is_clipped_once_at_the_end():
    entries = ["brightness:1", "brightness:1"]
    images = np.full((400, 1, 1), 200, np.uint8)
    random = streams(400)
    first, second = (random.child(part).uniform(0, 0, 2) for part in range(2))
    brought_back = (first * 200 > 256) & (first * second * 200 < 200)
    assert brought_back.sum() > 20
    (transform,) = parse_augment(entries)
    changed = transform((images,), random)[0].ravel()
    expected = np.minimum(first * second * 200, 255)
    np.testing.assert_allclose(changed, expected, atol=0.51)


def test_consecutive_ones_are_joined_and_amount_0_changes_nothing():
    (chain,) = parse_augment(["brightness:0", "contrast:0", "saturation:0"])
    assert isinstance(chain, Colours)
    assert [part.name for part in chain.parts] == ["brightness", "contrast", "saturation"]
    images = np.random.default_rng(0).integers(0, 256, (5, 9, 8, 3)).astype(np.uint8)
    np.testing.assert_array_equal(chain((images,), streams(5))[0], images)
    assert len(parse_augment(["brightness:0.1", "reflect", "contrast:0.1"])) == 3


def test_a_sample_has_the_same_pixels_in_any_batch_and_others_in_the_next_epoch():
    (transform,) = parse_augment(["brightness:0.4", "contrast:0.4", "saturation:0.4"])
    images = np.random.default_rng(0).integers(0, 256, (12, 9, 7, 3)).astype(np.uint8)
    whole = transform((images,), streams(12))[0]
    picked = np.array([7, 0, 11])
    again = transform((images[picked],), Stream.of(3, 0, picked))[0]
    np.testing.assert_array_equal(again, whole[picked])
    assert (transform((images,), streams(12, 1))[0] != whole).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize(
    ("entry", "shape", "expected"),
    [
        ("saturation:0.2", (8, 8), "images of 3 channels, and they have 1, in shape (8, 8)"),
        ("saturation:0.2", (8, 8, 1), "images of 3 channels, and they have 1, in shape (8, 8, 1)"),
        (
            "contrast:0.25",
            (8, 8, 4),
            "images of 1 or 3 channels, and they have 4, in shape (8, 8, 4)",
        ),
    ],
)
def test_other_channels_are_refused(entry, shape, expected):
    (transform,) = parse_augment(["brightness:0.1", entry])
    with pytest.raises(UserError) as caught:
        transform((np.zeros((2, *shape), np.uint8),), streams(2))
    assert str(caught.value) == (
        f"data.augment = {entry}: expected {expected}; leave {entry.split(':')[0]} out"
    )


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_an_amount_that_is_none_is_refused(name):
    for text in (name, f"{name}:-0.1", f"{name}:1.5", f"{name}:x"):
        with pytest.raises(UserError) as caught:
            parse_augment([text])
        assert str(caught.value) == (
            f"data.augment = {text}: expected {name}:AMOUNT, AMOUNT a number from 0 to 1; "
            f"write for example {name}:0.2"
        )
