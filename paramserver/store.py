"""The shards that one server holds, and what becomes of the pushes for them. Pure.

Checks a push, asks the shard's clock (`consistency`) whether it counts and when, and has it applied
(`updates`).
"""

from collections.abc import Callable, Collection

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
        self._rule, self._clock = rule, clock

    def start(self, shard: int, values: Float32, segments: Segments) -> None:
        """Take the first values of a shard, float32 (n,), and their memory; later ones are
        ignored."""
        if shard not in self.shards:
            clock = self._clock(self.crowd)
            self.shards[shard] = Held(values, self._rule.state(values.size), segments, clock)

    def check(self, shard: int, who: Who, version: int, count: int, gradient: Float32) -> None:
        """Whether a push may be taken: float32 (n,), the mean of `count` minibatches.

        Raises:
            BadPush: wrong length, impossible version or count, NaN or infinity, or a participant
                that has pushed and was not answered yet.
        """
        held = self.shards[shard]
        if gradient.shape != held.values.shape:
            raise BadPush(
                "shape",
                f"shard {shard} takes float32 {held.values.shape}, the push holds {gradient.shape}",
            )
        if not 0 <= version <= held.version or count < 1:
            raise BadPush(
                "version",
                f"shard {shard} is at version {held.version}; the push names "
                f"version {version} and {count} minibatches",
            )
        if who in held.clock.waiting:
            raise BadPush("turn", f"lane {who[1]} has an unanswered push of shard {shard}")
        if not finite(gradient):
            raise BadPush("nonfinite", f"the push of shard {shard} holds NaN or infinity")

    def push(
        self,
        shard: int,
        who: Who,
        version: int,
        part: Part,
        copy_to: Float32 | None = None,
    ) -> tuple[int, Float32 | None]:
        """Take a push that was checked. A gradient that waits for its step is kept, not copied.

        Arguments:
            copy_to: where the sender wants its fresh values; filled if the push is applied now.
        Returns:
            its staleness, the number of updates since `version`, or -1 if it came too late and
            is dropped; and the values that its sender is to go on with, if they are not the
            shard's own.
        """
        held = self.shards[shard]
        verdict = held.clock.push(who, version, held.version)
        if verdict is Verdict.LATE:
            return -1, None
        if verdict is Verdict.HOLD:
            held.parts[who] = part
            return 0, None
        staleness = held.version - version
        self.before_change(shard)
        values = self.update.apply(held, who, part, staleness, copy_to)
        held.version += 1
        return staleness, values

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
                self.update.close(held, [held.parts.pop(who) for who in pushed])
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
