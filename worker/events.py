"""What the worker's state asks of its process, and what it hears back. Plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..common.cluster import Cluster
from ..common.messages import Attach
from ..common.types import Arrays, Float32, Metrics
from .admm.replicas import Consensus
from .batches import Minibatch
from .boundary.events import Ahead, Back, Forward, Train
from .model import Factors
from .shelf import Slots


@dataclass(frozen=True, slots=True)
class Build:
    """Action: build the model for this data, then post `Built`."""

    cluster: Cluster


@dataclass(frozen=True, slots=True)
class Built:
    """Local event: layout rows (see `Describe`), the parameter vector with its first values, and
    a gradient vector a lane; all flat float32 of one size. Of a cut net they are those of the
    worker's part, whereas `layout` has the rows of all, and `starts` the elements at which the
    parts begin. `segment` is where they lie in memory
    that servers of this host can share, None if in this process alone, and `slots` the memory that
    data servers of this host can write portions to; `factored` are the weights
    whose gradients the model can give as factors. `remote`: these arrays are the host's copies of
    what lies on a device, which must be told of what has changed and asked for what has come out;
    `line` says to people what the worker computes on, where they asked. With `consensus` the worker
    steps on parameters of its own in there, and the vector is z."""

    layout: list[list[Any]]
    vector: Float32
    gradients: list[Float32]
    segment: Attach | None = None
    factored: tuple[str, ...] = ()
    remote: bool = False
    line: str = ""
    slots: Slots | None = None
    starts: tuple[int, ...] = ()
    consensus: Consensus | None = None


@dataclass(frozen=True, slots=True)
class Compute:
    """Action: these minibatches one after the other on one lane, then post `Computed`.

    With `accumulate` the gradient is added to the lane's; with `step` the shared vector is stepped
    locally after each minibatch, at the rate of `progress` (how much of the job is done, 0 to 1).
    With `announce` the lane posts `Partly` while it computes. With `factors` both events bring the
    factors of the weights; `skip` are weights whose gradient nobody needs then.

    Only where the arrays of `Built` are `remote`: `fresh` are the half-open ranges of elements of
    the vector that have changed on the host since the last action, and `bring` asks for what is
    pushed next: the gradient, or the stepped parameters where the worker steps by itself. There may
    be no minibatches then.
    """

    lane: int
    batches: list[Minibatch]
    accumulate: bool = False
    step: bool = False
    progress: float = 0.0
    announce: bool = False
    factors: bool = False
    skip: frozenset[str] = frozenset()
    fresh: tuple[tuple[int, int], ...] = ()
    bring: bool = False


@dataclass(frozen=True, slots=True)
class ComputePart:
    """Action: compute an action of `boundary.events`, at the rate of `progress` (how much of the
    job is done, 0 to 1), then post its event."""

    action: Forward | Train | Ahead | Back
    progress: float


@dataclass(frozen=True, slots=True)
class Partly:
    """Local event: the elements of the lane's gradient from `begin` on will not change any more;
    the `factors` of those weights, where the model has them and they were asked for."""

    lane: int
    begin: int
    factors: Mapping[str, Factors]


@dataclass(frozen=True, slots=True)
class Computed:
    """Local event: the lane's gradient is there; the measures of each minibatch, in order, and the
    factors of the last one's weights, if asked for, valid until the lane computes again."""

    lane: int
    metrics: list[Metrics]
    factors: Mapping[str, Factors] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measure:
    """Action: evaluate a parameter vector on the test split, then post `Measured`."""

    vector: Float32
    portions: list[Arrays]


@dataclass(frozen=True, slots=True)
class Measured:
    """Local event: the evaluation is done."""

    samples: int
    metrics: Metrics
