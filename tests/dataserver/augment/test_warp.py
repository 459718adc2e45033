"""The warp kernel against a plain reference, and against OpenCV where it is installed."""

import numpy as np
import pytest

from dualshard.dataserver.augment.warp import warp

IDENTITY = np.eye(2, 3, dtype=np.float32)


def reference(images, maps):
    """Pixel by pixel in float64: bilinear, zeros outside; (n, h, w, c)."""
    n, height, width, channels = images.shape
    result = np.zeros((n, height, width, channels))
    for i, y, x in np.ndindex(n, height, width):
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        place = maps[i].astype(np.float64) @ [x - centre[0], y - centre[1], 1.0] + centre
        corner = np.floor(place).astype(int)
        for dy, dx in np.ndindex(2, 2):
            left, top = corner[0] + dx, corner[1] + dy
            if 0 <= left < width and 0 <= top < height:
                weight_x, weight_y = 1 - abs(place - [left, top])
                result[i, y, x] += weight_x * weight_y * images[i, top, left]
    return result


def random_maps(rng, n, size):
    """Turns, stretches and shifts, some so far that the image leaves the frame."""
    maps = IDENTITY + rng.uniform(-0.8, 0.8, (n, 2, 3)).astype(np.float32)
    maps[:, :, 2] *= size
    return maps


@pytest.mark.parametrize("shape", [(7, 9), (9, 7, 3), (1, 1), (1, 6), (8, 1, 2), (28, 28)])
def test_equals_the_reference(shape):
    rng = np.random.default_rng(1)
    maps = random_maps(rng, 12, max(shape))
    floats = rng.uniform(0, 1, (12, *shape)).astype(np.float32)
    channels_last = (12, *shape, 1) if len(shape) == 2 else (12, *shape)

    warped = warp(floats, maps)
    assert warped.dtype == np.float32
    expected = reference(floats.reshape(channels_last), maps).reshape(floats.shape)
    np.testing.assert_allclose(warped, expected, atol=2e-5)

    pixels = rng.integers(0, 256, (12, *shape)).astype(np.uint8)
    expected = reference(pixels.reshape(channels_last), maps).reshape(pixels.shape)
    warped = warp(pixels, maps)
    assert warped.dtype == np.uint8
    assert np.abs(warped - expected).max() < 0.505


@pytest.mark.parametrize("shape", [(70, 61), (70, 61, 3), (2, 3000)])
def test_bytes_of_large_images_are_the_rounded_floats(shape):
    rng = np.random.default_rng(4)
    maps = random_maps(rng, 3, max(shape) / 4)
    pixels = rng.integers(0, 256, (3, *shape)).astype(np.uint8)
    floats = warp(pixels.astype(np.float32), maps)
    # Places a thousand pixels away are known to a few 1e-4 of a pixel.
    assert np.abs(warp(pixels, maps) - floats).max() < (0.6 if max(shape) < 100 else 1.0)


def test_identity_keeps_every_pixel_and_leaves_the_input_alone():
    images = np.arange(2 * 16 * 16, dtype=np.int64).astype(np.uint8).reshape(2, 16, 16)
    images.setflags(write=False)
    warped = warp(images, np.stack([IDENTITY, IDENTITY]))
    np.testing.assert_array_equal(warped, images)
    assert not np.shares_memory(warped, images)


def test_whole_shift_moves_pixels_and_fills_with_zeros():
    image = np.arange(1, 13, dtype=np.uint8).reshape(1, 3, 4)
    maps = np.array([[[1, 0, 1], [0, 1, -1]]], dtype=np.float32)
    np.testing.assert_array_equal(warp(image, maps), [[[0, 0, 0, 0], [2, 3, 4, 0], [6, 7, 8, 0]]])


def test_uint8_is_rounded_and_does_not_wrap():
    image = np.array([[[255, 255, 0]]], dtype=np.uint8)
    maps = np.array([[[1, 0, 0.25], [0, 1, 0]]], dtype=np.float32)
    # 255, 191.25 and 0 between their neighbours.
    np.testing.assert_array_equal(warp(image, maps), [[[255, 191, 0]]])


def test_views_that_are_not_contiguous_and_empty_batches():
    rng = np.random.default_rng(2)
    images = rng.uniform(0, 1, (4, 6, 10)).astype(np.float32)
    maps = random_maps(rng, 2, 4)
    np.testing.assert_array_equal(
        warp(images[::2, :, ::2], maps), warp(images[::2, :, ::2].copy(), maps)
    )
    assert warp(images[:0], maps[:0]).shape == (0, 6, 10)


def test_equals_opencv():
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(3)
    maps = random_maps(rng, 20, 3)
    images = rng.uniform(0, 1, (20, 28, 24)).astype(np.float32)
    centre = np.array([11.5, 13.5])
    expected = [
        cv2.warpAffine(
            image,
            np.column_stack([m[:, :2], m[:, 2] + centre - m[:, :2] @ centre]).astype(np.float64),
            (24, 28),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        )
        for image, m in zip(images, maps, strict=True)
    ]
    # OpenCV may round places to 1/32 of a pixel, half of which is 1/64 in x and in y.
    np.testing.assert_allclose(warp(images, maps), expected, atol=2 / 64 + 1e-3)
