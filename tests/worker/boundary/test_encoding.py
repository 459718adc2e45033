"""How arrays travel between parts. The oracle is the array itself, but for what is left out."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualshard.common.codecs import encoded_bytes
from dualshard.common.messages import Gradients
from dualshard.common.types import Float32
from dualshard.worker.boundary.encoding import Misfit, decode, encode

NAMES = pytest.mark.parametrize("name", ["f32", "f16", "bf16", "int8"])
RELATIVE = {"f32": 0.0, "f16": 2**-11, "bf16": 2**-8, "int8": 1 / 254}


def sent(name: str, array: Float32, **fields: Any) -> Gradients:
    code = encode(name, array)
    assert code.finite
    said = {"shape": code.shape, "values": code.values, "extra": code.extra, "encoding": name}
    return Gradients(round=1, **(said | fields))


@NAMES
@given(st.integers(1, 9), st.lists(st.integers(1, 9), max_size=3), st.integers(0, 99))
def test_an_array_comes_as_it_was_within_the_codes_precision(
    name: str, rows: int, shape: list[int], seed: int
) -> None:
    array = np.random.default_rng(seed).normal(size=(rows, *shape)).astype(np.float32)
    message = sent(name, array)
    found = decode(message, name, array.shape)
    assert (found.dtype, found.shape) == (np.float32, array.shape)
    atol = RELATIVE[name] * float(np.abs(array).max()) * 1.001
    np.testing.assert_allclose(found, array, rtol=0, atol=atol)
    assert message.values.nbytes + message.extra.nbytes == encoded_bytes(name, array.size)


@NAMES
def test_an_array_that_does_not_lie_in_one_piece(name: str) -> None:
    array = np.arange(24, dtype=np.float32).reshape(4, 6)[:, ::2]
    np.testing.assert_allclose(decode(sent(name, array), name), array, atol=0.1)


def test_without_a_code_nothing_is_copied() -> None:
    array = np.ones((3, 4), np.float32)
    assert np.shares_memory(encode("f32", array).values, array)


@NAMES
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_seen_by_both_ends(name: str, bad: float) -> None:
    array = np.ones((3, 300), np.float32)
    array[1, 7] = bad
    code = encode(name, array)
    assert not code.finite
    message = Gradients(1, name, code.shape, code.values, code.extra)
    with pytest.raises(Misfit) as caught:
        decode(message, name)
    assert caught.value.code == ("malformed" if name == "int8" else "nonfinite")


@NAMES
@pytest.mark.parametrize(
    "fields",
    [
        {"shape": []},
        {"shape": [0]},
        {"shape": [-3, -4]},
        {"shape": [12, 1]},
        {"shape": [3, 5]},
        {"values": np.ones(12, np.complex64)},
        {"values": np.ones(11, np.float32)},
        {"values": np.float32(1).reshape(())},
        {"extra": np.ones(7, np.float32)},
        {"encoding": "f64"},
        {"encoding": "topk"},
    ],
)
def test_what_is_no_array_of_this_shape_is_a_misfit(name: str, fields: dict[str, Any]) -> None:
    message = sent(name, np.ones((3, 4), np.float32), **fields)
    with pytest.raises(Misfit) as caught:
        decode(message, name, (3, 4))
    assert caught.value.code == "malformed"
    assert "\n" not in str(caught.value)


@NAMES
def test_a_shape_that_would_not_fit_into_memory_is_not_believed(name: str) -> None:
    message = sent(name, np.ones((3, 4), np.float32), shape=[1 << 40, 1 << 40])
    with pytest.raises(Misfit, match="values"):
        decode(message, name)
