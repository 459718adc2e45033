"""Fine points of neighbours that come and go, message by message."""

from dataclasses import replace

import numpy as np
import pytest
from cut_net import CutNet, job_of
from lone_part import ABOVE, BELOW, Lone, activations

from dualshard.common.messages import (
    Activations,
    Copies,
    Gradients,
    Message,
    Samples,
    Settle,
    Targets,
)
from dualshard.worker.boundary.events import (
    Ahead,
    Back,
    Backed,
    Forward,
    Forwarded,
    Train,
    Trained,
)

EMPTY = np.empty(0, np.float32)
HALF = np.ones((2, 2), np.float32)
NEW_ABOVE = replace(ABOVE, incarnation=22, address="tcp://above:2")
NEW_BELOW = replace(BELOW, incarnation=20, address="tcp://below:2")


def copy_of(number: int, value: float) -> Copies:
    return Copies(number, 0.1, np.full(3, value, np.float32))


def said_to(part: Lone, address: str) -> list[Message]:
    return [message for peer, message, _ in part.host.asked if peer == address]


def feed(part: Lone, portions: int = 1) -> None:
    net = CutNet(job_of(2))
    for _ in range(portions):
        part.boundary.feed(net.hand_out())


def forward(part: Lone, rows: int) -> int:
    """The next action goes forward; the round."""
    action = part.boundary.next()
    assert isinstance(action, Forward | Ahead)
    part.boundary.happened(Forwarded(action.round, np.ones((rows, 3), np.float32)))
    return action.round


@pytest.mark.parametrize("wait", [True, False])
def test_a_bottom_that_waits_wants_nothing_more_until_it_has_trained(wait: bool) -> None:
    part = Lone(job_of(2, admm__wait=wait), 0)
    assert part.boundary.wants()
    feed(part)
    assert not part.boundary.wants()
    number = forward(part, 12)
    targets = Targets(number, 0.1, "f32", [12, 3], np.ones(36, np.float32), EMPTY)
    part.hear(targets, ABOVE.incarnation)
    action = part.boundary.next()
    assert isinstance(action, Train)
    assert part.boundary.wants() != wait
    part.boundary.happened(Trained(action.round, 3))
    assert part.boundary.wants()


def test_nobody_is_fed_without_a_part_above() -> None:
    for coupling in ("activations", "weights", "backprop"):
        part = Lone(job_of(2, coupling), 0)
        part.boundary.meet(None, None)
        assert not part.boundary.wants()


def newest(part: Lone) -> float:
    """The copy that the next training of the top part uses."""
    action = part.boundary.next()
    assert isinstance(action, Train)
    return float(action.other[0][0])


def top_of_weights() -> Lone:
    part = Lone(job_of(2, "weights"), 1)
    part.hear(activations())
    part.boundary.unknown()
    labels = np.zeros(4, np.int64)
    part.boundary.know((0, 0), Samples(np.arange(4), labels))
    return part


def test_a_copy_that_was_overtaken_is_not_used() -> None:
    part = top_of_weights()
    part.hear(copy_of(2, 2.0))
    part.hear(copy_of(1, 1.0))
    assert newest(part) == 2.0


def test_the_first_copy_of_a_new_neighbour_is_newer_than_any_of_the_old_one() -> None:
    part = top_of_weights()
    part.hear(copy_of(9, 9.0))
    part.boundary.meet(NEW_BELOW, None)
    part.hear(activations(), NEW_BELOW.incarnation)
    part.hear(copy_of(1, 1.0), NEW_BELOW.incarnation)
    assert newest(part) == 1.0


def test_a_new_part_above_is_sent_the_newest_copy_though_all_is_answered() -> None:
    part = Lone(job_of(2, "weights", admm__head=False), 0)
    feed(part)
    number = forward(part, 12)
    action = part.boundary.next()
    assert isinstance(action, Train)
    mine = np.full(3, 5.0, np.float32)
    part.boundary.happened(Trained(number, 3, copies={0: mine}))
    part.hear(copy_of(number, 1.0), ABOVE.incarnation)
    assert part.boundary.idle
    part.boundary.meet(None, NEW_ABOVE)
    (message,) = said_to(part, NEW_ABOVE.address)
    assert isinstance(message, Copies)
    assert message.values is mine


def gradients(number: int) -> Gradients:
    return Gradients(number, "f32", [2, 3], np.ones(6, np.float32), EMPTY)


def middle_with_two_pieces() -> tuple[Lone, list[int]]:
    """Both have gone up."""
    part = Lone(job_of(3, "backprop", partition__micro_batches=2), 1)
    for piece in (0, 1):
        part.hear(activations(HALF, round=5 + piece, piece=piece, pieces=2, first=2 * piece))
    return part, [forward(part, 2), forward(part, 2)]


def back(part: Lone) -> Back:
    action = part.boundary.next()
    assert isinstance(action, Back)
    part.boundary.happened(Backed(action.round, HALF, {}, int(action.last)))
    return action


def test_a_minibatch_that_begins_anew_tells_no_piece_twice() -> None:
    part, numbers = middle_with_two_pieces()
    part.hear(gradients(numbers[0]), ABOVE.incarnation)
    assert back(part).first
    part.boundary.meet(BELOW, NEW_ABOVE)
    again = [forward(part, 2), forward(part, 2)]
    assert not set(again) & set(numbers)
    sent = said_to(part, NEW_ABOVE.address)
    assert [message.piece for message in sent if isinstance(message, Activations)] == [0, 1]
    for number in again:
        part.hear(gradients(number), NEW_ABOVE.incarnation)
    actions = [back(part), back(part)]
    assert [(action.first, action.last) for action in actions] == [(True, False), (False, True)]
    told = [m.round for m in said_to(part, BELOW.address) if isinstance(m, Gradients)]
    assert told == [5, 6]
    assert part.boundary.idle


def test_what_was_being_computed_for_the_old_part_above_is_not_sent_to_the_new_one() -> None:
    part = Lone(job_of(3, "backprop", partition__micro_batches=2), 1)
    for piece in (0, 1):
        part.hear(activations(HALF, round=5 + piece, piece=piece, pieces=2, first=2 * piece))
    forward(part, 2)
    action = part.boundary.next()
    assert isinstance(action, Ahead)
    part.boundary.meet(BELOW, NEW_ABOVE)
    part.boundary.happened(Forwarded(action.round, np.ones((2, 3), np.float32)))
    assert said_to(part, NEW_ABOVE.address) == []
    again = part.boundary.next()
    assert isinstance(again, Ahead)
    assert again.slot == 0


def test_a_step_that_is_being_made_is_not_begun_anew() -> None:
    part, numbers = middle_with_two_pieces()
    for number in numbers:
        part.hear(gradients(number), ABOVE.incarnation)
    back(part)
    action = part.boundary.next()
    assert isinstance(action, Back)
    assert action.last
    part.boundary.meet(BELOW, NEW_ABOVE)
    learnt = part.boundary.happened(Backed(action.round, HALF, {}, 1))
    assert learnt is not None
    assert (learnt.count, learnt.steps) == (1, 1)
    assert part.boundary.idle
    assert said_to(part, NEW_ABOVE.address) == []


def test_a_piece_that_comes_after_it_was_given_up_is_no_fault_of_its_sender() -> None:
    part = Lone(job_of(3, "backprop", partition__micro_batches=2), 2)
    part.hear(activations(HALF, round=5, piece=0, pieces=2))
    part.hear(Settle())
    part.hear(activations(HALF, round=6, piece=1, pieces=2, first=2))
    assert part.host.refusals == []
    assert part.boundary.counters["boundary_late"] == 1
    assert part.boundary.idle


def test_when_both_neighbours_change_at_once_nothing_old_goes_up() -> None:
    part = Lone(job_of(3), 1)
    part.hear(activations())
    forward(part, 4)
    part.boundary.meet(NEW_BELOW, NEW_ABOVE)
    assert said_to(part, NEW_ABOVE.address) == []
    part.hear(activations(), NEW_BELOW.incarnation)
    forward(part, 4)
    assert len(said_to(part, NEW_ABOVE.address)) == 1
