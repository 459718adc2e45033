"""What lanes need to step by themselves: the rule of `[optimizer]`, and private copies. No models.

In modes `local` and `easgd` all lanes of a worker step on one shared vector without locks (Niu et
al., NIPS 2011, "Hogwild"). Where steps are small, two threads that write the same vector wait for
each other's cache lines. With a private copy a lane steps in its own memory, and adds how far it
has come to the shared vector every few steps, as the workers of Downpour SGD do with their server.

Each lane calls from one thread at a time; different lanes may call at the same time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..common import modes
from ..common.job import Job
from ..common.rates import Segment, Segments
from ..common.rules import Rule, RuleState
from ..common.schedules import Schedule
from ..common.types import Float32
from . import merging
from .batches import Minibatch
from .layout import Layout, Parameters
from .model import Pace


class LocalRule:
    """The rule of `[optimizer]` with its schedule, and a state for each lane.

    Arguments:
        segments: of the whole vector; not empty.
    """

    def __init__(
        self, job: Job, rule: Rule, schedule: Schedule, layout: Layout, segments: Segments
    ) -> None:
        self._rule, self._schedule = rule, schedule
        self._segments, self._size = segments, layout.size
        self._states: list[RuleState | None] = [None] * modes.lanes(job)
        optimizer = job.optimizer
        self._plain = optimizer.rule == "sgd" and not (optimizer.clip or optimizer.clip_value)
        self._segment_of = {
            name: next(segment for segment in segments if segment.begin <= begin < segment.end)
            for name, (begin, _) in layout.spans().items()
        }

    def apply(self, lane: int, vector: Float32, gradient: Float32, progress: float) -> None:
        """Step `vector`, with the lane's state, at the rate of `progress` (0 to 1)."""
        state = self._states[lane]
        if state is None:
            state = self._states[lane] = self._rule.state(self._size)
        scale = self._schedule.factor(progress)
        self._rule.apply(vector, gradient, state, scale, self._segments)

    def paces(self, progress: float) -> Mapping[str, Pace]:
        """The same for `Model.descend`, by parameter; empty where it is more than plain SGD."""
        if not self._plain:
            return {}
        rate = self._schedule.factor(progress) * self._rule.lr
        return {name: self._pace(segment, rate) for name, segment in self._segment_of.items()}

    def _pace(self, segment: Segment, rate: float) -> Pace:
        if segment.averaged:
            return Pace(1.0)
        rate *= segment.rate
        return Pace(rate, rate * self._rule.weight_decay if segment.decays else 0.0)

    def forget(self) -> None:
        """Begin anew, as if no lane had ever stepped."""
        self._states = [None] * len(self._states)


@dataclass(frozen=True)
class _Copy:
    """A lane's own vector, and what it was when it was last equal to the shared one."""

    private: Parameters
    base: Float32


class Copies:
    """Where each lane steps: on the shared vector, or on a private copy of it.

    Arguments:
        every: steps between two merges; 1: all lanes step on the shared vector itself.
    """

    def __init__(self, layout: Layout, shared: Parameters, lanes: int, every: int) -> None:
        self._layout, self._shared, self._every = layout, shared, every
        self._copies: list[_Copy | None] = [None] * lanes

    def parts(
        self, lane: int, batches: Sequence[Minibatch]
    ) -> Iterator[tuple[Parameters, Sequence[Minibatch]]]:
        """Minibatches, and the parameters to step for them, part by part.

        All steps of a part must be made before the next one is asked for. A private copy begins
        as the shared vector; all that it has gained is in there when the last part is done.
        """
        if self._every == 1:
            yield self._shared, batches
            return
        copy = self._copies[lane]
        if copy is None:
            private, base = np.zeros((2, self._layout.size), np.float32)
            copy = self._copies[lane] = _Copy(self._layout.views(private), base)
        vectors = self._shared.flat, copy.private.flat, copy.base
        merging.begin(*vectors)
        for begin in range(0, len(batches), self._every):
            if begin:
                merging.merge(*vectors)
            yield copy.private, batches[begin : begin + self._every]
        merging.end(*vectors)
