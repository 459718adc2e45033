"""The end of a stretch of training: the servers have all that all parts have learnt."""

import numpy as np
import pytest
from cut_net import CutNet, job_of
from fake_part import Part
from lone_part import ABOVE, BELOW, Lone, activations

from dualshard.common.delivery import Open
from dualshard.common.messages import Activations, Envelope, Form, Settle, Settled, Targets

COUPLINGS = pytest.mark.parametrize("coupling", ["activations", "weights", "backprop"])


@COUPLINGS
def test_the_bottom_is_settled_when_every_part_has_pushed(coupling: str) -> None:
    net = CutNet(job_of(4, coupling))
    pushed: list[int] = []
    settled = Part._pushed

    def noted(part: Part) -> None:
        pushed.append(part.rank)
        settled(part)

    Part._pushed = noted  # type: ignore[method-assign]
    try:
        net.run(until=lambda: net.part(0).settled)
    finally:
        Part._pushed = settled  # type: ignore[method-assign]
    assert all(part.unpushed == 0 for part in net.living)
    assert sorted(pushed) == [0, 1, 2, 3]
    net.run()
    net.check()


def settled(part: Lone, number: int, measures: dict[str, float]) -> None:
    """The part above answers the request of this number."""
    peer, message, tag = part.host.asked[number]
    envelope = Envelope(1, Form.REQUEST, 1, 1, message)
    request = Open(peer, envelope, tag, 0.0, 9.0, 1.0, 1.0, True)
    part.boundary.replies[Settle](request, Settled(measures))


def test_a_middle_part_asks_once_and_answers_when_both_sides_are_through() -> None:
    part = Lone(job_of(3), 1)
    assert not part.boundary.settling
    part.hear(Settle())
    assert part.boundary.settling
    for _ in range(3):
        assert not part.boundary.settle(pushed=False)
    assert [(peer, message) for peer, message, _ in part.host.asked] == [(ABOVE.address, Settle())]
    settled(part, 0, {"loss": 3.0})
    assert not part.boundary.settle(pushed=False)
    assert not part.host.answered
    assert part.boundary.settle(pushed=True)
    assert part.host.answered == [(1, Settled({"loss": 3.0}))]
    assert not part.boundary.settling


def learn_a_round(part: Lone, number: int) -> None:
    """The middle part goes forward, gets targets, and trains."""
    part.hear(activations(round=number))
    assert part.compute()
    sent = part.host.asked[-1][1]
    assert isinstance(sent, Activations)
    values = np.ones(12, np.float32)
    extra = np.empty(0, np.float32)
    part.hear(Targets(sent.round, 0.1, "f32", [4, 3], values, extra), ABOVE.incarnation)
    assert part.compute()


def questions(part: Lone) -> int:
    return sum(isinstance(message, Settle) for _, message, _ in part.host.asked)


def test_an_answer_to_a_question_before_the_last_round_does_not_count() -> None:
    part = Lone(job_of(3), 1)
    part.hear(Settle())
    assert not part.boundary.settle(pushed=True)
    learn_a_round(part, 1)
    settled(part, 0, {})
    assert not part.boundary.settle(pushed=True)
    assert questions(part) == 2
    settled(part, len(part.host.asked) - 1, {})
    assert part.boundary.settle(pushed=True)


def test_what_is_learnt_after_all_was_settled_has_to_be_settled_again() -> None:
    part = Lone(job_of(3), 1)
    part.hear(Settle())
    assert not part.boundary.settle(pushed=True)
    settled(part, 0, {})
    assert part.boundary.settle(pushed=True)
    learn_a_round(part, 1)
    part.hear(Settle())
    assert not part.boundary.settle(pushed=True)
    assert questions(part) == 2
    settled(part, len(part.host.asked) - 1, {})
    assert part.boundary.settle(pushed=True)


def test_a_new_part_above_is_asked_again() -> None:
    part = Lone(job_of(2), 0)
    assert not part.boundary.settle(pushed=True)
    part.boundary.meet(None, None)
    assert not part.boundary.settle(pushed=True)
    newer = type(ABOVE)(ABOVE.role, 2, 13, "tcp://above:2", "m", 1)
    part.boundary.meet(None, newer)
    assert not part.boundary.settle(pushed=True)
    assert [peer for peer, _, _ in part.host.asked] == [ABOVE.address, newer.address]
    settled(part, 0, {})  # of the one that is gone
    assert not part.boundary.settle(pushed=True)
    settled(part, 1, {})
    assert part.boundary.settle(pushed=True)


def test_a_new_part_below_has_not_asked() -> None:
    part = Lone(job_of(2), 1)
    part.hear(Settle())
    part.boundary.meet(type(BELOW)(BELOW.role, 0, 11, "tcp://below:2", "m", 1), None)
    assert not part.boundary.settling
    assert part.boundary.settle(pushed=True)
    assert not part.host.answered


@COUPLINGS
def test_a_question_says_that_nothing_more_comes_of_what_is_half_here(coupling: str) -> None:
    """The part below was told to forget it by the death of the one below itself."""
    part = Lone(job_of(3, coupling, partition__micro_batches=2), 2)
    half = np.ones((2, 2), np.float32)
    pieces = 2 if coupling == "backprop" else 1
    part.hear(activations(half, round=3, pieces=pieces))
    assert not part.boundary.idle
    part.hear(Settle())
    assert part.boundary.idle
    assert +part.boundary.counters == {"boundary_dropped": 1}
    assert part.boundary.settle(pushed=True)


@COUPLINGS
def test_a_part_dies_while_the_others_settle(coupling: str) -> None:
    for rank in (0, 1, 2):
        net = CutNet(job_of(3, coupling), portions=3, seed=rank)
        net.run(until=lambda net=net: net.part(2).boundary and net.part(2).boundary.settling)
        net.kill(rank)
        net.replace(rank)
        net.run()
        net.check(killed=True)
