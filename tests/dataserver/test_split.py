"""Training against test samples: held out by seed and class, or checked against each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualshard.common.errors import UserError
from dualshard.dataserver.sources.samples import ArrayDataset, Origin, Samples
from dualshard.dataserver.split import count_classes, held_out_rows, make_split

TRAIN = Origin("data.source", "npz:a.npz")
TEST = Origin("data.test", "npz:b.npz")


def samples(labels, origin=TRAIN, shape=(2, 2), dtype=np.uint8):
    labels = np.array(labels, dtype=np.int64)
    inputs = np.arange(len(labels)).repeat(int(np.prod(shape))).astype(dtype)
    return Samples(inputs.reshape(-1, *shape), labels, "x", "y", origin)


def sentence(*arguments):
    with pytest.raises(UserError) as caught:
        make_split(*arguments)
    return str(caught.value)


def test_rows_are_read_in_the_order_asked_for_as_copies():
    inputs, labels = np.arange(12, dtype=np.float32).reshape(4, 3), np.arange(4)
    dataset = ArrayDataset((inputs, labels))
    assert len(dataset) == 4
    rows, numbers = dataset.read(np.array([3, 0, 3]))
    np.testing.assert_array_equal(rows, inputs[[3, 0, 3]])
    np.testing.assert_array_equal(numbers, [3, 0, 3])
    rows[:] = -1
    assert inputs.min() == 0


@given(
    labels=st.lists(st.integers(0, 5), min_size=2, max_size=200),
    seed=st.integers(0, 2**40),
    fraction=st.floats(0.01, 0.99),
)
def test_held_out_rows_are_a_stratified_partition(labels, seed, fraction):
    labels = np.array(labels)
    spare = len(labels) - len(np.unique(labels))
    count = min(max(1, round(fraction * len(labels))), spare)
    if count == 0:
        return
    train, test = held_out_rows(labels, seed, count)
    assert len(test) == count
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(len(labels)))
    assert set(labels[train]) == set(labels)
    for label in np.unique(labels):
        fair = ((labels == label).sum() - 1) * count / spare
        assert abs((labels[test] == label).sum() - fair) < 1


def test_held_out_rows_follow_the_seed():
    labels = np.arange(500) % 10
    test = held_out_rows(labels, 1, 100)[1]
    np.testing.assert_array_equal(held_out_rows(labels, 1, 100)[1], test)
    # A fifth of another choice is the same by chance.
    assert len(np.intersect1d(held_out_rows(labels, 2, 100)[1], test)) < 40


def test_without_a_test_set_a_fraction_is_held_out():
    whole = samples([0, 1, 2, 1, 0, 2, 1, 0, 2, 1], shape=(3,))
    split = make_split(whole, None, seed=4, held_out=0.2)
    assert (len(split.train), len(split.test)) == (8, 2)
    assert (split.classes, split.sample_shape) == (3, (3,))
    seen = set()
    for dataset in (split.train, split.test):
        inputs, labels = dataset.read(np.arange(len(dataset)))
        np.testing.assert_array_equal(labels, whole.labels[inputs[:, 0]])
        seen |= set(inputs[:, 0].tolist())
    assert seen == set(range(10))


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 1.5, float("nan")])
def test_a_fraction_outside_of_its_range_is_refused(fraction):
    assert sentence(samples([0, 1, 0, 1]), None, 0, fraction) == (
        f"data.held_out = {fraction}: expected a fraction between 0 and 1; write for example 0.2"
    )


def test_too_few_samples_to_hold_out_are_refused():
    assert sentence(samples([0, 1, 2, 2]), None, 0, 0.5) == (
        "data.held_out = 0.5: expected at most 1 of the 4 samples, as one of every class must stay "
        "for training, and this is 2; hold out less, or name a test set in data.test"
    )


def test_a_test_set_is_used_whole():
    split = make_split(samples([0, 1, 2]), samples([2, 2], TEST), seed=0, held_out=0.5)
    assert (len(split.train), len(split.test), split.classes) == (3, 2, 3)


def test_a_label_that_is_not_trained_on_is_refused():
    assert sentence(samples([0, 1, 2]), samples([2, 0, 7, 8], TEST), 0, 0.2) == (
        "data.test = npz:b.npz: expected test labels that are trained on, label 2 of y is 7 and no "
        "training sample has it; take both parts from the same data set"
    )


def test_test_samples_of_another_shape_or_dtype_are_refused():
    assert sentence(samples([0, 1]), samples([0, 1], TEST, shape=(4,)), 0, 0.2) == (
        "data.test = npz:b.npz: expected test samples like the training samples, uint8 of shape "
        "(2, 2), x has uint8 of shape (4,); prepare both in the same way"
    )
    assert sentence(samples([0, 1]), samples([0, 1], TEST, dtype=np.float32), 0, 0.2) == (
        "data.test = npz:b.npz: expected test samples like the training samples, uint8 of shape "
        "(2, 2), x has float32 of shape (2, 2); prepare both in the same way"
    )


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (range(10), 10),
        ([0, 1, 9, 3, 4], 10),
        (range(1, 27), 27),
        ([1], 2),
        ([0, 0], 1),
    ],
)
def test_classes_are_the_largest_label_plus_one(labels, classes):
    assert count_classes(samples(list(labels))) == classes


def test_a_damaged_label_does_not_make_a_huge_net():
    labels = [*range(10), *range(10)]
    labels[13] = 255
    assert sentence(samples(labels), None, 0, 0.2) == (
        "data.source = npz:a.npz: expected class numbers without large gaps, label 13 of y is 255 "
        "and there are only 11 different labels; "
        "repair that label, or number the classes 0, 1, 2, ..."
    )
