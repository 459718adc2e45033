"""A shard's gradient in pieces, some of them factors of a product: format and unpacking. Pure.

The gradient of a dense weight (m, n) over a minibatch of k samples is A^T D, of activations A
(k, m) and error vectors D (k, n). A worker may send those, and the server multiplies (T. Chilimbi
et al., "Project Adam", OSDI 2014, section 3.2: there for whole layers). A shard cuts a weight
anywhere, so a piece of one takes the columns of A for the rows that it touches, and all of D.

**On the wire** a shard's push is one float32 vector and a list of pieces, which follow one another
in the shard without gaps. A piece is four whole numbers, and its part of the vector follows the
part of the piece before:

    [elements, 0, 0, 0]                    dense: the elements themselves
    [elements, columns, offset, samples]   factors: A (samples, rows), then D (samples, columns)

of a slice of a row-major matrix with `columns`, that begins at element `offset` of its first row:
rows = ceil((offset + elements) / columns). Factors are refused where they are no shorter than the
elements: this bounds the work that a message can ask for (k is below half the root of the elements
for a slice of whole rows, and each element takes k products).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from .types import Float32

MOST_PIECES = 256
"""A shard in more pieces is refused: so many small products cost more than they save."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive elements of a shard: dense (`columns` 0), or a slice of a matrix as factors."""

    elements: int
    columns: int = 0
    offset: int = 0
    samples: int = 0

    @property
    def rows(self) -> int:
        """The rows that a slice touches, cut ones included; 0 of a dense piece."""
        return -(-(self.offset + self.elements) // self.columns) if self.columns else 0

    @property
    def numbers(self) -> int:
        """The float32 numbers that stand for the piece in the vector that is sent."""
        return self.samples * (self.rows + self.columns) if self.columns else self.elements

    def row(self) -> list[int]:
        """As it travels."""
        return [self.elements, self.columns, self.offset, self.samples]


def unpack(pieces: Sequence[Any], payload: Float32, out: Float32) -> None:
    """Fill the dense gradient of a shard from what a peer has sent.

    Arguments:
        pieces: rows of four whole numbers, of any content: all is checked before `out` is written.
        payload: one-dimensional float32, only read; may lie anywhere, aligned or not.
        out: float32 (elements of the shard,), contiguous, apart from `payload`; written whole.
    Raises:
        ValueError: in one line, what does not fit. `out` is as it was.

    Allocates nothing for an aligned payload, and works without the GIL for the most part. NaN and
    infinity go through to `out`, silently. Any thread may call it.
    """
    assert out.dtype == np.float32
    assert out.ndim == 1
    assert out.flags.c_contiguous
    if payload.dtype != np.float32 or payload.ndim != 1:
        raise ValueError(f"a payload of {payload.dtype} {payload.shape}: expected one float32 axis")
    found = _checked(pieces, out.size, payload.size)
    ends = accumulate(piece.elements for piece in found)
    stops = accumulate(piece.numbers for piece in found)
    with np.errstate(all="ignore"):  # the peer's numbers; whoever applies the gradient checks it
        for piece, end, stop in zip(found, ends, stops, strict=True):
            part, target = payload[stop - piece.numbers : stop], out[end - piece.elements : end]
            if piece.columns:
                cut = piece.samples * piece.rows
                left, right = part[:cut], part[cut:]
                shape = piece.samples, -1
                multiply(left.reshape(shape), right.reshape(shape), piece.offset, target)
            else:
                target[:] = part


def multiply(left: Float32, right: Float32, offset: int, out: Float32) -> None:
    """Fill `out` with consecutive elements of left^T right, from element `offset` of its first row.

    Arguments:
        left: float32 (k, rows), of the rows that `out` touches. right: float32 (k, columns).
        out: float32, flat and contiguous. `offset` < columns.

    One matrix product for the rows that lie whole in `out`; one each for a cut row at its ends.
    Any thread may call it.
    """
    columns = right.shape[1]
    head = min(-offset % columns, out.size)
    whole, tail = divmod(out.size - head, columns)
    first = int(head > 0)
    if head:
        np.matmul(left[:, 0], right[:, offset : offset + head], out=out[:head])
    if whole:
        rows = out[head : head + whole * columns].reshape(whole, columns)
        np.matmul(left[:, first : first + whole].T, right, out=rows)
    if tail:
        np.matmul(left[:, -1], right[:, :tail], out=out[-tail:])


def _checked(rows: Sequence[Any], elements: int, numbers: int) -> list[Piece]:
    """The pieces of a shard of `elements`, for a payload of `numbers`.

    Raises ValueError as `unpack` does.
    """
    if not isinstance(rows, list | tuple):
        raise ValueError(f"pieces of type {type(rows).__name__}: expected a list")
    if len(rows) > MOST_PIECES:
        raise ValueError(f"{len(rows)} pieces: expected at most {MOST_PIECES}")
    pieces = [_piece(number, row) for number, row in enumerate(rows)]
    covered, told = sum(p.elements for p in pieces), sum(p.numbers for p in pieces)
    if covered != elements:
        raise ValueError(f"pieces of {covered} elements in all: expected {elements}, the shard's")
    if told != numbers:
        raise ValueError(f"a payload of {numbers} numbers: expected {told}, the pieces' in all")
    return pieces


def _piece(number: int, row: Any) -> Piece:
    whole = isinstance(row, list | tuple) and all(type(value) is int for value in row)
    if not whole or len(row) != 4:
        raise ValueError(f"piece {number}: expected four whole numbers")
    piece = Piece(*row)
    if piece.elements < 1 or min(row) < 0:
        raise ValueError(f"piece {number} is {row}: expected no number below 0, and an element")
    if not piece.columns:
        if piece.offset or piece.samples:
            raise ValueError(f"piece {number} is {row}: expected 0 after 0 columns")
        return piece
    if piece.offset >= piece.columns or piece.samples < 1:
        raise ValueError(f"piece {number} is {row}: expected offset < columns, and a sample")
    if piece.numbers >= piece.elements:
        raise ValueError(
            f"piece {number} has {piece.numbers} numbers in factors: expected fewer than its "
            f"{piece.elements} elements"
        )
    return piece
