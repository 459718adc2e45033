"""What the boundary asks of the one who computes a part (`parts.stepper`), and what it hears back.
Plain data. Pure.

One action is computed at a time, in the order in which they are asked for. Arrays that an action or
an event carries are not written again by whoever made it. Equations are those of docs/admm.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ...common.types import Array, Float32, Metrics

NONE: Float32 = np.empty(0, np.float32)
Seeds = tuple[int, int, int]
"""Epoch, where the portion begins in its order, and the minibatch's number (see `BatchStream`)."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What one round is about: inputs (n, ...) of the part, as they came (bytes of images count
    1/255), and how they fall into minibatches of `batch` samples, the last perhaps shorter.

    `seeds` are those of the first minibatch; those of the next ones have the next numbers. `dual`
    is what the part below said of its last dual residual.
    """

    inputs: Array
    batch: int
    seeds: Seeds
    dual: float = 0.0


@dataclass(frozen=True, slots=True)
class Known:
    """What data servers know of the samples of a round: their numbers in the data set (n,) int64,
    and their labels, (n,) int64 or (n, classes) float32, where the part has a head."""

    indices: Array
    labels: Array


# ADMM on activations, and on weights.


@dataclass(frozen=True, slots=True)
class Forward:
    """Action: the part's outputs for these rows, with its parameters as they are, minibatch by
    minibatch, as a training step would see them; then `Forwarded`."""

    round: int
    rows: Rows


@dataclass(frozen=True, slots=True)
class Forwarded:
    """Local event: float32 outputs (n, ...)."""

    round: int
    outputs: Float32


@dataclass(frozen=True, slots=True)
class Train:
    """Action: `admm.passes` passes over the rows of a round, then `Trained`.

    What the part is to reach: `targets` (n, ...) weighed by `rho`, in a lower part; the labels in
    `known`, in the top part. `outputs` are those that were sent up, in a lower part. `known` is
    None in the bottom part of coupling `activations`. In coupling `weights` there are no targets;
    `other` is the neighbours' newest copy of the boundary layers that this part shares, flat, by
    the number of the boundary (boundary b lies between parts b and b + 1), where one has come since
    the last training; of the boundaries in `current` it is of this same round.
    """

    round: int
    rows: Rows
    known: Known | None = None
    outputs: Float32 = field(default_factory=lambda: NONE)
    targets: Float32 = field(default_factory=lambda: NONE)
    rho: float = 0.0
    other: Mapping[int, Float32] = field(default_factory=dict)
    current: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Trained:
    """Local event: the passes are done, `steps` steps of the optimizer.

    `targets` (n, ...) are for the part below and `rho` is their weight, in all parts but the
    bottom. `copies` are this part's copies of boundary layers, by boundary, in coupling `weights`.
    `metrics` are means over the samples, or over one minibatch of them at the inputs that came,
    only where the part has a head: `loss` and `accuracy`.
    `primal` is the root mean square of x - y over the round, and `dual` ρ times that of how far the
    part's outputs have moved (0 where there is none); `gap` is the fraction of the way to its
    targets that the part has come.
    """

    round: int
    steps: int
    targets: Float32 = field(default_factory=lambda: NONE)
    rho: float = 0.0
    copies: Mapping[int, Float32] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=dict)
    primal: float = 0.0
    dual: float = 0.0
    gap: float = 0.0


# Exact backprop through all parts. A round is a piece of a minibatch.


@dataclass(frozen=True, slots=True)
class Ahead:
    """Action: outputs of one piece, and keep in `slot` what going back needs; then `Forwarded`."""

    round: int
    slot: int
    rows: Rows


@dataclass(frozen=True, slots=True)
class Back:
    """Action: gradients of one piece, added up over the pieces of a minibatch; then `Backed`.

    A lower part is given d(mean loss of the minibatch)/d(outputs) of the piece in `slot`. The top
    part is given `rows` and `known` instead, goes forward and back, and takes the mean over the
    `total` samples of the whole minibatch. With `first` the sum begins anew; with `last` the
    optimizer makes its step.
    """

    round: int
    slot: int
    first: bool
    last: bool
    gradient: Float32 = field(default_factory=lambda: NONE)
    rows: Rows | None = None
    known: Known | None = None
    total: int = 0


@dataclass(frozen=True, slots=True)
class Backed:
    """Local event: d(mean loss of the minibatch)/d(inputs) of the piece, empty in the bottom part;
    `metrics` are means over the piece, in the top part."""

    round: int
    gradient: Float32
    metrics: Metrics
    steps: int
