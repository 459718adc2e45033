"""Where roles stand."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualshard.common.errors import UserError
from dualshard.common.job import Job
from dualshard.common.types import Role
from dualshard.deploy.launch.hostfile import Host, read_hosts
from dualshard.deploy.launch.placement import crowding, place, table, worker_slots


def job(workers=2, servers=2, data_servers=1):
    plain = Job()
    return replace(
        plain,
        worker=replace(plain.worker, count=workers),
        paramserver=replace(plain.paramserver, count=servers),
        dataserver=replace(plain.dataserver, count=data_servers),
    )


def counts(placed, role):
    """How many of a role stand on each host."""
    return dict(Counter(one.host.name for one in placed if one.role is role))


def test_roles_are_spread_evenly_over_equal_hosts():
    placed = place(job(workers=6, servers=4, data_servers=2), read_hosts("a\nb\nc\n", "f"))
    assert placed[0].host.name == "a"
    assert placed[0].role is Role.CONTROLLER
    assert counts(placed, Role.PARAMSERVER) == {"a": 2, "b": 1, "c": 1}
    assert counts(placed, Role.DATASERVER) == {"b": 1, "c": 1}
    assert counts(placed, Role.WORKER) == {"a": 2, "b": 2, "c": 2}


def test_slots_weigh():
    hosts = read_hosts("a slots=1\nb slots=4\nc slots=2\n", "f")
    assert counts(place(job(workers=7), hosts), Role.WORKER) == {"a": 1, "b": 4, "c": 2}
    assert counts(place(job(workers=14), hosts), Role.WORKER) == {"a": 2, "b": 8, "c": 4}
    assert worker_slots(hosts) == 7
    assert crowding(job(workers=7), hosts) == ""
    assert "8 workers share 7 slots" in crowding(job(workers=8), hosts)


def test_roles_stand_where_they_may():
    hosts = read_hosts("a roles=worker\nb roles=controller,paramserver\nc roles=dataserver\n", "f")
    placed = place(job(), hosts)
    assert {str(one.role): one.host.name for one in placed} == {
        "controller": "b",
        "paramserver": "b",
        "dataserver": "c",
        "worker": "a",
    }


def test_one_host_has_everything():
    assert {one.host.name for one in place(job(), [Host("only")])} == {"only"}


def test_a_role_that_may_stand_nowhere_is_named():
    with pytest.raises(UserError) as refused:
        place(job(), read_hosts("a roles=worker\nb roles=controller,worker\n", "f"))
    assert str(refused.value) == (
        "--hostfile = a, b: expected a host that may have a paramserver; add paramserver to the "
        "roles= of a host, or leave roles= out"
    )


def test_the_placement_is_shown_a_line_a_host():
    assert table(place(job(workers=3), read_hosts("first\nb\n", "f"))) == [
        "first  controller  paramserver 0  dataserver 0  worker 0,2",
        "b      paramserver 1  worker 1",
    ]


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=6),
    st.integers(1, 40),
    st.integers(1, 9),
    st.integers(1, 9),
)
def test_everything_is_placed_exactly_once_and_no_host_is_filled_before_its_turn(
    slots, workers, servers, data_servers
):
    hosts = [Host(f"h{index}", slots=number) for index, number in enumerate(slots)]
    placed = place(job(workers, servers, data_servers), hosts)
    assert sorted((str(one.role), one.rank) for one in placed) == sorted(
        [("controller", 0)]
        + [("paramserver", rank) for rank in range(servers)]
        + [("dataserver", rank) for rank in range(data_servers)]
        + [("worker", rank) for rank in range(workers)]
    )
    for role in (Role.PARAMSERVER, Role.DATASERVER):
        there = counts(placed, role)
        assert max(there.values()) - min(there.get(host.name, 0) for host in hosts) <= 1
    there = counts(placed, Role.WORKER)
    rounds = -(-workers // sum(slots))
    assert all(there.get(host.name, 0) <= rounds * host.slots for host in hosts)
