"""The shards that one server holds, and what becomes of the pushes for them. Pure.

Checks a push, asks the shard's clock (`consistency`) whether it counts and when, and has it applied
(`updates`).
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..common.rates import Segments
from ..common.rule_kernels import finite
from ..common.rules import Rule
from ..common.types import Array, Float32
from .consistency import Clock, Crowd, Verdict, Who
from .updates import Held, Part, Update


class BadPush(Exception):
    """A push that must not be applied; `code` as in `Refused`."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class ShardPush:
    """A push of one shard that was made at its `version`. `copy_to` is where its sender wants the
    fresh values; it is filled if the push is applied now."""

    shard: int
    version: int
    part: Part
    copy_to: Float32 | None = None


@dataclass(slots=True)
class Outcome:
    """What became of a push of one shard: applied, kept for its step, or dropped as late, where it
    was `finite`; otherwise nothing. `staleness` is the number of updates since its version, and
    `values` those that its sender is to go on with, if they are not the shard's own."""

    verdict: Verdict
    staleness: int
    finite: bool = True
    values: Float32 | None = None


Pieces = Sequence[Callable[[], Any]]


def in_turn(pieces: Pieces) -> list[Any]:
    """Do pieces of work that have nothing to do with each other; what each returns."""
    return [piece() for piece in pieces]


class ShardStore:
    """Shards by number. Not thread-safe: the server's loop alone touches it.

    Arguments:
        rule: whose state the shards keep.
        update: what a push does.
        clock: makes the clock of a shard for the crowd that pushes.
    """

    def __init__(self, rule: Rule, update: Update, clock: Callable[[Crowd], Clock]) -> None:
        self.shards: dict[int, Held] = {}
        self.crowd = Crowd()
        self.update = update
        self.before_change: Callable[[int], None] = lambda shard: None
        """Called with a shard's number just before its values change (checkpoints copy them)."""
        self.together: Callable[[Pieces], list[Any]] = in_turn
        """Does what is to be done with several shards; a process may use threads for it."""
        self._rule, self._clock = rule, clock

    def start(self, shard: int, values: Float32, segments: Segments) -> None:
        """Take the first values of a shard, float32 (n,), and their memory; later ones are
        ignored."""
        if shard not in self.shards:
            clock = self._clock(self.crowd)
            self.shards[shard] = Held(values, self._rule.state(values.size), segments, clock)

    def check(self, who: Who, push: ShardPush) -> None:
        """Whether a push may be taken, apart from what its elements are.

        Raises:
            BadPush: wrong length, impossible version or count, or a participant that has pushed
                and was not answered yet.
        """
        held, shape = self.shards[push.shard], push.part.gradient.shape
        if shape != held.values.shape:
            raise BadPush(
                "shape",
                f"shard {push.shard} takes float32 {held.values.shape}, the push holds {shape}",
            )
        if not 0 <= push.version <= held.version or push.part.count < 1:
            raise BadPush(
                "version",
                f"shard {push.shard} is at version {held.version}; the push names "
                f"version {push.version} and {push.part.count} minibatches",
            )
        if who in held.clock.waiting:
            raise BadPush("turn", f"lane {who[1]} has an unanswered push of shard {push.shard}")

    def push(self, who: Who, pushes: Sequence[ShardPush]) -> list[Outcome]:
        """Take a push of some shards that was checked. A gradient that waits for its step is kept,
        not copied; one that holds NaN or infinity counts as having come, and changes nothing.

        Returns:
            what became of each, in order.
        """
        outcomes = [self._take(who, push) for push in pushes]
        pieces = [
            partial(self._perform, who, push, outcome)
            for push, outcome in zip(pushes, outcomes, strict=True)
        ]
        self.together(pieces)
        for push, outcome in zip(pushes, outcomes, strict=True):
            held = self.shards[push.shard]
            if outcome.finite and outcome.verdict is Verdict.HOLD:
                held.parts[who] = push.part
            held.version += outcome.finite and outcome.verdict is Verdict.APPLY
        return outcomes

    def _take(self, who: Who, push: ShardPush) -> Outcome:
        held = self.shards[push.shard]
        verdict = held.clock.push(who, push.version, held.version)
        if verdict is Verdict.APPLY:
            self.before_change(push.shard)
        return Outcome(verdict, held.version - push.version)

    def _perform(self, who: Who, push: ShardPush, outcome: Outcome) -> None:
        """The work on one shard's elements: while they are in the cache, one after the other."""
        outcome.finite = finite(push.part.gradient)
        if outcome.finite and outcome.verdict is Verdict.APPLY:
            held = self.shards[push.shard]
            outcome.values = self.update.apply(
                held, who, push.part, outcome.staleness, push.copy_to
            )

    def abstain(self, shard: int, who: Who, version: int) -> None:
        """Count a push that must not be applied, so that others do not wait for it."""
        held = self.shards[shard]
        held.clock.push(who, min(max(version, 0), held.version), held.version)

    def settle(self, shard: int) -> list[Who]:
        """Make the step that is complete, if one is.

        Returns:
            the participants that may go on now.
        """
        held = self.shards[shard]
        if step := held.clock.closes():
            pushed = [who for who in self.crowd.ordered(step) if who in held.parts]
            if pushed:
                self.before_change(shard)
                parts = [held.parts.pop(who) for who in pushed]
                self.update.close(held, parts, self.crowd.resting)
                held.version += 1
        return self.crowd.ordered(held.clock.released())

    def released(self, shard: int, who: Who) -> None:
        """A participant is sent the values as they are now."""
        self.update.released(self.shards[shard], who)

    def again(self, shard: int, gradient: Array) -> Float32 | None:
        """The values for a sender whose push was applied and whose answer was lost, if they are
        not the shard's own."""
        return self.update.again(self.shards[shard], gradient)

    def forget(self, who: Who) -> None:
        """A participant is gone; what it pushed and was not applied is dropped."""
        for held in self.shards.values():
            held.clock.forget(who)
            held.parts.pop(who, None)
            held.seen.pop(who, None)

    def join(self, some: Collection[Who]) -> None:
        """These participants come back from a rest, or late."""
        for held in self.shards.values():
            held.clock.join(some)

    @property
    def bytes_held(self) -> int:
        """Bytes of parameters and optimizer state."""
        return sum(
            held.values.nbytes + sum(slot.nbytes for slot in held.state.slots.values())
            for held in self.shards.values()
        )
