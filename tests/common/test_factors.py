"""Pieces of a shard as a server reads them: what they say, and what is refused."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualshard.common.factors import MOST_PIECES, Piece, multiply, unpack

small = st.integers(-2, 40)
anything = st.one_of(
    small, st.none(), st.booleans(), st.floats(), st.text(max_size=3), st.integers(-(2**63), 2**64)
)
rows = st.one_of(
    st.lists(small, min_size=4, max_size=4),
    st.lists(anything, max_size=5),
    st.builds(lambda n: [n, 0, 0, 0], st.integers(1, 30)),
    st.builds(lambda n, c, o: [n, c, o, 1], st.integers(10, 80), st.integers(2, 9), small),
)


def oracle(piece, part):
    """A^T D in float64, cut by taking elements one by one."""
    if not piece.columns:
        return part.astype(float)
    k, n = piece.samples, piece.columns
    left, right = part[: k * piece.rows].reshape(k, -1), part[k * piece.rows :].reshape(k, n)
    product = left.T.astype(float) @ right.astype(float)
    return product.ravel()[piece.offset : piece.offset + piece.elements]


def fitting(pieces, seed=0):
    numbers = sum(piece.numbers for piece in pieces)
    return np.random.default_rng(seed).standard_normal(numbers, dtype=np.float32)


def expected(pieces, payload):
    parts, begin = [], 0
    for piece in pieces:
        parts.append(oracle(piece, payload[begin : begin + piece.numbers]))
        begin += piece.numbers
    return np.concatenate(parts)


@pytest.mark.parametrize(
    "pieces",
    [
        [Piece(7)],
        [Piece(12, 4, 0, 1)],  # rows 0 to 2, whole
        [Piece(13, 4, 3, 1)],  # 3, whole rows only after a cut one
        [Piece(15, 5, 0, 1)],
        [Piece(16, 5, 0, 1)],  # a cut row at the end
        [Piece(17, 5, 2, 1)],  # cut rows at both ends
        [Piece(21, 11, 1, 1)],  # both rows cut, none whole
        [Piece(3), Piece(100, 9, 4, 3), Piece(50, 9, 5, 1), Piece(1)],
    ],
)
def test_pieces_become_the_elements_of_the_product(pieces):
    payload = fitting(pieces)
    out = np.full(sum(piece.elements for piece in pieces), np.nan, np.float32)
    unpack([piece.row() for piece in pieces], payload, out)
    np.testing.assert_allclose(out, expected(pieces, payload), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("samples", [1, 3])
def test_any_slice_of_a_product(samples):
    rng = np.random.default_rng(1)
    left = rng.standard_normal((samples, 9), dtype=np.float32)[:, 2:6]
    right = rng.standard_normal((samples, 5), dtype=np.float32)
    whole = (left.T.astype(float) @ right.astype(float)).ravel()
    for begin in range(20):
        for end in range(begin + 1, 21):
            memory = np.full(end - begin + 2, 7, np.float32)
            touched = left[:, begin // 5 : -(-end // 5)]
            multiply(touched, right, begin % 5, memory[1:-1])
            np.testing.assert_allclose(memory[1:-1], whole[begin:end], rtol=1e-5, atol=1e-6)
            assert memory[0] == memory[-1] == 7


def test_rows_and_numbers_written_out():
    assert (Piece(7).rows, Piece(7).numbers) == (0, 7)
    assert (Piece(12, 4, 0, 2).rows, Piece(12, 4, 0, 2).numbers) == (3, 2 * (3 + 4))
    assert (Piece(12, 4, 1, 2).rows, Piece(12, 4, 1, 2).numbers) == (4, 2 * (4 + 4))


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_what_is_not_finite_goes_through_without_a_warning(value):
    payload = fitting([Piece(60, 10, 0, 2)])
    payload[[0, 12]] = value
    out = np.zeros(60, np.float32)
    unpack([[60, 10, 0, 2]], payload, out)
    assert not np.isfinite(out).all()


def test_a_payload_may_be_read_only_and_out_of_line():
    piece = Piece(60, 10, 3, 2)
    payload = fitting([piece])
    frozen = np.frombuffer(b"x" + payload.tobytes(), np.float32, offset=1)
    out = np.zeros(60, np.float32)
    unpack([piece.row()], frozen, out)
    np.testing.assert_allclose(out, oracle(piece, payload), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("pieces", "numbers", "reason"),
    [
        (None, 60, "pieces of type NoneType: expected a list"),
        ({}, 60, "pieces of type dict: expected a list"),
        ([], 0, "pieces of 0 elements in all: expected 60, the shard's"),
        ([[1, 0, 0, 0]] * 300, 60, f"300 pieces: expected at most {MOST_PIECES}"),
        ([60], 60, "piece 0: expected four whole numbers"),
        ([[60, 0, 0]], 60, "piece 0: expected four whole numbers"),
        ([[60, 0, 0, False]], 60, "piece 0: expected four whole numbers"),
        ([[60.0, 0, 0, 0]], 60, "piece 0: expected four whole numbers"),
        (
            [[61, 0, 0, 0], [-1, 0, 0, 0]],
            60,
            "piece 1 is [-1, 0, 0, 0]: expected no number below 0, and an element",
        ),
        (
            [[60, 0, 0, 0], [0, 0, 0, 0]],
            60,
            "piece 1 is [0, 0, 0, 0]: expected no number below 0, and an element",
        ),
        ([[60, 0, 0, 2]], 60, "piece 0 is [60, 0, 0, 2]: expected 0 after 0 columns"),
        (
            [[60, 10, 10, 2]],
            34,
            "piece 0 is [60, 10, 10, 2]: expected offset < columns, and a sample",
        ),
        (
            [[60, 10, 0, 0]],
            0,
            "piece 0 is [60, 10, 0, 0]: expected offset < columns, and a sample",
        ),
        (
            [[60, 10, 0, 4]],
            64,
            "piece 0 has 64 numbers in factors: expected fewer than its 60 elements",
        ),
        (
            [[60, 2**63, 0, 2**63]],
            64,
            f"piece 0 has {2**63 * (2**63 + 1)} numbers in factors: expected fewer than its "
            "60 elements",
        ),
        ([[59, 10, 0, 2]], 32, "pieces of 59 elements in all: expected 60, the shard's"),
        (
            [[60, 10, 0, 2], [60, 10, 0, 2]],
            64,
            "pieces of 120 elements in all: expected 60, the shard's",
        ),
        ([[60, 10, 0, 2]], 31, "a payload of 31 numbers: expected 32, the pieces' in all"),
        ([[60, 10, 0, 2]], 60, "a payload of 60 numbers: expected 32, the pieces' in all"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line_and_nothing_is_written(pieces, numbers, reason):
    out = np.full(60, 7, np.float32)
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        unpack(pieces, np.zeros(numbers, np.float32), out)
    assert (out == 7).all()


@pytest.mark.parametrize(
    "payload", [np.zeros(60), np.zeros((6, 10), np.float32), np.zeros(60, np.int32)]
)
def test_a_payload_of_another_kind_is_refused(payload):
    with pytest.raises(ValueError, match=r"^a payload of .*: expected one float32 axis$"):
        unpack([[60, 0, 0, 0]], payload, np.zeros(60, np.float32))


def fitting_sizes(pieces):
    """Elements and numbers that suit a list of pieces, as far as it makes sense."""
    try:
        found = [Piece(*row) for row in pieces]
        elements, numbers = sum(p.elements for p in found), sum(p.numbers for p in found)
    except (TypeError, ZeroDivisionError):
        return 60, 60
    fits = all(isinstance(n, int) and 0 <= n < 1000 for n in (elements, numbers))
    return (elements, numbers) if fits else (60, 60)


@given(st.lists(rows, max_size=6), st.sampled_from([0, 0, 0, -1, 1]), st.sampled_from([0, 0, 1]))
def test_any_list_is_refused_or_fills_the_shard_and_nothing_else(pieces, longer, more):
    size, numbers = fitting_sizes(pieces)
    size = max(size + longer, 0)
    memory = np.full(size + 20, 7, np.float32)
    out = memory[10 : 10 + size]
    payload, refused = np.ones(numbers + more, np.float32), ""
    try:
        unpack(pieces, payload, out)
    except ValueError as error:
        refused = str(error)
    assert len(refused.splitlines()) == bool(refused)
    if refused:
        assert (memory == 7).all()
    else:
        found = [Piece(*row) for row in pieces]
        assert sum(piece.elements for piece in found) == size
        assert sum(piece.numbers for piece in found) == payload.size
        assert np.array_equal(out, [p.samples or 1 for p in found for _ in range(p.elements)])
    assert (memory[:10] == 7).all()
    assert (memory[10 + size :] == 7).all()


@given(
    st.lists(
        st.one_of(
            st.builds(Piece, st.integers(1, 30)),
            st.integers(2, 12).flatmap(
                lambda columns: st.builds(
                    Piece,
                    st.integers(4 * columns, 90),
                    st.just(columns),
                    st.integers(0, columns - 1),
                    st.integers(1, 2),
                )
            ),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_any_list_of_shorter_factors_is_taken(pieces):
    pieces = [p if not p.columns or p.numbers < p.elements else Piece(p.elements) for p in pieces]
    payload = fitting(pieces)
    out = np.full(sum(piece.elements for piece in pieces), np.nan, np.float32)
    unpack([piece.row() for piece in pieces], payload, out)
    np.testing.assert_allclose(out, expected(pieces, payload), rtol=1e-5, atol=1e-5)


def test_an_empty_shard_has_no_pieces():
    unpack([], np.empty(0, np.float32), np.empty(0, np.float32))
