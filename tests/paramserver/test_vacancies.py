"""Which places of a cut net are waited for, and until when."""

import pytest

from dualshard.paramserver.controller.vacancies import Vacancies

NEVER = float("inf")


@pytest.fixture
def places() -> Vacancies:
    """Two replicas of three parts, all of them held at second 0."""
    places = Vacancies(parts=3, replicas=2, patience=60.0)
    assert places.look(range(6), 0.0) == ([], [])
    assert places.wake_at() == NEVER
    return places


def test_a_lost_part_is_waited_for_until_it_is_there_again(places: Vacancies) -> None:
    assert places.look({0, 2, 3, 4, 5}, 10.0) == ([1], [])
    assert places.complete({0, 2, 3, 4, 5}) == [1]
    assert places.look({0, 2, 3, 4, 5}, 20.0) == ([], [])  # said once
    assert (places.wake_at(), places.over(69.9), places.over(70.0)) == (70.0, [], [1])
    assert places.look(range(6), 30.0) == ([], [1])
    assert places.wake_at() == NEVER


def test_a_part_that_is_lost_again_is_waited_for_as_long_again(places: Vacancies) -> None:
    places.look({0, 2, 3, 4, 5}, 10.0)
    places.look(range(6), 30.0)
    assert places.look({0, 2, 3, 4, 5}, 40.0) == ([1], [])
    assert places.wake_at() == 100.0


def test_a_replica_that_is_given_up_is_waited_for_once_somebody_joins_it(places: Vacancies) -> None:
    places.look({0, 2, 3, 4, 5}, 10.0)
    places.give_up(0)
    assert places.look({3, 4, 5}, 70.0) == ([], [])
    assert places.wake_at() == NEVER
    assert places.look({2, 3, 4, 5}, 80.0) == ([0, 1], [])
    assert places.wake_at() == 140.0


def test_places_that_nobody_ever_had_are_not_waited_for() -> None:
    places = Vacancies(parts=2, replicas=3, patience=5.0)
    assert places.look({2, 3}, 0.0) == ([], [])
    assert places.look({2, 3, 5}, 1.0) == ([4], [])
    assert places.over(6.0) == [4]


def test_when_all_are_lost_all_are_waited_for(places: Vacancies) -> None:
    assert places.look((), 1.0) == ([0, 1, 2, 3, 4, 5], [])
    assert places.complete(()) == []
