"""What a push does to a shard, by mode: gradients applied at once, steps made together, elastic
averaging. Pure; who may push when is the business of `consistency`.

Each takes a shard as the store holds it and changes its values, its rule's state, and the number of
minibatches in it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..common.rates import Segments, averaged_in
from ..common.rule_kernels import compensate
from ..common.rules import Rule, RuleState
from ..common.types import Array, Float32
from .consensus import elastic, weighted_mean
from .consistency import Clock, Who

Schedule = Callable[[float], float]
"""The factor on the rate, by how much of the job is done (0 to 1)."""


@dataclass(slots=True)
class Part:
    """One push of a shard: float32 (n,), the mean of `count` minibatches. With `ours` its memory is
    the server's from now on."""

    gradient: Float32
    count: int
    ours: bool = False


@dataclass(slots=True)
class Seen:
    """What a participant was last sent in answer to a push: the values, and their version."""

    version: int
    values: Float32


@dataclass(slots=True)
class Held:
    """One shard: float32 (n,) values after `version` updates made of `minibatches` minibatches,
    what the rule remembers, and its clock.

    `parts` wait for their step. Values that are `lent` may be on their way to somebody, and are
    never written again: the next update puts others in their place. `seen` is kept for delay
    compensation alone.
    """

    values: Float32
    state: RuleState
    segments: Segments
    clock: Clock
    version: int = 0
    minibatches: int = 0
    parts: dict[Who, Part] = field(default_factory=dict)
    lent: bool = False
    seen: dict[Who, Seen] = field(default_factory=dict)

    def own(self) -> Float32:
        """The values, to be written in place."""
        if self.lent:
            self.values, self.lent = self.values.copy(), False
        return self.values


class Update:
    """How pushes change shards. One instance serves all shards of a server; different shards may be
    changed at the same time."""

    def __init__(self) -> None:
        self.planned = 1
        """Minibatches that the whole job will make: the length of the schedule."""

    def apply(
        self, held: Held, who: Who, part: Part, staleness: int, copy_to: Float32 | None = None
    ) -> Float32 | None:
        """Apply a push at once.

        Arguments:
            copy_to: gets the values that its sender is to go on with, in the same pass.
        Returns:
            those values, where they are not the shard's own.
        """
        raise AssertionError("this mode closes steps")

    def close(self, held: Held, parts: Sequence[Part], resting: int = 0) -> None:
        """A step that closes: these pushes, in this order, while so many others rest."""
        raise AssertionError("this mode applies pushes at once")

    def again(self, held: Held, gradient: Array) -> Float32 | None:
        """The values for a sender whose push was applied before, if not the shard's own."""
        return None

    def released(self, held: Held, who: Who) -> None:
        """A participant is sent the values as they are now."""
        return

    def _progress(self, held: Held) -> float:
        return held.minibatches / self.planned


class AtOnce(Update):
    """Each push moves the parameters by count · (1 + s)^-κ times the rule's step.

    A push of n accumulated minibatches moves them as far as n pushes would (for sgd exactly: rate
    times the sum). `per_minibatch` off: one step however many minibatches are in it, for the
    pseudo-gradients of `local`. With λ > 0 the gradient is compensated for its delay first
    (DC-ASGD, Zheng et al. 2017, equation 10), where the values are known that it was computed on:
    those of a pull, or of an answer that was sent twice, are not kept.

    Averaged state moves by 1 / (1 + s) of what was pushed, whatever κ is: of s + 1 pushes that were
    made from about the same values each counts for its part of their mean. A push is
    a (p_then - batch) with 0 < a <= 1, and p_now -= c a (p_then - batch), where p_then is s updates
    old, is stable if and only if c a < 2 sin(π / (4 s + 2)) (Levin and May 1976, "A note on
    difference-delay equations"). c = 1 / (1 + s) stays below 0.64 of that for every s and a; with
    a = 1, κ = 1/2 passes it from s = 3 on, and κ = 0 from s = 1.

    A sender that steps by itself makes up to `chained` steps, one after the other, before it takes
    fresh values. A push is their mean, and so many times it is how far they led; others took all
    minibatches of a push at the same values, and their mean is what counts.
    """

    def __init__(
        self,
        rule: Rule,
        schedule: Schedule,
        kappa: float = 0.0,
        *,
        per_minibatch: bool = True,
        compensation: float = 0.0,
        chained: int = 1,
    ) -> None:
        super().__init__()
        self._rule, self._schedule, self._kappa = rule, schedule, kappa
        self._per_minibatch, self._chained = per_minibatch, chained
        self._compensation = compensation

    def apply(
        self, held: Held, who: Who, part: Part, staleness: int, copy_to: Float32 | None = None
    ) -> Float32 | None:
        gradient = part.gradient
        scale = self._schedule(self._progress(held)) * (part.count if self._per_minibatch else 1)
        if self._kappa:
            scale *= (1.0 + staleness) ** -self._kappa
        seen = held.seen.get(who)
        if seen and staleness and seen.version == held.version - staleness:
            room = np.empty_like(gradient)
            compensate(gradient, held.values, seen.values, self._compensation, room)
            for span in averaged_in(held.segments):
                room[span] = gradient[span]
            part = Part(gradient := room, part.count)
        averaged = min(part.count, self._chained) / (1.0 + staleness)
        if part.ours:
            args = (held.values, gradient, held.state, scale, held.segments)
            self._rule.apply(*args, absorb=True, averaged=averaged)
            held.values, held.lent = gradient, True
        else:
            args = (held.own(), gradient, held.state, scale, held.segments)
            self._rule.apply(*args, copy_to, averaged=averaged)
        held.minibatches += part.count
        return None

    def released(self, held: Held, who: Who) -> None:
        if self._compensation:
            seen = held.seen.setdefault(who, Seen(0, np.empty_like(held.values)))
            seen.version = held.version
            np.copyto(seen.values, held.values)


class Together(Update):
    """Each step moves the parameters by one step of the rule along the mean of its pushes, each
    weighed by the minibatches in it; averaged state by that mean itself.

    `evenly`: each push weighs the same. In consensus by ADMM (Boyd et al. 2011, section 7.1) z is
    the mean of w + u over workers, however far each has come with its minimisation: else the
    multipliers would not add up to zero. Whoever rests counts as if its w + u were z: the mean of
    the last few at the end of a leg, whose multipliers do not add up to zero without the others',
    would not be near anybody's parameters.
    """

    def __init__(self, rule: Rule, schedule: Schedule, *, evenly: bool = False) -> None:
        super().__init__()
        self._rule, self._schedule, self._evenly = rule, schedule, evenly

    def close(self, held: Held, parts: Sequence[Part], resting: int = 0) -> None:
        counts = [part.count for part in parts]
        room = np.empty_like(held.values)
        weights = [1] * len(parts) if self._evenly else counts
        mean = weighted_mean([part.gradient for part in parts], weights, room)
        scale = self._schedule(self._progress(held))
        if self._evenly:
            scale *= len(parts) / (len(parts) + resting)
        self._rule.apply(held.own(), mean, held.state, scale, held.segments)
        held.minibatches += sum(counts)


class Elastic(Update):
    """EASGD: the centre moves towards the worker's parameters, and they towards it, by α."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self._alpha = alpha

    def apply(
        self, held: Held, who: Who, part: Part, staleness: int, copy_to: Float32 | None = None
    ) -> Float32 | None:
        held.minibatches += part.count
        return elastic(held.own(), part.gradient, self._alpha, copy_to)

    def again(self, held: Held, gradient: Array) -> Float32 | None:
        if gradient.shape != held.values.shape or gradient.dtype != np.float32:
            return None
        return elastic(held.values.copy(), gradient, self._alpha)
