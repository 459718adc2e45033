"""Dropout: the mask is a function of one seed and the place, and has the right mean."""

import numpy as np
import pytest
from layer_cases import splitmix64 as slowly

from dualshard.common.errors import UserError
from dualshard.worker.nn.dropout import Dropout, splitmix64


def test_splitmix64_gives_the_published_numbers():
    """The first numbers of S. Vigna's splitmix64.c with the state 1234567."""
    assert splitmix64(np, 1234567, 3).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1])
def test_splitmix64_agrees_with_pythons_integers(seed):
    assert splitmix64(np, seed, 9).tolist() == [slowly(seed, k) for k in range(9)]


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_a_fraction_is_dropped_and_the_mean_is_kept(rate):
    outputs = Dropout(rate).forward({}, np.ones((100, 500), np.float32), np.random.default_rng(1))
    deviation = np.sqrt(rate * (1 - rate) / outputs.size)
    assert np.mean(outputs == 0) == pytest.approx(rate, abs=4 * deviation)
    assert set(np.unique(outputs)) == {np.float32(0), 1 / np.float32(1 - rate)}


def test_evaluation_is_the_identity_and_draws_nothing():
    inputs = np.random.default_rng(1).normal(size=(4, 5))
    assert Dropout(0.5).forward({}, inputs, None) is inputs


def test_each_step_has_a_mask_of_its_own_and_one_draw():
    layer, inputs = Dropout(0.5), np.ones((4, 50), np.float32)
    rng, other = np.random.default_rng(1), np.random.default_rng(1)
    first, second = layer.forward({}, inputs, rng), layer.forward({}, inputs, rng)
    assert not np.array_equal(first, second)
    other.integers(2**64, size=2, dtype=np.uint64)
    assert rng.random() == other.random()


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, True, "half"])
def test_a_rate_out_of_range_is_refused(rate):
    with pytest.raises(UserError) as error:
        Dropout(rate)
    assert str(error.value) == (
        f"Dropout.rate = {rate}: expected a number from 0 to below 1; "
        "give the fraction that is dropped, 0.5 for half"
    )
