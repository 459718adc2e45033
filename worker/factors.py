"""What of a shard goes to its server as factors, and the packing of it. Pure.

The format, and what factors are, is told in `common/factors`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from ..common.factors import MOST_PIECES, Piece, multiply
from ..common.sharding import Shards
from ..common.types import Array, Float32
from .model import Factors

WORTH = 0.75
"""Factors longer than this part of the elements save little, and the server multiplies for it."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a shard, and where its numbers come from.

    Without a `weight` they are copied from the flat gradient, at `begin`. With one they come from
    its factors, as from its row `first_row` on, element `offset`; also those of a slice that is too
    small to travel as factors, so that no one needs the gradient of that weight written.
    """

    piece: Piece
    begin: int
    weight: str = ""
    first_row: int = 0
    offset: int = 0

    def dense(self) -> "Part":
        """The same elements, sent as they are."""
        return replace(self, piece=Piece(self.piece.elements))


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """One shard in consecutive parts. Never changes; any thread may use it."""

    parts: tuple[Part, ...]

    @property
    def numbers(self) -> int:
        """The float32 numbers to send; at most the elements of the shard."""
        return sum(part.piece.numbers for part in self.parts)

    @property
    def pieces(self) -> list[list[int]]:
        """The pieces as they travel; neighbours that are dense become one."""
        rows: list[list[int]] = []
        for part in self.parts:
            if rows and not rows[-1][1] and not part.piece.columns:
                rows[-1][0] += part.piece.elements
            else:
                rows.append(part.piece.row())
        return rows


def plan(
    layout: Sequence[Sequence[Any]],
    shards: Shards,
    samples: int,
    names: Collection[str],
    worth: float = WORTH,
) -> list[ShardPlan | None]:
    """How each shard of a gradient over `samples` goes; None: as it is, all of it dense.

    Arguments:
        layout: rows of all parameters, as in `Describe`, in the order of the vector.
        names: the weights that have factors (`Model.factors`); each has two dimensions.
        worth: a slice of a weight goes as factors if they are at most this part of its elements;
            always if 1, as long as they are fewer at all.

    Takes milliseconds for a large net: keep the plans for each number of samples.
    """
    spans, begin = [], 0
    for name, _, _, *shape in layout:
        columns = shape[1] if name in names else 0
        spans.append((begin, begin + prod(shape), columns, name))
        begin += prod(shape)
    assert begin == shards.size
    cut = [_parts(spans, *shards.span(shard), samples, worth) for shard in range(shards.count)]
    chosen = {part.weight for parts in cut for part in parts if part.piece.columns}
    return [_plan(parts, chosen) for parts in cut]


def factored(plans: Iterable[ShardPlan | None]) -> frozenset[str]:
    """The weights whose gradient `pack` does not read: `Model.skip_products` may leave them out."""
    shards = [shard.parts for shard in plans if shard]
    return frozenset(part.weight for parts in shards for part in parts if part.weight)


def pack(
    shard: ShardPlan, gradient: Float32, factors: Mapping[str, Factors], out: Float32
) -> Float32:
    """Write what `shard.pieces` announce, and return that part of `out`.

    Arguments:
        gradient: the flat gradient, whole; only parts without a weight are read.
        factors: of the same minibatch, which has as many samples as the plan is made for.
        out: float32, at least `shard.numbers`; lent to the transport with the returned view.

    Any thread may call it. Allocates nothing.
    """
    begin = 0
    for part in shard.parts:
        target = out[begin : begin + part.piece.numbers]
        begin += part.piece.numbers
        if part.weight:
            _pack(part, *factors[part.weight], target)
        else:
            target[:] = gradient[part.begin : part.begin + part.piece.elements]
    return out[:begin]


def _pack(part: Part, activations: Array, deltas: Array, out: Float32) -> None:
    piece, columns = part.piece, deltas.shape[1]
    rows = -(-(part.offset + piece.elements) // columns)
    left = activations[:, part.first_row : part.first_row + rows]
    if not piece.columns:
        multiply(left, deltas, part.offset, out)
        return
    assert len(activations) == len(deltas) == piece.samples, "the plan is for other batches"
    cut = piece.samples * piece.rows
    np.copyto(out[:cut].reshape(piece.samples, piece.rows), left)
    np.copyto(out[cut:].reshape(piece.samples, columns), deltas)


def _parts(
    spans: Sequence[tuple[int, int, int, str]], begin: int, end: int, samples: int, worth: float
) -> list[Part]:
    """The parts of a shard [begin, end): a weight as factors where that is worth it."""
    parts = []
    for first, last, columns, name in spans:
        lower, upper = max(first, begin), min(last, end)
        if lower < upper and columns:
            row, offset = divmod(lower - first, columns)
            piece = Piece(upper - lower, columns, offset, samples)
            part = Part(piece, lower, name, row, offset)
            fewer = piece.numbers < piece.elements
            short = fewer and piece.numbers <= worth * piece.elements
            parts.append(part if short else part.dense())
        elif lower < upper:
            parts.append(Part(Piece(upper - lower), lower))
    return parts if len(parts) <= MOST_PIECES else [part.dense() for part in parts]


def _plan(parts: Sequence[Part], chosen: Collection[str]) -> ShardPlan | None:
    """A weight that goes as factors somewhere is multiplied for the rest; others are copied."""
    if not any(part.weight in chosen for part in parts):
        return None
    return ShardPlan(tuple(p if p.weight in chosen else Part(p.piece, p.begin) for p in parts))
