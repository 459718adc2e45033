"""Seats, ranks and leases."""

import pytest

from dualshard.common.types import Member, Role
from dualshard.paramserver.controller.membership import Roster, Seat

PLACES = {Role.PARAMSERVER: 2, Role.DATASERVER: 1, Role.WORKER: 3}


def member(incarnation: int, role: Role = Role.WORKER) -> Member:
    return Member(role, -1, incarnation, "", "host", 1000 + incarnation)


def seated(roster: Roster, incarnation: int, wanted: int = -1, now: float = 0.0) -> Seat:
    seat = roster.join(member(incarnation), wanted, b"peer", now)
    assert isinstance(seat, Seat)
    return seat


def test_free_ranks_are_given_from_the_lowest() -> None:
    roster = Roster(PLACES, lease=5.0)
    assert [seated(roster, n).member.rank for n in (11, 12, 13)] == [0, 1, 2]
    roster.remove(12)
    assert seated(roster, 14).member.rank == 1
    assert [seat.member.incarnation for seat in roster.of_role(Role.WORKER)] == [11, 14, 13]


def test_a_wanted_rank_is_given_if_it_is_free() -> None:
    roster = Roster(PLACES, lease=5.0)
    assert seated(roster, 11, wanted=2).member.rank == 2
    assert seated(roster, 12).member.rank == 0
    taken = roster.join(member(13), 2, b"peer", 0.0)
    assert taken == "worker-2 is taken or not one of the 3 that the job wants"
    assert roster.join(member(13), 3, b"peer", 0.0) == (
        "worker-3 is taken or not one of the 3 that the job wants"
    )


def test_joining_twice_is_joining_once() -> None:
    roster = Roster(PLACES, lease=5.0)
    first = seated(roster, 11)
    assert seated(roster, 11, wanted=2) is first
    assert len(roster.seats) == 1


def test_a_full_role_says_which_key_to_raise() -> None:
    roster = Roster(PLACES, lease=5.0)
    for incarnation in (11, 12, 13):
        seated(roster, incarnation)
    assert roster.join(member(14), -1, b"peer", 0.0) == (
        "all 3 places of role worker are taken; raise worker.count to have more"
    )
    other = roster.join(member(21, Role.DATASERVER), -1, b"peer", 0.0)
    assert isinstance(other, Seat)
    assert other.member.rank == 0


def test_missing_names_every_place_that_is_free() -> None:
    roster = Roster(PLACES, lease=5.0)
    seated(roster, 11, wanted=1)
    assert roster.missing() == [
        "paramserver-0",
        "paramserver-1",
        "dataserver-0",
        "worker-0",
        "worker-2",
    ]


def test_a_lease_runs_out_without_a_word_and_not_with_one() -> None:
    roster = Roster(PLACES, lease=5.0)
    assert roster.lease_ends() == float("inf")
    quiet, loud = seated(roster, 11, now=1.0), seated(roster, 12, now=1.0)
    assert roster.lease_ends() == 6.0
    assert roster.hear(12, 4.0) is loud
    assert roster.silent(6.0) == []
    assert roster.silent(6.5) == [quiet]
    assert roster.lease_ends() == 6.0
    assert roster.remove(11) is quiet
    assert roster.lease_ends() == 9.0
    assert roster.hear(11, 6.6) is None


def test_who_is_gone_stays_gone() -> None:
    roster = Roster(PLACES, lease=5.0)
    seated(roster, 11)
    assert roster.remove(11) is not None
    assert roster.remove(11) is None
    assert roster.gone == {11}


@pytest.mark.parametrize(("host", "pid", "found"), [("host", 1011, True), ("other", 1011, False)])
def test_a_process_is_found_by_host_and_pid(host: str, pid: int, found: bool) -> None:
    roster = Roster(PLACES, lease=5.0)
    seat = seated(roster, 11)
    assert roster.at(host, pid) is (seat if found else None)
