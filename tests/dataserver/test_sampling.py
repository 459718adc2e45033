"""Drawn orders: shares of classes, repeats of samples, streams of repeats, and bad weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from dualshard.common.data_sections import DataSection
from dualshard.common.errors import UserError
from dualshard.dataserver.randomness import Stream
from dualshard.dataserver.sampling import class_draws, epoch_order, make_sampling

LABELS = np.repeat([0, 1, 3], [500, 90, 10])


def sampling(how, *weights, labels=LABELS):
    return make_sampling(DataSection(sampling=how, weights=weights), len(labels), labels)


def test_once_is_the_plain_order():
    order = sampling("once").order(3, 2)
    assert order.occurrences is None
    np.testing.assert_array_equal(order.indices, epoch_order(3, 2, 600))


@given(
    seed=st.integers(0, 2**63),
    epoch=st.integers(0, 1000),
    labels=st.lists(st.integers(0, 9), min_size=1, max_size=300),
)
def test_balanced_classes_differ_by_one_and_so_do_their_samples(seed, epoch, labels):
    labels = np.array(labels)
    order = sampling("balanced", labels=labels).order(seed, epoch)
    assert order.indices.shape == order.occurrences.shape == labels.shape
    times = np.bincount(order.indices, minlength=len(labels))
    by_class = np.bincount(labels, times)[np.unique(labels)]
    assert np.ptp(by_class) <= 1
    assert all(np.ptp(times[labels == one]) <= 1 for one in np.unique(labels))
    pairs = set(zip(order.indices.tolist(), order.occurrences.tolist(), strict=True))
    assert pairs == {(i, again) for i, count in enumerate(times) for again in range(count)}


def test_weights_are_shares_of_the_draws():
    order = sampling("weighted", "1:2", "3:0").order(0, 0)
    assert np.bincount(LABELS[order.indices]).tolist() == [200, 400]


def test_shares_that_are_no_whole_numbers_are_met_on_average():
    shares = np.array([0.23, 0.0, 0.51, 0.26])
    draws = np.array([class_draws(seed, 0, 10, shares) for seed in range(4000)])
    assert (draws.sum(1) == 10).all()
    assert set(draws[:, 0]) == {2, 3}
    # A mean of 4000 roundings has a deviation of at most 0.008.
    np.testing.assert_allclose(draws.mean(0), 10 * shares, atol=0.035)


def test_which_samples_are_drawn_once_more_and_where_is_chance():
    drawn = [sampling("balanced").order(1, epoch) for epoch in range(300)]
    times = sum(np.bincount(order.indices, minlength=600) for order in drawn)
    assert chisquare(times[:500]).pvalue > 1e-4
    places = np.concatenate([np.flatnonzero(LABELS[o.indices] == 3) for o in drawn])
    assert chisquare(np.bincount(places // 60, minlength=10)).pvalue > 1e-4


def test_an_order_is_of_its_seed_and_epoch():
    balanced = sampling("balanced")
    first = balanced.order(1, 0)
    np.testing.assert_array_equal(first.indices, balanced.order(1, 0).indices)
    assert (first.indices != balanced.order(1, 1).indices).mean() > 0.8
    assert (first.indices != balanced.order(2, 0).indices).mean() > 0.8


def test_a_second_draw_has_a_stream_of_its_own():
    indices = np.array([4, 4, 4, 9])
    plain = Stream.of(1, 2, indices)
    drawn = Stream.of(1, 2, indices, np.array([0, 1, 2, 0]))
    assert (drawn.keys == plain.keys).tolist() == [True, False, False, True]
    assert len(set(drawn.keys.tolist())) == 4
    alone = Stream.of(1, 2, np.array([4]), np.array([2]))
    assert alone.keys[0] == drawn.keys[2]


@pytest.mark.parametrize(
    ("how", "weights", "words"),
    [
        ("balanced", ["1:2"], "none where data.sampling = balanced; write data.sampling"),
        ("weighted", [], "at least one CLASS:WEIGHT above 0, there is none; write"),
        ("weighted", ["0:0", "1:0", "3:0"], "at least one CLASS:WEIGHT above 0, all are zero"),
        ("weighted", ["2:1"], "classes that training samples have, 0 to 3, class 2 has none"),
        ("weighted", ["7:1"], "classes that training samples have, 0 to 3, class 7 has none"),
        ("weighted", ["1:2", "1:3"], "a class once, class 1 comes twice"),
        ("weighted", ["1:-2"], "CLASS:WEIGHT, a class number and a number from 0"),
        ("weighted", ["1:nan"], "CLASS:WEIGHT, a class number and a number from 0"),
        ("weighted", ["1:inf"], "CLASS:WEIGHT, a class number and a number from 0"),
        ("weighted", ["1"], "CLASS:WEIGHT, a class number and a number from 0"),
        ("weighted", ["cat:2"], "CLASS:WEIGHT, a class number and a number from 0"),
        ("weighted", ["0:1e308", "1:1e308"], "a finite sum; write smaller weights"),
    ],
)
def test_bad_weights_are_one_line(how, weights, words):
    with pytest.raises(UserError, match=r"^data\.weights = ") as raised:
        sampling(how, *weights)
    assert words in str(raised.value)
