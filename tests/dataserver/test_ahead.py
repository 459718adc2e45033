"""What is foreseen of the next leg, and when its portions are prepared."""

import numpy as np
import pytest

from dualshard.common.messages import Serve
from dualshard.dataserver.ahead import Leg, NextLeg, follower
from dualshard.dataserver.events import Prepare, Prepared

MANY = 99


def prepared(wanted: Prepare) -> Prepared:
    arrays = np.full((2, 2), wanted.portion, np.float32), np.zeros(2, np.int64)
    return Prepared(wanted, False, arrays)


def foreseen(*portions: int, end: int = 100) -> NextLeg:
    """After leg 3, in epoch 1 of 4 with 100 samples, in portions of 10."""
    ahead = NextLeg()
    ahead.expect(Serve(3, 1, 0, list(portions), end), 100, 10, 4)
    return ahead


@pytest.mark.parametrize(
    ("serve", "expected"),
    [
        (Serve(3, 1, 0, [], 40), (4, 1, 40)),
        (Serve(3, 1, 40, [], 100), (4, 2, 0)),
        (Serve(3, 3, 40, [], 100), None),
        (Serve(3, 3, 0, [], 40), (4, 3, 40)),
        (Serve(3, 1, 0, []), None),
    ],
    ids=["within", "epoch", "last epoch", "within the last epoch", "unknown"],
)
def test_a_leg_follows_where_the_one_before_ends(serve: Serve, expected: Leg | None) -> None:
    assert follower(serve, 100, 4) == expected


def test_the_same_portions_come_first_again_as_far_as_there_is_room() -> None:
    ahead = foreseen(5, 1, 3)
    assert ahead.order(2, MANY) == Prepare(False, 4, 5, 2, 0)
    assert ahead.order(2, MANY) == Prepare(False, 4, 1, 2, 0)
    assert ahead.order(2, MANY) is None
    assert ahead.order(9, MANY) == Prepare(False, 4, 3, 2, 0)
    assert ahead.order(9, MANY) is None


def test_only_so_many_are_prepared_at_once() -> None:
    ahead = foreseen(0, 1, 2)
    first = ahead.order(MANY, 1)
    assert first is not None
    assert ahead.order(MANY, 1) is None
    assert ahead.came(prepared(first))
    assert ahead.order(MANY, 1) == Prepare(False, 4, 1, 2, 0)


def test_a_portion_beyond_the_end_of_the_epoch_is_not_foreseen() -> None:
    ahead = foreseen(4, 6, 5, end=50)
    orders = [ahead.order(MANY, MANY) for _ in range(2)]
    assert orders == [Prepare(False, 4, 4, 1, 50), None]


def test_what_was_foreseen_is_taken_where_it_was_given() -> None:
    ahead = foreseen(0, 1, 2, 3)
    orders = [ahead.order(MANY, MANY) for _ in range(4)]
    events = [prepared(order) for order in orders if order is not None]
    assert [ahead.came(event) for event in events[:3]] == [True, True, True]
    assert not ahead.came(events[0])
    assert ahead.take(Serve(4, 2, 0, [0, 2, 3], 100)) == ({3}, [events[0], events[2]])


@pytest.mark.parametrize("serve", [Serve(4, 1, 50, [0]), Serve(5, 2, 0, [0]), Serve(4, 2, 10, [0])])
def test_nothing_is_taken_of_another_leg(serve: Serve) -> None:
    ahead = foreseen(0)
    order = ahead.order(MANY, MANY)
    assert order is not None
    ahead.came(prepared(order))
    assert ahead.take(serve) == (set(), [])


def test_a_new_leg_forgets_the_one_that_was_foreseen() -> None:
    ahead = foreseen(0, 1)
    order = ahead.order(MANY, MANY)
    assert order is not None
    ahead.expect(Serve(4, 2, 0, [0, 1], 100), 100, 10, 4)
    assert not ahead.came(prepared(order))
    assert len(ahead) == 0
