"""Coupling `backprop`: minibatches in pieces, and the exact order of steps."""

from typing import Any

import numpy as np
import pytest
from cut_net import BATCH, FAULTS, CutNet, job_of
from fake_part import ACCURACY, LOSS
from lone_part import ABOVE, Lone, activations

from dualshard.common.messages import Gradients
from dualshard.worker.boundary.events import Ahead, Back, Backed, Forwarded

EMPTY = np.empty(0, np.float32)


def minibatches(net: CutNet) -> list[tuple[int, ...]]:
    """The samples of each, in the order of the epoch."""
    cut = [ids[begin : begin + BATCH] for ids in net._portions for begin in range(0, 12, BATCH)]
    return [tuple(map(int, ids)) for ids in cut if len(ids)]


@pytest.mark.parametrize("faulty", [False, True])
@pytest.mark.parametrize("pieces", [1, 2, 3, 9])
@pytest.mark.parametrize("parts", [2, 3, 5])
def test_every_part_makes_every_step_in_the_order_of_the_epoch(
    parts: int, pieces: int, faulty: bool
) -> None:
    job = job_of(parts, "backprop", partition__micro_batches=pieces)
    net = CutNet(job, seed=pieces, plan=FAULTS if faulty else None)
    net.run()
    net.check()
    # Samples are noted in the order in which their gradients were added up.
    assert [part.trained for part in net.living] == [minibatches(net)] * parts
    assert [part.steps for part in net.living] == [len(net.expected)] * parts


def test_all_pieces_are_under_way_and_the_next_minibatch_waits_for_the_step() -> None:
    job = job_of(2, "backprop", partition__micro_batches=3)
    net = CutNet(job, portions=2, compute=lambda rank: (0.01, 0.2)[rank])
    net.run()
    net.check()
    assert net.most_open == [3, 0]
    log = [(type(a).__name__, a.slot, getattr(a, "last", None)) for a in net.part(0).log]
    ahead = [("Ahead", slot, None) for slot in range(3)]
    back = [("Back", slot, slot == 2) for slot in range(3)]
    assert log == (ahead + back) * 6
    tops = [(a.slot, a.first, a.last, a.total) for a in net.part(1).log]
    step = [(0, True, False), (1, False, False), (2, False, True)]
    totals = [4] * 15 + [3] * 3
    assert tops == [(*turn, total) for turn, total in zip(step * 6, totals, strict=True)]


def test_a_piece_has_the_seeds_of_its_minibatch_and_a_slot_of_its_own_in_all_parts() -> None:
    net = CutNet(job_of(3, "backprop", partition__micro_batches=2), portions=2)
    net.run()
    went = [
        [(a.rows.seeds, a.slot) for a in part.log if getattr(a, "rows", None)]
        for part in net.living
    ]
    places = [(0, 12 * portion, number) for portion in range(2) for number in range(3)]
    assert went == [[(place, slot) for place in places for slot in range(2)]] * 3
    whole = CutNet(job_of(2, "backprop"), portions=2)
    whole.run()
    expected = [(0, 12 * portion, number) for portion in range(2) for number in range(3)]
    assert [a.rows.seeds for a in whole.part(0).log if isinstance(a, Ahead)] == expected


def test_what_is_measured() -> None:
    net = CutNet(job_of(2, "backprop", partition__micro_batches=2), portions=2)
    net.run()
    net.check()
    assert net.measures == pytest.approx(
        {
            "rounds": 12,
            "boundary_up": 23 * 2 * 4,
            "boundary_down": 23 * 2 * 4,
            "loss": 23 * LOSS,
            "accuracy": 23 * ACCURACY,
        }
    )


def test_a_portion_asks_once_however_many_minibatches_it_has() -> None:
    net = CutNet(job_of(2, "backprop"), portions=8)
    asked: list[int] = []
    answer = net.answer_samples

    def counted(part: Any, ask: Any) -> None:
        asked.append(ask.begin)
        answer(part, ask)

    net.answer_samples = counted  # type: ignore[method-assign]
    net.run()
    assert asked == [12 * number for number in range(8)]


def test_a_portion_that_is_served_again_in_part_is_trained_on_in_part() -> None:
    net = CutNet(job_of(3, "backprop", partition__micro_batches=2), portions=6, seed=2)
    net.run(until=lambda: sum(net.learnt.values()) == 4)
    net.kill(0)
    net.replace(0)
    net.run()
    net.check(killed=True)
    assert len(net.part(0).trained) == len(net.expected) - 4


def middle(pieces: int) -> Lone:
    return Lone(job_of(3, "backprop", partition__micro_batches=pieces), 1)


def gradients(number: int, rows: int) -> Gradients:
    return Gradients(number, "f32", [rows, 3], np.ones(3 * rows, np.float32), EMPTY)


def test_pieces_that_overtake_each_other_are_put_in_order() -> None:
    part = middle(2)
    half = np.ones((2, 2), np.float32)
    part.hear(activations(half, round=6, piece=1, pieces=2, first=2))
    assert part.boundary.next() is None
    part.hear(activations(half, round=5, piece=0, pieces=2))
    numbers = []
    for _ in range(2):
        action = part.boundary.next()
        assert isinstance(action, Ahead)
        numbers.append(action.round)
        part.boundary.happened(Forwarded(action.round, np.ones((2, 3), np.float32)))
    assert [message.first for _, message, _ in part.host.asked] == [0, 2]
    part.hear(gradients(numbers[1], 2), ABOVE.incarnation)
    assert part.boundary.next() is None
    part.hear(gradients(numbers[0], 2), ABOVE.incarnation)
    for number, first in zip(numbers, (True, False), strict=True):
        action = part.boundary.next()
        assert isinstance(action, Back)
        assert (action.round, action.first, action.last) == (number, first, not first)
        part.boundary.happened(Backed(number, half, {}, 0 if first else 1))
    assert [message.round for _, message, _ in part.host.asked[2:]] == [5, 6]
    assert part.boundary.idle


def test_a_minibatch_that_the_part_below_has_given_up_makes_room_for_the_next() -> None:
    part = middle(2)
    half = np.ones((2, 2), np.float32)
    part.hear(activations(half, round=5, piece=0, pieces=2))
    part.hear(activations(half, round=7, piece=0, pieces=2, minibatch=1, first=4))
    part.hear(activations(half, round=6, piece=1, pieces=2, first=2))
    assert +part.boundary.counters == {"boundary_dropped": 1, "boundary_late": 1}
    action = part.boundary.next()
    assert isinstance(action, Ahead)
    assert action.rows.seeds == (0, 0, 1)
    assert not part.host.refusals
