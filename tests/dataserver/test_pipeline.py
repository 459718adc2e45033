"""Order, portions, and the same sample with the same pixels wherever it is handed out."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualshard.common.errors import UserError
from dualshard.dataserver.augment import parse_augment
from dualshard.dataserver.pipeline import Pipeline, portions
from dualshard.dataserver.sampling import Sampling, epoch_order
from dualshard.dataserver.sources.samples import ArrayDataset

SIZES = st.integers(1, 3000)


def images(n, side=8):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (n, side, side)).astype(np.uint8)
    return ArrayDataset((pixels, np.arange(n)))


def pipeline(dataset, size=64, seed=1, augment=("shift:1", "rotate:10")):
    cut = portions(len(dataset), batch_size=size, portion_batches=2, replicas=1)
    return Pipeline(dataset, parse_augment(augment), seed, cut)


@given(seed=st.integers(0, 2**63), epoch=st.integers(0, 1000), n=SIZES)
def test_an_epoch_visits_every_sample_once(seed, epoch, n):
    order = epoch_order(seed, epoch, n)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(n))


def test_the_order_is_of_its_seed_and_epoch():
    first = epoch_order(3, 0, 1000)
    np.testing.assert_array_equal(epoch_order(3, 0, 1000), first)
    # Two random permutations share one position on average.
    assert (epoch_order(3, 1, 1000) == first).sum() < 10
    assert (epoch_order(4, 0, 1000) == first).sum() < 10
    assert abs(np.corrcoef(first, np.arange(1000))[0, 1]) < 0.1


def test_the_order_never_changes_between_versions():
    # A run that resumes from a checkpoint, or on another machine, relies on it.
    assert epoch_order(0, 0, 10).tolist() == [0, 7, 8, 2, 5, 9, 4, 6, 3, 1]


def test_every_order_is_as_likely_as_any_other():
    seen = [tuple(epoch_order(seed, 0, 3)) for seed in range(6000)]
    counts = [seen.count(one) for one in set(seen)]
    assert len(counts) == 6
    # 1000 each, standard deviation 29.
    assert max(abs(count - 1000) for count in counts) < 120


@given(
    n=st.integers(1, 50_000),
    batch=st.integers(1, 600),
    portion_batches=st.integers(1, 50),
    workers=st.integers(1, 40),
)
def test_portions_hold_every_position_once(n, batch, portion_batches, workers):
    cut = portions(n, batch, portion_batches, workers)
    spans = [cut.span(number) for number in range(cut.count)]
    assert [begin for begin, _ in spans] == [0, *(end for _, end in spans[:-1])]
    assert spans[-1][1] == n
    assert all(end - begin == cut.size for begin, end in spans[:-1])
    assert 0 < spans[-1][1] - spans[-1][0] <= cut.size
    assert cut.size % batch == 0
    assert cut.size <= batch * portion_batches
    # Four a worker, or as many as there are minibatches.
    assert cut.count >= min(4 * workers, -(-n // batch)) or cut.size == batch * portion_batches


@pytest.mark.parametrize(
    ("n", "batch", "portion_batches", "workers", "size", "count"),
    [
        (60_000, 128, 8, 2, 1024, 59),
        (10_007, 128, 8, 3, 768, 14),
        (1437, 32, 8, 2, 160, 9),
        (1437, 32, 8, 16, 32, 45),
        (5, 32, 8, 4, 32, 1),
        (1, 1, 1, 1, 1, 1),
    ],
)
def test_portions_shrink_with_the_data_set(n, batch, portion_batches, workers, size, count):
    cut = portions(n, batch, portion_batches, workers)
    assert (cut.size, cut.count) == (size, count)


@pytest.mark.parametrize("augment", [(), ("shift:2",)])
def test_all_portions_of_an_epoch_are_the_data_set(augment):
    dataset = images(10_007)
    cut = portions(10_007, batch_size=128, portion_batches=8, replicas=3)
    source = Pipeline(dataset, parse_augment(augment), 9, cut)
    parts = [source.portion(2, number) for number in range(cut.count)]
    for indices, (inputs, labels) in parts:
        assert inputs.dtype == np.uint8
        assert len(inputs) == len(indices)
        np.testing.assert_array_equal(labels, indices)
    indices = np.concatenate([indices for indices, _ in parts])
    np.testing.assert_array_equal(np.sort(indices), np.arange(10_007))
    plain = np.concatenate([inputs for _, (inputs, _) in parts])
    assert np.array_equal(plain, dataset.read(indices)[0]) == (augment == ())


def test_a_reissued_sample_has_identical_pixels_in_another_cut():
    dataset = images(300)
    small, large = pipeline(dataset, size=8), pipeline(dataset, size=64)
    pixels = {}
    for number in range(small.cut.count):
        indices, (inputs, _) = small.portion(3, number)
        pixels.update(zip(indices.tolist(), inputs, strict=True))
    indices, (inputs, _) = large.portion(3, 1)
    assert len(indices) == 64
    np.testing.assert_array_equal(inputs, [pixels[index] for index in indices.tolist()])


def test_epochs_may_be_asked_for_in_any_order():
    source = pipeline(images(300))
    first = [source.portion(epoch, 1) for epoch in (0, 1, 0)]
    np.testing.assert_array_equal(first[0][0], first[2][0])
    np.testing.assert_array_equal(first[0][1][0], first[2][1][0])
    assert (first[0][0] != first[1][0]).any()


def test_threads_get_what_one_thread_gets():
    source = pipeline(images(600), size=32)
    wanted = [(epoch, number) for number in range(source.cut.count) for epoch in (0, 1)]
    with ThreadPoolExecutor(4) as pool:
        parallel = list(pool.map(lambda one: source.portion(*one), wanted))
    for one, (indices, arrays) in zip(wanted, parallel, strict=True):
        again, alone = source.portion(*one)
        np.testing.assert_array_equal(indices, again)
        np.testing.assert_array_equal(arrays[0], alone[0])


def test_each_transform_has_streams_of_its_own():
    seen = []

    def spy(arrays, random):
        seen.append(random.uniform(0))
        return arrays

    dataset = images(40)
    source = Pipeline(dataset, [spy, spy], 1, portions(40, 40, 1, 1))
    seen.clear()
    source.portion(0, 0)
    assert len(seen) == 2
    assert (seen[0] != seen[1]).all()


def test_a_transform_that_does_not_fit_fails_at_the_start():
    flat = ArrayDataset((np.zeros((10, 64), np.float32), np.zeros(10, np.int64)))
    with pytest.raises(UserError, match=r"^data.augment = shift, rotate: .*they are \(64,\)"):
        pipeline(flat)


def test_the_orders_of_an_epoch_and_the_next_are_drawn_once(monkeypatch):
    drawn = []
    draw = Sampling.order
    monkeypatch.setattr(
        Sampling, "order", lambda self, seed, epoch: drawn.append(epoch) or draw(self, seed, epoch)
    )
    served = pipeline(images(300))
    for epoch in (0, 1, 0, 1, 2, 1, 2):
        served.portion(epoch, 0)
    assert drawn == [0, 1, 2]
