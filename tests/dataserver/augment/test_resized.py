"""Random resized crop: its boxes, its resizing, and what test samples get instead."""

import cv2
import numpy as np
import pytest

from dualshard.common.errors import UserError
from dualshard.dataserver.augment import parse_augment
from dualshard.dataserver.augment.resized import ResizedCrop
from dualshard.dataserver.pipeline import Pipeline, portions
from dualshard.dataserver.randomness import Stream
from dualshard.dataserver.sources.samples import ArrayDataset


def streams(n):
    return Stream.of(5, 0, np.arange(n))


def test_boxes_lie_inside_and_spread_over_area_and_aspect():
    top, left, rows, columns = ResizedCrop(8, 0.2, 0.5).boxes(streams(4000), 100, 120).T
    assert min(top.min(), left.min()) == 0
    assert ((top + rows).max(), (left + columns).max()) == (100, 120)
    areas = rows * columns / 12000
    assert 0.19 < areas.min() < 0.21 < 0.49 < areas.max() < 0.51
    assert areas.mean() == pytest.approx(0.35, abs=0.01)
    aspects = np.log(columns / rows)
    assert abs(aspects.mean()) < 0.02
    assert np.abs(aspects).max() == pytest.approx(np.log(4 / 3), abs=0.03)


def test_what_never_fits_is_the_largest_centred_square():
    boxes = ResizedCrop(8, 1, 1).boxes(streams(5), 10, 100)
    np.testing.assert_array_equal(boxes, [[0, 45, 10, 10]] * 5)


def across(image, side):
    """float64: the first axis brought to `side`, by the mean of what each covers or bilinear."""
    length = len(image)
    ends = np.arange(side + 1) * length / side
    if length >= side:
        sums = np.concatenate([np.zeros_like(image[:1]), image.cumsum(axis=0)])
        at = np.stack(
            [
                [np.interp(ends, np.arange(length + 1), line) for line in row]
                for row in sums.transpose(1, 2, 0)
            ]
        )
        return np.diff(at, axis=2).transpose(2, 0, 1) * side / length
    middle = (ends[1:] + ends[:-1]) / 2 - 0.5
    return np.stack(
        [
            [np.interp(middle, np.arange(length), line) for line in row]
            for row in image.transpose(1, 2, 0)
        ]
    ).transpose(2, 0, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_side_that_shrinks_alone_does_not_alias(dtype):
    stripes = np.zeros((2, 96, 10, 3), dtype)
    stripes[:, ::4] = 200
    box = np.array([[0, 0, 96, 10], [0, 0, 96, 10]])
    tall = ResizedCrop(24)._resized(stripes, box)
    np.testing.assert_array_equal(tall, 50)
    flat = ResizedCrop(24)._resized(stripes.swapaxes(1, 2), box[:, [1, 0, 3, 2]])
    np.testing.assert_array_equal(flat, 50)


@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_the_part_is_resized_whatever_batch_it_is_in(channels):
    images = np.random.default_rng(0).integers(0, 256, (60, 20, 30, *channels)).astype(np.uint8)
    images.setflags(write=False)
    transform = ResizedCrop(8)
    changed = transform((images,), streams(60))[0]
    assert (changed.shape, changed.dtype) == ((60, 8, 8, *channels), np.uint8)
    for i, (top, left, rows, columns) in enumerate(transform.boxes(streams(60), 20, 30)):
        part = images[i, top : top + rows, left : left + columns].reshape(rows, columns, -1)
        expected = across(across(part.astype(np.float64), 8).swapaxes(0, 1), 8).swapaxes(0, 1)
        # Rounded after each of two steps, and OpenCV interpolates bytes in steps of 1/2048.
        assert np.abs(changed[i].reshape(8, 8, -1) - expected).max() < 1.5
        if min(rows, columns) >= 8 or max(rows, columns) <= 8:
            how = cv2.INTER_AREA if min(rows, columns) >= 8 else cv2.INTER_LINEAR
            same = cv2.resize(part.copy(), (8, 8), interpolation=how).reshape(8, 8, *channels)
            np.testing.assert_array_equal(changed[i], same)
    alone = transform((images[4:5],), Stream.of(5, 0, np.array([4])))[0]
    np.testing.assert_array_equal(alone[0], changed[4])


@pytest.mark.parametrize(("size", "square"), [((256, 300), 224), ((224, 224), 224), ((64, 64), 64)])
def test_test_samples_are_the_centre(size, square):
    images = np.random.default_rng(0).integers(0, 256, (1, *size)).astype(np.uint8)
    made = ResizedCrop(224).at_test((images,))[0][0]
    top, left = ((side - square) // 2 for side in size)
    centre = images[0, top : top + square, left : left + square].copy()
    np.testing.assert_array_equal(made, cv2.resize(centre, (224, 224)))


def test_a_pipeline_gives_both_kinds_of_samples_one_shape():
    dataset = ArrayDataset((np.zeros((10, 16, 12, 3), np.uint8), np.arange(10)))
    transforms = parse_augment(["reflect", "resized_crop:8:0.5:1"])
    pipeline = Pipeline(dataset, transforms, 0, portions(10, 2, 2, 1))
    assert pipeline.sample_shape == (8, 8, 3)
    inputs, labels = pipeline.at_test(dataset.read(np.arange(4)))
    assert inputs.shape == (4, 8, 8, 3)
    np.testing.assert_array_equal(labels, np.arange(4))


def test_low_above_high_is_refused():
    with pytest.raises(UserError, match="LOW at most HIGH; write for example resized_crop:224"):
        parse_augment(["resized_crop:8:0.5:0.2"])
