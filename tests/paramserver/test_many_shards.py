"""Shards with clocks of their own, to which pushes come in any order: nobody waits in a circle."""

import random

import pytest

from dualshard.paramserver.consistency import Barrier, Bounded, Clock, Crowd, Verdict, Who

AGAIN = 0.3
"""How often an answer is lost, and the one that is asked for again tells of a later version."""


class Table:
    """Some shards and participants that push to all of them, and go on when all have let them."""

    def __init__(self, clocks: list[Clock], crowd: Crowd, many: int, seed: int) -> None:
        self.clocks, self.random = clocks, random.Random(seed)
        self.who: list[Who] = [(number, 0) for number in range(many)]
        crowd.see(self.who, training=False)
        crowd.turn(0)
        self.versions = [0] * len(clocks)
        self.seen = {who: list(self.versions) for who in self.who}
        self.rounds = dict.fromkeys(self.who, 0)
        self.waits: dict[Who, set[int]] = {who: set() for who in self.who}
        self.flying: list[tuple[Who, int, int]] = []
        for who in self.who:
            self.begin(who)

    def begin(self, who: Who) -> None:
        self.waits[who] = set(range(len(self.clocks)))
        for shard in self.waits[who]:
            if self.random.random() < AGAIN:
                self.seen[who][shard] = self.versions[shard]
        self.flying += [(who, shard, self.seen[who][shard]) for shard in self.waits[who]]

    def arrive(self) -> None:
        """One of the pushes under way, whichever."""
        assert self.flying, f"all wait in a circle: {self.waits}"
        who, shard, version = self.flying.pop(self.random.randrange(len(self.flying)))
        clock = self.clocks[shard]
        if clock.push(who, version, self.versions[shard]) is Verdict.APPLY:
            self.versions[shard] += 1
        self.versions[shard] += bool(clock.closes())
        for free in clock.released():
            self.waits[free].discard(shard)
            self.seen[free][shard] = self.versions[shard]
            if not self.waits[free]:
                self.rounds[free] += 1
                self.begin(free)


@pytest.mark.parametrize("quorum", [0.3, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("many", [2, 3, 5])
def test_steps_that_close_apart_never_wait_in_a_circle(many: int, quorum: float) -> None:
    for seed in range(40):
        crowd = Crowd()
        table = Table([Barrier(crowd, quorum) for _ in range(3)], crowd, many, seed)
        for _ in range(300):
            table.arrive()
        assert sum(table.rounds.values()) > 20


@pytest.mark.parametrize("staleness", [0, 1, 3])
def test_bounds_of_shards_apart_never_wait_in_a_circle(staleness: int) -> None:
    for seed in range(40):
        crowd = Crowd()
        table = Table([Bounded(crowd, staleness) for _ in range(3)], crowd, 4, seed)
        for _ in range(300):
            table.arrive()
        rounds = table.rounds.values()
        assert max(rounds) - min(rounds) <= staleness + 1
