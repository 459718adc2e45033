"""The shards that one server holds: values, versions, and the state of their update rule. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..common.rule_kernels import finite
from ..common.rules import Rule, RuleState, Spans
from ..common.schedules import factor
from ..common.types import Float32


class BadPush(Exception):
    """A push that must not be applied; `code` as in `Refused`."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        super().__init__(detail)


@dataclass(slots=True)
class Held:
    """One shard: float32 (n,) values after `version` pushes of `minibatches` minibatches, and what
    the rule remembers."""

    values: Float32
    version: int
    minibatches: int
    state: RuleState
    decayed: Spans


class ShardStore:
    """Shards by number. Not thread-safe: the server's loop alone touches it.

    Arguments:
        rule: applied to each push.
        kappa: κ; the step of a push with staleness s is scaled by (1 + s)^-κ, 0 turns that off.
        schedule: how the rate changes, see `common.schedules`.
        planned: minibatches that the whole job will make: the length of the schedule.
    """

    def __init__(
        self, rule: Rule, kappa: float, schedule: str = "constant", planned: int = 1
    ) -> None:
        self.shards: dict[int, Held] = {}
        self.planned = planned
        self.before_change: Callable[[int], None] = lambda shard: None
        """Called with a shard's number just before its values change (checkpoints copy them)."""
        self._rule, self._kappa, self._schedule = rule, kappa, schedule

    def start(self, shard: int, values: Float32, decayed: Spans) -> None:
        """Take the first values of a shard; later ones are ignored. The values are copied."""
        if shard not in self.shards:
            kept = np.array(values, np.float32)
            self.shards[shard] = Held(kept, 0, 0, self._rule.state(kept.size), decayed)

    def push(self, shard: int, version: int, count: int, gradient: Float32) -> int:
        """Apply a gradient, float32 (n,), the mean of `count` minibatches.

        The step is count · (1 + s)^-κ times the rule's, where the staleness s is the number of
        updates applied since the sender's pull at `version`: a push of n accumulated minibatches
        moves the parameters as far as n pushes (for sgd exactly: rate times the sum).

        Returns:
            the staleness.
        Raises:
            BadPush: wrong length, impossible version or count, NaN or infinity.
        """
        held = self.shards[shard]
        if gradient.shape != held.values.shape:
            raise BadPush(
                "shape",
                f"shard {shard} takes float32 {held.values.shape}, the push holds {gradient.shape}",
            )
        staleness = held.version - version
        if staleness < 0 or version < 0 or count < 1:
            raise BadPush(
                "version",
                f"shard {shard} is at version {held.version}; the push names "
                f"version {version} and {count} minibatches",
            )
        if not finite(gradient):
            raise BadPush("nonfinite", f"the push of shard {shard} holds NaN or infinity")
        scale = count * factor(self._schedule, held.minibatches / self.planned)
        if self._kappa:
            scale *= (1.0 + staleness) ** -self._kappa
        self.before_change(shard)
        self._rule.apply(held.values, gradient, held.state, scale, held.decayed)
        held.version += 1
        held.minibatches += count
        return staleness

    @property
    def bytes_held(self) -> int:
        """Bytes of parameters and optimizer state."""
        return sum(
            held.values.nbytes + sum(slot.nbytes for slot in held.state.slots.values())
            for held in self.shards.values()
        )
