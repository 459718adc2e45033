"""Clocks and barriers: every order in which pushes, rests, epochs, comings and goings may fall."""

import copy
from collections.abc import Callable

import pytest
from crowds import COMPUTES, NOBODY, WAITS, Driven
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from dualshard.paramserver.consistency import Barrier, Bounded, Clock, Crowd, Free

RULES: dict[str, Callable[[Crowd], Clock]] = {
    "free": Free,
    **{f"staleness {s}": lambda crowd, s=s: Bounded(crowd, s) for s in range(4)},
    **{f"quorum {q}": lambda crowd, q=q: Barrier(crowd, q) for q in (0.5, 0.75, 1.0)},
}


class Machine(RuleBasedStateMachine):
    """Anything that may happen, in any order, to one to four participants."""

    make: Callable[[Crowd], Clock]

    @initialize(count=st.integers(1, 4), present=st.integers(1, 4))
    def begin(self, count: int, present: int) -> None:
        self.driven = Driven(type(self).make, count, min(count, present))

    @rule(data=st.data())
    def something(self, data: st.DataObject) -> None:
        # Pushes, that things are about, as often as all else together.
        events = list(self.driven.events())
        pushes = [event for event in events if event[0] == "push"]
        self.driven.happen(data.draw(st.sampled_from(events + pushes * 3)))

    def teardown(self) -> None:
        """Whatever has happened: nobody waits for ever, and each push comes to its end."""
        if hasattr(self, "driven"):
            get_away(self.driven)


def get_away(driven: Driven) -> None:
    """Everyone who computes rests, one after the other: whoever waited goes on, and rests too."""
    for _ in range(2 * len(driven.everyone)):
        for who in driven.everyone:
            if driven.status[who] == COMPUTES:
                driven.happen(("rest", who))
    assert not driven.active
    assert not driven.parts
    assert driven.pushed == driven.applied + driven.dropped + driven.lost


@pytest.mark.parametrize("name", RULES)
def test_any_history(name: str) -> None:
    machine = type("AnyHistory", (Machine,), {"make": staticmethod(RULES[name])})
    case = machine.TestCase
    case.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)
    case().runTest()


@pytest.mark.parametrize(("count", "present", "depth"), [(2, 2, 7), (3, 2, 4), (3, 3, 4)])
@pytest.mark.parametrize("name", RULES)
def test_every_history_up_to_a_length(name: str, count: int, present: int, depth: int) -> None:
    """Breadth first over all that may happen, without chance: an independent check."""
    begin = Driven(RULES[name], count, present)
    known, level, waited, late = {begin.key()}, [begin], False, False
    for _ in range(depth):
        later = []
        for driven in level:
            for event in driven.events():
                then = copy.deepcopy(driven)
                then.happen(event)
                waited |= WAITS in then.status.values()
                late |= then.dropped > 0
                if then.key() not in known:
                    known.add(then.key())
                    later.append(then)
        level = later
    assert len(known) > 20
    # Half of two is one: then each push is a step.
    ever = name != "free" and (name, count) != ("quorum 0.5", 2)
    assert waited == ever, "the search has seen somebody wait"
    if present < count:  # one that joins in the middle has missed a step
        assert late == name.startswith("quorum"), "and, at a barrier, somebody come too late"


@pytest.mark.parametrize(
    ("quorum", "active", "needed"),
    [
        (0.1, 10, 1),
        (0.3, 10, 3),
        (0.7, 10, 7),
        (0.75, 4, 3),
        (0.5, 3, 2),
        (1.0, 7, 7),
        (0.01, 3, 1),
    ],
)
def test_a_quorum_is_a_fraction_rounded_up(quorum: float, active: int, needed: int) -> None:
    """0.7 · 10 is 7.000000000000001 in float64 by some ways: not one more than seven."""
    driven = Driven(lambda crowd: Barrier(crowd, quorum), active, active)
    for who in driven.everyone[: needed - 1]:
        driven.happen(("push", who))
    assert driven.version == 0
    driven.happen(("push", driven.everyone[needed - 1]))
    assert driven.version == 1


def test_gradients_are_summed_in_the_order_of_the_view() -> None:
    crowd = Crowd()
    crowd.see([(7, 0), (3, 1), (3, 0), (9, 0)], training=False)
    assert crowd.ordered({(3, 0), (9, 0), (7, 0)}) == [(7, 0), (3, 0), (9, 0)]


def test_a_rest_that_comes_before_its_sender_is_known_counts() -> None:
    """The view travels by other ways than the word of a worker that has no data."""
    crowd = Crowd()
    crowd.see([(1, 0)], training=False)
    crowd.turn(0)
    crowd.rest((2, 0), 0)
    crowd.see([(1, 0), (2, 0)], training=False)
    assert crowd.active == {(1, 0)}
    assert crowd.resting == 1
    crowd.turn(1)
    assert crowd.active == {(1, 0), (2, 0)}
    assert crowd.resting == 0


def test_a_rest_of_an_epoch_that_is_over_says_nothing() -> None:
    driven = Driven(Free, 2, 2)
    driven.happen(("turn", NOBODY))
    driven.crowd.rest((1, 0), 0)
    driven.check()
    assert not driven.crowd.turn(0)
    assert driven.crowd.turn(2)


def test_those_who_enter_together_begin_beside_the_slowest() -> None:
    crowd = Crowd()
    clock = Bounded(crowd, 1)
    crowd.see([(1, 0)], training=False)
    crowd.turn(0)
    for version in range(9):
        clock.push((1, 0), version, version)
        assert clock.released() == {(1, 0)}
    crowd.see([(1, 0), (2, 0), (3, 0)], training=False)
    clock.join([(2, 0), (3, 0)])
    clock.push((1, 0), 9, 9)
    assert clock.released() == {(1, 0)}, "it need not wait until they have made nine"
    clock.push((1, 0), 10, 10)
    assert clock.released() == set()


def test_a_step_closes_when_all_have_come_to_it_in_time_or_late() -> None:
    """Two came late, and may by now wait at another shard, for the one that waits here."""
    crowd = Crowd()
    crowd.see([(1, 0), (2, 0), (3, 0)], training=False)
    crowd.turn(0)
    clock = Barrier(crowd, 0.5)
    for late in ((2, 0), (3, 0)):
        clock.push(late, 0, 1)
        assert clock.closes() == set()
        assert clock.released() == {late}
    clock.push((1, 0), 1, 1)
    assert clock.closes() == clock.released() == {(1, 0)}
    clock.push((1, 0), 2, 2)
    assert clock.closes() == set(), "that was for one step alone: now two are needed again"
    clock.push((3, 0), 2, 2)
    assert clock.closes() == {(1, 0), (3, 0)}
