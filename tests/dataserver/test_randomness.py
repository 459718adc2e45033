"""Streams: known answers, independence of the batch, distributions."""

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dualshard.dataserver.randomness import Purpose, Stream, child, sample_keys

SIX = np.array([5, 3, 2, 1, 4, 0])


def test_children_are_the_published_outputs_of_splitmix64():
    # The first five outputs for the seed 1234567, as listed at rosettacode.org.
    state = np.array([1234567], dtype=np.uint64)
    words = np.arange(5, dtype=np.uint64)
    assert child(state, words).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@given(
    seed=st.integers(-(2**70), 2**70),
    epoch=st.integers(0, 10**6),
    indices=st.lists(st.integers(0, 2**62), min_size=1, max_size=30),
)
def test_a_sample_draws_the_same_alone_as_in_any_batch(seed, epoch, indices):
    together = Stream.of(seed, epoch, np.array(indices)).child(1)
    alone = [Stream.of(seed, epoch, np.array([index])).child(1) for index in indices]
    assert together.uniform(3).tolist() == [float(one.uniform(3)[0]) for one in alone]
    assert together.normal(3).tolist() == [float(one.normal(3)[0]) for one in alone]


def test_another_process_draws_the_same():
    code = (
        "import numpy as np; from dualshard.dataserver.randomness import Stream;"
        "print(Stream.of(7, 2, np.arange(4)).child(1).keys.tolist())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == str(Stream.of(7, 2, np.arange(4)).child(1).keys.tolist())


def test_seed_purpose_epoch_index_child_and_draw_all_matter():
    keys = [
        sample_keys(seed, purpose, epoch, np.arange(50))
        for seed in range(4)
        for purpose in Purpose
        for epoch in range(4)
    ]
    assert len(np.unique(keys)) == 4 * len(Purpose) * 4 * 50
    stream = Stream.of(1, 1, SIX)
    family = [stream.keys, *(stream.child(ordinal).keys for ordinal in range(4))]
    draws = [stream._bits(draw) for draw in range(4)]
    assert len(np.unique([*family, *draws])) == 9 * 6


def test_uniform_fills_its_range_evenly():
    values = Stream.of(3, 0, np.arange(20_000)).uniform(0, -2.0, 6.0)
    assert values.dtype == np.float32
    assert stats.kstest(values, stats.uniform(-2.0, 8.0).cdf).pvalue > 0.01


def test_uniform_never_reaches_its_upper_end():
    # All bits set is the largest draw; 1 + 2**-24 of it is not a float32, and rounds up.
    class Largest(Stream):
        def _bits(self, draw):
            return np.array([2**64 - 1], dtype=np.uint64)

    assert Largest(np.zeros(1, np.uint64)).uniform(0, 1.0, 2.0)[0] < 2.0
    assert Largest(np.zeros(1, np.uint64)).uniform(0, -3.0, 3.0)[0] < 3.0
    assert Largest(np.zeros(1, np.uint64)).uniform(0, 1.5, 1.5)[0] == 1.5


def test_normal_has_its_mean_and_deviation():
    values = Stream.of(3, 0, np.arange(20_000)).normal(0, 1.0, 0.5)
    assert values.dtype == np.float32
    assert stats.kstest(values, stats.norm(1.0, 0.5).cdf).pvalue > 0.01


def test_draws_of_neighbouring_samples_epochs_and_draws_do_not_correlate():
    n = 20_000
    first = Stream.of(0, 0, np.arange(n))
    others = [
        Stream.of(0, 0, np.arange(1, n + 1)).uniform(0),
        Stream.of(0, 1, np.arange(n)).uniform(0),
        Stream.of(1, 0, np.arange(n)).uniform(0),
        first.uniform(1),
        first.child(0).uniform(0),
    ]
    for other in others:
        assert abs(np.corrcoef(first.uniform(0), other)[0, 1]) < 4 / np.sqrt(n)
