"""One shard's clock and its crowd, driven as `ShardStore` and the server's state drive them.

The driver keeps books of its own (who computes, who waits, whose push is where, clocks) and holds
the clock to them after every event. `events` lists all that may happen next, for enumeration.
"""

from collections.abc import Callable, Collection, Iterator
from math import ceil
from typing import Any

from dualshard.paramserver.consistency import (
    Barrier,
    Bounded,
    Clock,
    Crowd,
    Free,
    Verdict,
    Who,
)

Event = tuple[str, Who]
COMPUTES, WAITS, RESTS, LATE, ABSENT = "computes", "waits", "rests", "late", "absent"
NOBODY: Who = (0, 0)


class Driven:
    """Participants (1, 0), (2, 0), ... of whom the first `present` take part from the start."""

    def __init__(self, make: Callable[[Crowd], Clock], count: int, present: int) -> None:
        self.crowd = Crowd()
        self.clock = make(self.crowd)
        self.everyone = [(number, 0) for number in range(1, count + 1)]
        self.status = dict.fromkeys(self.everyone, ABSENT)
        self.seen = dict.fromkeys(self.everyone, 0)
        """The shard's version that each computes on."""
        self.ticks = dict.fromkeys(self.everyone, 0)
        """Pushes of this leg; who comes back stands where the slowest was."""
        self.version = 0
        self.parts: set[Who] = set()
        self.late: set[Who] = set()
        """Those that have come too late since the last step closed."""
        self.pushed = self.applied = self.dropped = self.lost = 0
        self.warm = False
        self._show(self.everyone[:present], training=False)
        self.crowd.turn(0)

    # What may happen.

    def events(self) -> Iterator[Event]:
        """Everything that may happen next."""
        yield "turn", NOBODY
        for who, status in self.status.items():
            if status == COMPUTES:
                yield from (("push", who), ("rest", who), ("push ahead", who))
            if status == RESTS:
                yield "wake", who
            if status == LATE:
                yield "push", who
            if status == ABSENT:
                yield from (("join", who), ("enter", who))
            elif len(self.present) > 1:
                yield "leave", who

    def happen(self, event: Event) -> None:
        """Let it happen, and check everything."""
        name, who = event
        getattr(self, "_" + name.replace(" ", "_"))(who)
        self.check()

    def _turn(self, _: Who) -> None:
        """The view tells of the next leg."""
        assert self.crowd.turn(self.crowd.leg + 1)
        self._turned()
        self._settle()

    def _turned(self) -> None:
        self.ticks = dict.fromkeys(self.everyone, 0)
        for who, status in self.status.items():
            if status in (RESTS, LATE):
                self._pull(who)

    def _push(self, who: Who) -> None:
        if self.crowd.wake(who):
            self._join_clock([who])
        self._take(who)
        self._settle()

    def _push_ahead(self, who: Who) -> None:
        """A push of the next leg, of which the server has not heard yet."""
        assert self.crowd.turn(self.crowd.leg + 1)
        self._turned()
        self._push(who)

    def _take(self, who: Who) -> None:
        self.pushed += 1
        self.ticks[who] += 1
        self.status[who] = WAITS
        verdict = self.clock.push(who, self.seen[who], self.version)
        late = isinstance(self.clock, Barrier) and self.seen[who] < self.version
        if late:
            assert verdict is Verdict.LATE
            self.late.add(who)
            self.dropped += 1
        elif isinstance(self.clock, Barrier):
            assert verdict is Verdict.HOLD
            self.parts.add(who)
        else:
            assert verdict is Verdict.APPLY
            self.applied += 1
            self.version += 1

    def _rest(self, who: Who) -> None:
        self.status[who] = RESTS
        self.crowd.rest(who, self.crowd.leg)
        self._settle()

    def _wake(self, who: Who) -> None:
        """A pull says that it takes part again."""
        assert self.crowd.wake(who)
        self._join_clock([who])
        self._pull(who)

    def _join(self, who: Who) -> None:
        """It is new, in the middle of a leg."""
        self._show([*self.present, who], training=True)
        self.status[who] = LATE
        self._settle()

    def _enter(self, who: Who) -> None:
        """The warm start is over: whoever was kept out until now takes part at once."""
        self._show([*self.present, who], training=False)
        self._join_clock([who])
        self._settle()

    def _leave(self, who: Who) -> None:
        self.status[who] = ABSENT
        self.lost += len(self.parts & {who})
        self.parts.discard(who)
        self.late.discard(who)
        self._show([one for one in self.present if one != who], training=True)
        self._settle()

    def _show(self, present: list[Who], *, training: bool) -> None:
        fresh = set(present) - set(self.present)
        for who in self.crowd.see(present, training=training):
            self.clock.forget(who)
        for who in fresh:
            self._pull(who)

    def _join_clock(self, whom: Collection[Who]) -> None:
        others = [self.ticks[one] for one in self.active - set(whom)]
        for who in whom:
            self.ticks[who] = min(others, default=0)
        self.clock.join(whom)

    def _pull(self, who: Who) -> None:
        self.status[who] = COMPUTES
        self.seen[who] = self.version

    def _settle(self) -> None:
        needed = self.needed
        if step := self.clock.closes():
            assert step == self.parts, "a step is made of all that was pushed for it"
            assert len(step) >= needed or self.active <= step | self.late
            assert all(self.seen[who] == self.version for who in step)
            self.applied += len(step)
            self.parts.clear()
            self.late.clear()
            self.version += 1
        for who in self.clock.released():
            assert self.status[who] == WAITS, f"{who} was released and did not wait"
            self._pull(who)

    # What must hold.

    @property
    def present(self) -> list[Who]:
        return [who for who, status in self.status.items() if status != ABSENT]

    @property
    def active(self) -> set[Who]:
        return {who for who in self.everyone if self.status[who] in (COMPUTES, WAITS)}

    @property
    def waiting(self) -> set[Who]:
        return {who for who in self.everyone if self.status[who] == WAITS}

    @property
    def needed(self) -> int:
        quorum = self.clock.quorum if isinstance(self.clock, Barrier) else 1.0
        return ceil(quorum * len(self.active))

    def check(self) -> None:
        """After every event."""
        assert self.crowd.active == self.active, "rests or takes part"
        assert self.clock.waiting == self.waiting
        assert self.pushed == self.applied + self.dropped + self.lost + len(self.parts)
        if self.active:
            assert self.active - self.waiting, "all wait, for nobody"
        if isinstance(self.clock, Free):
            assert not self.waiting
        elif isinstance(self.clock, Bounded):
            slowest = min((self.ticks[who] for who in self.active), default=0)
            ahead = {who for who in self.active if self.ticks[who] - slowest > self.clock.staleness}
            assert ahead == self.waiting, "exactly those that are too far ahead wait"
        else:
            assert self.waiting == self.parts
            assert not self.parts or len(self.parts) < self.needed
            assert not self.parts or not self.active <= self.parts | self.late

    def key(self) -> Any:
        """Equal for states from which the same can happen."""
        slowest = min(self.ticks.values())
        return (
            tuple(self.status.values()),
            tuple(self.seen[who] == self.version for who in self.everyone),
            tuple(self.ticks[who] - slowest for who in self.everyone),
            frozenset(self.parts),
            frozenset(self.late),
            tuple(who for who in self.everyone if who in self.crowd),
        )
