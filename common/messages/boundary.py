"""Between the parts of a cut net: a worker and the one that holds the next part. Pure.

A lower part counts its rounds: what it sends up for one macro-batch (or a micro-batch, in coupling
`backprop`) is a round, and what comes down names it. Counts begin anew with each life of a worker,
and nobody answers for a neighbour that is gone.

Values of shape (n, ...) travel flat, as `encoding` says: `values` and `extra` are the payload of
`codecs`, `shape` is that of the float32 array.
"""

from dataclasses import dataclass, field

from ..types import Array
from .envelope import Message


@dataclass(frozen=True, slots=True)
class Activations(Message):
    """Request, a part to the one above: its outputs for some samples; answered by `Ack` when they
    have arrived.

    They are rows [`first`, `first` + n) of the portion that begins at position `begin` of the order
    of `epoch`; `minibatch` is the number of the first minibatch in the portion, `batch` how many
    samples make one. In coupling `backprop` a minibatch travels as pieces, and `piece` of `pieces`
    is this one. `dual` is the sender's last dual residual, `leg` the stretch of training.
    """

    round: int
    leg: int
    epoch: int
    begin: int
    first: int
    minibatch: int
    batch: int
    piece: int
    pieces: int
    dual: float
    encoding: str
    shape: list[int]
    values: Array
    extra: Array


@dataclass(frozen=True, slots=True)
class Targets(Message):
    """Request, a part to the one below: what its outputs of a round should be (T of ADMM.md, A.3);
    answered by `Ack`.

    `rho` weighs the distance. `measures` are sums over the samples that the parts above took, to be
    told the data servers with the portion (see `Done`).
    """

    round: int
    rho: float
    encoding: str
    shape: list[int]
    values: Array
    extra: Array
    measures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gradients(Message):
    """Request, a part to the one below: d(mean loss of the minibatch)/d(its outputs) of a round of
    coupling `backprop`; answered by `Ack`. `measures` as in `Targets`."""

    round: int
    encoding: str
    shape: list[int]
    values: Array
    extra: Array
    measures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Copies(Message):
    """Request between two parts of coupling `weights`, either way: the sender's copy of the
    boundary layer's parameters after its round, flat float32; answered by `Ack`. Downward it is the
    answer to the `round` of the other side, with `measures` as in `Targets`."""

    round: int
    rho: float
    values: Array
    measures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settle(Message):
    """Request, a part to the one above: there is nothing under way between us; push what you have
    gathered. Answered by `Settled` when the servers have it, all the way up."""


@dataclass(frozen=True, slots=True)
class Settled(Message):
    """The servers have all that the parts above have learnt; `measures` as in `Targets`."""

    measures: dict[str, float]
