"""The worker's copy of the parameters, and where its shards live."""

import numpy as np
import pytest

from dualshard.common.cluster import Parameter
from dualshard.common.sharding import Shards, Table, assign
from dualshard.common.types import Float32, Member, Role
from dualshard.worker.exchange import Exchange, Lane, Replica, owner_address
from dualshard.worker.exchanging import shapes_within

SHARDS = Shards(size=25, shard_elements=10)


def replica() -> Replica:
    return Replica(np.zeros(25, np.float32), SHARDS)


def values(size: int, value: float) -> Float32:
    return np.full(size, value, np.float32)


def test_the_first_shard_is_taken_whatever_its_version() -> None:
    copy = replica()
    assert copy.missing == {0, 1, 2}
    assert copy.take(1, 0, "f32", values(10, 3))
    assert copy.take(2, 7, "f32", values(5, 4))
    assert copy.missing == {0}
    assert copy.versions == [0, 0, 7]
    np.testing.assert_array_equal(copy.vector, np.repeat([0, 3, 4], [10, 10, 5]))


def test_an_overtaken_reply_is_ignored() -> None:
    copy = replica()
    assert copy.take(0, 5, "f32", values(10, 5))
    assert not copy.take(0, 4, "f32", values(10, 4))
    assert copy.take(0, 5, "f32", values(10, 6))
    assert copy.take(0, 6, "f32", values(10, 7))
    assert copy.versions[0] == 6
    assert copy.vector[0] == 7


@pytest.mark.parametrize(("shard", "size"), [(0, 9), (2, 10), (1, 0)])
def test_a_shard_of_another_size_is_ignored(shard: int, size: int) -> None:
    copy = replica()
    assert not copy.take(shard, 1, "f32", values(size, 1))
    assert copy.missing == {0, 1, 2}
    assert not copy.vector.any()


def test_a_view_is_the_shard_of_any_vector() -> None:
    copy, gradient = replica(), np.arange(25, dtype=np.float32)
    np.testing.assert_array_equal(copy.view(gradient, 2), [20, 21, 22, 23, 24])
    assert np.shares_memory(copy.view(gradient, 2), gradient)


def test_a_lane_is_free_when_it_neither_computes_nor_waits() -> None:
    lane = Lane(0, Exchange(0, np.zeros(25, np.float32), steps=1))
    assert lane.free
    lane.computing = True
    assert not lane.free
    lane.computing, lane.exchange.pushing = False, True
    assert not lane.free
    lane.exchange.pushing, lane.exchange.pulling = False, True
    assert not lane.free


def test_every_shard_has_the_address_of_its_owner() -> None:
    owners = assign(SHARDS.weights(), [0, 1, 2], None)
    servers = [
        Member(Role.PARAMSERVER, rank, 100 + rank, f"tcp://there:{rank}", "host", rank)
        for rank in (2, 0, 1)
    ]
    found = [owner_address(shard, SHARDS, Table(1, owners), servers) for shard in range(3)]
    assert sorted(found) == ["tcp://there:0", "tcp://there:1", "tcp://there:2"]
    gone = [server for server in servers if server.address != found[1]]
    assert owner_address(1, SHARDS, Table(1, owners), gone) == ""
    assert owner_address(0, SHARDS, Table(1, owners), gone) == found[0]


def test_what_has_changed_is_told_once_and_neighbours_together() -> None:
    copy = Replica(np.zeros(45, np.float32), Shards(size=45, shard_elements=10))
    for shard, size in ((3, 10), (0, 10), (4, 5)):
        assert copy.take(shard, 1, "f32", values(size, 1))
    assert not copy.take(3, 0, "f32", values(10, 2))
    assert copy.take_changed() == ((0, 10), (30, 45))
    assert copy.take_changed() == ()


def part() -> Replica:
    """The second part, elements 12 to 24, of a net that is cut at 12: shards 2 and 3 of four."""
    shards = Shards(size=25, shard_elements=10, starts=(0, 12))
    return Replica(np.zeros(13, np.float32), shards, shards.of_part(1), 12)


def test_a_part_holds_its_own_shards_from_where_it_begins() -> None:
    copy = part()
    assert (copy.missing, copy.numbers) == ({2, 3}, range(2, 4))
    assert [copy.span(shard) for shard in copy.numbers] == [(0, 10), (10, 13)]
    assert copy.take(3, 4, "f32", values(3, 9))
    assert (copy.missing, copy.versions) == ({2}, [0, 0, 0, 4])
    np.testing.assert_array_equal(copy.vector, np.repeat([0, 9], [10, 3]))
    assert copy.take_changed() == ((10, 13),)


def test_what_is_not_finite_is_named_by_the_parameters_of_the_part() -> None:
    layout = [
        Parameter("low", True, (3, 4)),
        Parameter("one", True, (9,)),
        Parameter("b", True, (4,)),
    ]
    assert shapes_within(layout, part()) == {"one": (9,), "b": (4,)}
    assert shapes_within(layout, replica()) == {"low": (3, 4), "one": (9,), "b": (4,)}
