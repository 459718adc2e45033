"""The check for NaN and infinity, and delay compensation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualshard.common import rule_kernels
from dualshard.common.rule_kernels import compensate, finite
from dualshard.common.types import Float32


def start(size: int, seed: int = 1) -> Float32:
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


# ---- NaN and infinity


BLOCK = 4096


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("size", "at"),
    [
        (1, 0),
        (7, 6),
        (BLOCK, 0),
        (BLOCK, BLOCK - 1),
        (BLOCK + 1, BLOCK),
        (3 * BLOCK + 5, BLOCK - 1),
        (3 * BLOCK + 5, BLOCK),
        (3 * BLOCK + 5, 2 * BLOCK + 17),
        (3 * BLOCK + 5, 3 * BLOCK),
        (3 * BLOCK + 5, 3 * BLOCK + 4),
    ],
)
def test_one_bad_element_anywhere_is_found(size: int, at: int, bad: float) -> None:
    array = start(size)
    assert finite(array)
    array[at] = bad
    assert not finite(array)


def test_every_finite_float_is_finite() -> None:
    info = np.finfo(np.float32)
    edges = [0.0, -0.0, info.max, info.min, info.tiny, info.smallest_subnormal]
    array = np.resize(np.array(edges, np.float32), 2 * BLOCK + 3)
    assert finite(array)
    assert finite(-array)
    assert finite(np.empty(0, np.float32))


@settings(deadline=None)  # the first example may compile a kernel
@given(st.lists(st.integers(0, 2**32 - 1), max_size=80))
def test_any_bits_are_judged_as_numpy_does(bits: list[int]) -> None:
    array = np.array(bits, np.uint32).view(np.float32)
    assert finite(array) == bool(np.isfinite(array).all())


def test_a_signalling_nan_is_found() -> None:
    assert not finite(np.array([0, 0x7F800001], np.uint32).view(np.float32))


# ---- delay compensation


@pytest.mark.parametrize("size", [0, 1, 7, 1003])
def test_delay_compensation_equals_the_formula_in_float64(size: int) -> None:
    g, now, then = (start(size, seed) for seed in range(3))
    out, kept = np.full(size, 7, np.float32), [a.tobytes() for a in (g, now, then)]
    compensate(g, now, then, 0.3, out)
    wide = g.astype(float)
    expected = wide + 0.3 * wide * wide * (now.astype(float) - then)
    np.testing.assert_allclose(out, expected, rtol=2e-5, atol=1e-6)
    assert [a.tobytes() for a in (g, now, then)] == kept


def test_without_a_delay_or_strength_the_gradient_stays_as_it_is() -> None:
    g, now, out = start(9), start(9, 2), np.zeros(9, np.float32)
    compensate(g, now, now, 0.3, out)
    assert out.tobytes() == g.tobytes()
    compensate(g, now, g, 0.0, out)
    assert out.tobytes() == g.tobytes()


def test_compensation_corrects_a_late_gradient_of_a_log_likelihood() -> None:
    """The gradient of a logistic loss at the present parameters, from one taken before."""
    x, then, now = 2.0, 0.3, 0.35
    late, fresh = (-x / (1 + np.exp(x * w)) for w in (then, now))
    out = np.zeros(1, np.float32)
    arrays = (np.array([value], np.float32) for value in (late, now, then))
    compensate(*arrays, 1.0, out)
    assert abs(out[0] - fresh) < 0.6 * abs(late - fresh)


def test_one_loop_serves_writable_and_read_only_arrays() -> None:
    g, now, then, out = start(9), start(9, 2), start(9, 3), np.zeros(9, np.float32)
    compensate(g, now, then, 0.3, out)
    compensate(*map(rule_kernels.read_only, (g, now, then)), 0.3, out)
    assert len(rule_kernels._compensate.signatures) == 1
