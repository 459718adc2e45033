"""Who may go on, and when an update is made: the clocks of asynchronous, stale synchronous and
synchronous training. Pure: clocks only, no parameters, no messages.

A *participant* is one lane of one worker that pushes by itself. `Crowd` knows who takes part at
this moment; each shard has a `Clock` of its own, so that shards need not agree on anything: a
participant goes on when each of its shards has let it.

- `Free`: asynchronous (Downpour). Every push is applied, everyone goes on at once.
- `Bounded`: stale synchronous parallel (Ho et al. 2013, "More effective distributed ML via a stale
  synchronous parallel parameter server", section 3). Every push is applied; a participant whose
  clock is more than `staleness` ahead of the slowest one's waits. Clocks count the pushes of this
  leg, because work is dealt out afresh in each.
- `Barrier`: bulk synchronous, with backup workers (Chen et al. 2016, "Revisiting distributed
  synchronous SGD", section 3). A step closes when a quorum of the participants has pushed; what
  comes later for it is dropped. Shards close with different pushes, and so everyone may come to
  wait at another shard, each with too few: a step also closes when all have come to it, in time or
  late. Then whoever began its push first waits for nobody: no cycle is left.

Nobody waits for a participant that rests (it has no data left in this leg) or has gone.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from enum import Enum
from math import ceil

Who = tuple[int, int]
"""A participant: its worker's incarnation, and the number of its lane."""


EARLY_LIMIT = 4096
"""Participants remembered that have said something and are in no view; then the oldest goes."""


class Verdict(Enum):
    """What becomes of a push."""

    APPLY = "apply now"
    HOLD = "keep until the step closes"
    LATE = "drop: its step has closed"


class Crowd:
    """Who takes part on this server. Everyone rests until told otherwise: one who joins late
    takes part from its first push, or from the next leg on."""

    def __init__(self) -> None:
        self.leg = -1
        self._present: dict[Who, int] = {}  # the last leg in which it rests
        self._early: dict[Who, int] = {}  # the same, of some that no view has named yet

    def see(self, present: Sequence[Who], *, training: bool) -> set[Who]:
        """The participants of the newest view, in the order in which their gradients are summed;
        before training begins nobody of them rests.

        Returns:
            those that are gone.
        """
        gone = self._present.keys() - set(present)
        resting = self.leg if training else -1
        rests = {**self._early, **self._present}
        self._present = {who: rests.get(who, resting) for who in present}
        self._early = {who: leg for who, leg in self._early.items() if who not in present}
        return set(gone)

    def turn(self, leg: int) -> bool:
        """A later leg has begun: nobody rests any more. False if it is none."""
        if leg <= self.leg:
            return False
        self.leg = leg
        return True

    def rest(self, who: Who, leg: int) -> None:
        """It has nothing left to do in `leg`. Its word may be faster than the view that names
        it: that is kept, lest all wait for one who has said that it will not come."""
        table = self._present if who in self._present else self._early
        table[who] = max(table.get(who, -1), leg)
        if len(self._early) > EARLY_LIMIT:
            del self._early[next(iter(self._early))]

    def wake(self, who: Who) -> bool:
        """It pushes; whether it rested until now."""
        if self._present.get(who, -1) < self.leg:
            return False
        self._present[who] = self.leg - 1
        return True

    @property
    def active(self) -> set[Who]:
        """Those whom others wait for."""
        return {who for who, rests in self._present.items() if rests < self.leg}

    @property
    def resting(self) -> int:
        """How many take part and have nothing to do now."""
        return len(self._present) - len(self.active)

    def ordered(self, some: Collection[Who]) -> list[Who]:
        """These participants, in order."""
        return [who for who in self._present if who in some]

    def __contains__(self, who: object) -> bool:
        return who in self._present


class Clock(ABC):
    """One shard's clock. `waiting` are the participants that have pushed and may not go on yet."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.waiting: set[Who] = set()

    def push(self, who: Who, version: int, held: int) -> Verdict:
        """A push of `who`, made at the shard's `version`; the shard is at `held` now."""
        self.waiting.add(who)
        return self._push(who, version, held)

    @abstractmethod
    def _push(self, who: Who, version: int, held: int) -> Verdict: ...

    def closes(self) -> set[Who]:
        """The participants whose pushes make a step that closes now; empty if none does. The
        caller applies it and raises the shard's version."""
        return set()

    @abstractmethod
    def released(self) -> set[Who]:
        """Those that may go on now; they wait no longer."""

    def join(self, some: Collection[Who]) -> None:
        """These come back from a rest, or late."""
        return

    def forget(self, who: Who) -> None:
        """It has gone: what it pushed and was not applied will not be."""
        self.waiting.discard(who)


class Free(Clock):
    """Nobody waits."""

    def _push(self, who: Who, version: int, held: int) -> Verdict:
        return Verdict.APPLY

    def released(self) -> set[Who]:
        free, self.waiting = self.waiting, set()
        return free


class Bounded(Clock):
    """Nobody begins a clock that is more than `staleness` ahead of the slowest participant's."""

    def __init__(self, crowd: Crowd, staleness: int) -> None:
        super().__init__(crowd)
        self.staleness = staleness
        self.clocks: dict[Who, int] = {}
        self._leg = -1

    def _push(self, who: Who, version: int, held: int) -> Verdict:
        self._turn()
        self.clocks[who] = self.clocks.get(who, 0) + 1
        return Verdict.APPLY

    def join(self, some: Collection[Who]) -> None:
        """They start beside the slowest, so that nobody has to wait for what they missed."""
        self._turn()
        slowest = self._slowest(self.crowd.active.difference(some))
        self.clocks.update(dict.fromkeys(some, slowest))

    def released(self) -> set[Who]:
        self._turn()
        slowest = self._slowest(self.crowd.active)
        free = {w for w in self.waiting if self.clocks.get(w, 0) - slowest <= self.staleness}
        self.waiting -= free
        return free

    def forget(self, who: Who) -> None:
        super().forget(who)
        self.clocks.pop(who, None)

    def _turn(self) -> None:
        if self._leg < self.crowd.leg:
            self._leg = self.crowd.leg
            self.clocks.clear()

    def _slowest(self, whom: Collection[Who]) -> int:
        return min((self.clocks.get(who, 0) for who in whom), default=0)


class Barrier(Clock):
    """A step closes when `quorum` (a fraction) of the participants have pushed for it."""

    def __init__(self, crowd: Crowd, quorum: float) -> None:
        super().__init__(crowd)
        self.quorum = quorum
        self.pushed: set[Who] = set()
        self._late: set[Who] = set()  # since the last step closed
        self._over: set[Who] = set()

    def _push(self, who: Who, version: int, held: int) -> Verdict:
        if version < held:
            self._over.add(who)
            self._late.add(who)
            return Verdict.LATE
        self.pushed.add(who)
        return Verdict.HOLD

    def closes(self) -> set[Who]:
        if not self.pushed:
            return set()
        # What has been counted on rounds like 0.1 + 0.2 must not ask for one more.
        expected = self.crowd.active | self.pushed
        needed = ceil(self.quorum * len(expected) - 1e-9)
        if len(self.pushed) < needed and not expected <= self.pushed | self._late:
            return set()
        step, self.pushed = self.pushed, set()
        self._late.clear()
        self._over |= step
        return step

    def released(self) -> set[Who]:
        free, self._over = self._over & self.waiting, set()
        self.waiting -= free
        return free

    def forget(self, who: Who) -> None:
        super().forget(who)
        for some in (self.pushed, self._over, self._late):
            some.discard(who)
