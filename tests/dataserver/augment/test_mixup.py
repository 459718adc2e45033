"""Mixup: shares by SciPy's distribution, mixtures by plain arithmetic, pairs by sample alone."""

import numpy as np
import pytest
from scipy import stats

from dualshard.common.errors import UserError
from dualshard.dataserver.augment import Mixup, check_mixups, parse_augment
from dualshard.dataserver.pipeline import Pipeline, Portions
from dualshard.dataserver.randomness import Stream
from dualshard.dataserver.sources.samples import ArrayDataset

RANDOM = np.random.default_rng(3)


def stream(n: int) -> Stream:
    return Stream.of(5, 2, np.arange(n, dtype=np.int64))


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_beta(alpha: float) -> None:
    shares = Mixup(alpha).shares(stream(4000))
    assert shares.dtype == np.float32
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 0.01


@pytest.mark.parametrize("samples", [1, 7, 60_000])
def test_partners_come_from_the_whole_set_evenly(samples: int) -> None:
    partners = Mixup(0.2).partners(stream(20_000), samples)
    assert partners.dtype == np.int64
    assert 0 <= partners.min() <= partners.max() < samples
    counts = np.histogram(partners, bins=min(samples, 20), range=(0, samples))[0]
    assert stats.chisquare(counts).pvalue > 0.001 or samples == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_mixture_is_what_the_paper_says(dtype: type) -> None:
    first = (RANDOM.random((40, 5, 4, 3)) * 255).astype(dtype)
    second = (RANDOM.random((40, 5, 4, 3)) * 255).astype(dtype)
    labels, others = RANDOM.integers(0, 3, 40), RANDOM.integers(0, 3, 40)
    before = first.copy()
    random = stream(40)
    inputs, soft = Mixup(0.4).mix((first, labels), (second, others), random, 3)
    share = Mixup(0.4).shares(random).astype(np.float64)[:, None, None, None]
    exact = share * first + (1 - share) * second
    assert inputs.dtype == dtype
    np.testing.assert_allclose(inputs, exact, atol=0.5001 if dtype is np.uint8 else 1e-4)
    share = share[:, 0, 0]
    np.testing.assert_allclose(
        soft, share * np.eye(3)[labels] + (1 - share) * np.eye(3)[others], atol=1e-6
    )
    assert soft.dtype == np.float32
    np.testing.assert_array_equal(first, before)


def test_a_sample_is_mixed_alike_whatever_stands_beside_it() -> None:
    images = RANDOM.integers(0, 256, (50, 6, 6)).astype(np.uint8)
    dataset = ArrayDataset((images, np.arange(50, dtype=np.int64) % 4))
    transforms = parse_augment(["shift:2", "mixup:0.3", "rotate:10"])
    pipeline = Pipeline(dataset, transforms, 7, Portions(50, 16), classes=4)
    everything = pipeline.samples(3, np.arange(50))
    for index in (0, 13, 49):
        alone = pipeline.samples(3, np.array([index]))
        for whole, one in zip(everything, alone, strict=True):
            np.testing.assert_array_equal(whole[index], one[0])
    other = pipeline.samples(4, np.arange(50))
    assert (other[1] != everything[1]).any()


def test_the_partner_is_augmented_as_itself() -> None:
    """What stands before mixup changes the partner by the partner's own stream."""
    images = RANDOM.integers(0, 256, (30, 6, 6)).astype(np.uint8)
    dataset = ArrayDataset((images, np.zeros(30, np.int64)))
    plain = Pipeline(dataset, parse_augment(["shift:2"]), 7, Portions(30, 16))
    mixed = Pipeline(dataset, parse_augment(["shift:2", "mixup:1"]), 7, Portions(30, 16), classes=1)
    indices = np.arange(30)
    own = Stream.of(7, 0, indices).child(1)
    mixup = Mixup(1.0)
    partners, share = mixup.partners(own, 30), mixup.shares(own)[:, None, None]
    shifted = plain.samples(0, indices)[0]
    exact = share * shifted + (1 - share) * plain.samples(0, partners)[0]
    np.testing.assert_allclose(mixed.samples(0, indices)[0], exact, atol=0.501)


def test_it_stands_once() -> None:
    assert check_mixups(parse_augment(["mixup:0.2", "shift:2"]))
    assert not check_mixups(parse_augment(["shift:2"]))
    with pytest.raises(UserError) as refused:
        check_mixups(parse_augment(["mixup:0.2", "mixup:0.3"]))
    assert str(refused.value) == (
        "data.augment = mixup: expected it once, and not 2 times; leave one"
    )
