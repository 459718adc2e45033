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


@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_the_part_is_resized_whatever_batch_it_is_in(channels):
    images = np.random.default_rng(0).integers(0, 256, (6, 20, 30, *channels)).astype(np.uint8)
    images.setflags(write=False)
    transform = ResizedCrop(8)
    changed = transform((images,), streams(6))[0]
    assert (changed.shape, changed.dtype) == ((6, 8, 8, *channels), np.uint8)
    for i, (top, left, rows, columns) in enumerate(transform.boxes(streams(6), 20, 30)):
        how = cv2.INTER_AREA if min(rows, columns) >= 8 else cv2.INTER_LINEAR
        part = images[i, top : top + rows, left : left + columns].copy()
        expected = cv2.resize(part, (8, 8), interpolation=how).reshape(8, 8, *channels)
        np.testing.assert_array_equal(changed[i], expected)
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
