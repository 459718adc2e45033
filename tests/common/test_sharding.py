"""Shards, buckets and the table: exact small cases, real nets, and invariants by hypothesis."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualshard.common.errors import UserError
from dualshard.common.sharding import Shards, Table, assign

MIB = 2**20


def dense(*widths: int) -> int:
    """Elements of a net of fully connected layers with biases."""
    return sum(n * m + m for n, m in itertools.pairwise(widths))


NETS = {
    "ciresan": dense(784, 2500, 2000, 1500, 1000, 500, 10),
    "dominant": dense(784, 128, 10) + dense(25088, 4096) + dense(64, 64, 10),
    "beyond one round of buckets": dense(25088, 16384),
}


def loads(weights: np.ndarray, owners: tuple[int, ...], servers: list[int]) -> np.ndarray:
    owned = np.array(owners)
    return np.array([weights[owned == server].sum() for server in servers])


def check(weights: np.ndarray, owners: tuple[int, ...], servers: list[int]) -> None:
    """All that `assign` guarantees of one table."""
    assert set(owners) <= set(servers)
    held = loads(weights, owners, servers)
    largest = weights.max(initial=0)
    assert held.max() - held.min() <= largest
    bound = (1 - 1 / len(servers)) * largest
    assert held.max() <= held.mean() + bound + 1e-6
    assert held.min() >= held.mean() - bound - 1e-6
    empty = [np.sum((weights == 0) & (np.array(owners) == server)) for server in servers]
    assert max(empty) - min(empty) <= 1


weight_lists = st.lists(st.integers(0, 40), max_size=60).map(lambda w: np.array(w, np.int64))
server_lists = st.lists(st.integers(0, 50), min_size=1, max_size=8, unique=True)


@st.composite
def cut_nets(draw: st.DrawFn) -> Shards:
    """Whole vectors, and such that are cut into up to five parts."""
    size, elements, buckets = (draw(st.integers(*r)) for r in ((0, 5_000), (1, 70), (1, 70)))
    later = draw(st.sets(st.integers(1, max(1, size - 1)), max_size=4)) if size > 1 else set()
    starts = (0, *sorted(later)) if later or (size and draw(st.booleans())) else ()
    return Shards(size, elements, buckets, starts)


shardings = cut_nets()


# ---- shards and buckets


def test_the_shards_of_a_small_vector_written_out() -> None:
    shards = Shards(size=10, shard_elements=4, buckets=2)
    assert shards.count == 3
    assert [shards.span(s) for s in range(3)] == [(0, 4), (4, 8), (8, 10)]
    assert [shards.bucket(s) for s in range(3)] == [0, 1, 0]
    assert shards.weights().tolist() == [4 * (4 + 2), 4 * 4]


def test_the_defaults_are_one_mebibyte_and_1024_buckets_by_a_hash_that_never_changes() -> None:
    shards = Shards(size=5 * 262_144)
    assert shards.span(1) == (262_144, 524_288)
    # 1024 / φ = 632.9; 632 is even, 633 is the first that shares no divisor with 1024.
    assert [shards.bucket(s) for s in range(5)] == [0, 633, 242, 875, 484]
    assert shards.weights()[633] == MIB


def test_no_shard_of_a_cut_net_lies_in_two_parts() -> None:
    shards = Shards(size=15, shard_elements=4, buckets=3, starts=(0, 6, 8))
    spans = [(0, 4), (4, 6), (6, 8), (8, 12), (12, 15)]
    assert [shards.span(s) for s in range(shards.count)] == spans
    assert [shards.of_part(p) for p in range(3)] == [range(2), range(2, 3), range(3, 5)]
    assert [shards.elements_of_part(p) for p in range(3)] == [(0, 6), (6, 8), (8, 15)]
    assert [shards.bucket(s) for s in range(5)] == [0, 1, 2, 0, 1]
    assert shards.weights().tolist() == [4 * (4 + 4), 4 * (2 + 3), 4 * 2]


@given(shardings)
def test_shards_cover_the_vector_once_and_only_the_last_of_a_part_is_short(shards: Shards) -> None:
    spans = [shards.span(s) for s in range(shards.count)]
    borders = [0, *(end for _, end in spans)]
    assert spans == list(itertools.pairwise(borders))
    assert borders[-1] == shards.size
    ends = {*shards.starts, shards.size}
    assert ends <= set(borders)
    sizes = {end: end - begin for begin, end in spans}
    assert all(0 < size <= shards.shard_elements for size in sizes.values())
    assert all(n == shards.shard_elements for end, n in sizes.items() if end not in ends)


@given(shardings)
def test_each_part_owns_whole_shards_that_are_numbered_through(shards: Shards) -> None:
    assert shards.parts == max(1, len(shards.starts))
    owned = [shard for part in range(shards.parts) for shard in shards.of_part(part)]
    assert owned == list(range(shards.count))
    for part in range(shards.parts):
        begin, end = shards.elements_of_part(part)
        spans = [shards.span(shard) for shard in shards.of_part(part)]
        if spans:
            assert (spans[0][0], spans[-1][1]) == (begin, end)


@given(st.integers(1, 5_000), st.integers(1, 70), st.integers(1, 70))
def test_a_net_of_one_part_is_cut_as_one_that_is_whole(size: int, per: int, buckets: int) -> None:
    """Oracle: even slices from the first element on."""
    whole, one = Shards(size, per, buckets), Shards(size, per, buckets, (0,))
    expected = [(begin, min(begin + per, size)) for begin in range(0, size, per)]
    for shards in (whole, one):
        assert [shards.span(s) for s in range(shards.count)] == expected
        assert shards.of_part(0) == range(len(expected))
    assert one.weights().tolist() == whole.weights().tolist()


@pytest.mark.parametrize(
    ("starts", "words"),
    [
        ((1, 5), "the first part begins at element 1, not at 0"),
        ((0, 5, 5), "part 2 begins at element 5, part 1 at 5"),
        ((0, 5, 3), "part 2 begins at element 3, part 1 at 5"),
        ((0, 5, 10), "part 2 begins at element 10 of 10"),
    ],
)
def test_parts_that_cannot_be_are_refused(starts: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}$"):
        Shards(10, 4, 2, starts)


@pytest.mark.parametrize("part", [-1, 2])
def test_a_part_that_does_not_exist_is_refused(part: int) -> None:
    shards = Shards(10, 4, 2, (0, 5))
    with pytest.raises(IndexError, match=f"^part {part} of 2$"):
        shards.of_part(part)
    with pytest.raises(IndexError, match=f"^part {part} of 2$"):
        shards.elements_of_part(part)


@given(shardings)
def test_no_run_of_as_many_shards_as_buckets_collides(shards: Shards) -> None:
    hashed = [shards.bucket(s) for s in range(shards.count)]
    assert all(0 <= bucket < shards.buckets for bucket in hashed)
    for begin in range(0, shards.count, 7):
        window = hashed[begin : begin + shards.buckets]
        assert len(set(window)) == len(window)


@given(shardings)
def test_shards_of_is_the_inverse_of_bucket(shards: Shards) -> None:
    found = {s: b for b in range(shards.buckets) for s in shards.shards_of(b)}
    assert found == {s: shards.bucket(s) for s in range(shards.count)}


@given(shardings)
def test_weights_are_the_bytes_of_the_shards_in_each_bucket(shards: Shards) -> None:
    expected = Counter[int]()
    for shard in range(shards.count):
        begin, end = shards.span(shard)
        expected[shards.bucket(shard)] += 4 * (end - begin)
    weights = shards.weights()
    assert weights.dtype == np.int64
    assert weights.tolist() == [expected[b] for b in range(shards.buckets)]


def test_an_empty_vector_has_no_shards() -> None:
    shards = Shards(size=0, buckets=3)
    assert shards.count == 0
    assert shards.weights().tolist() == [0, 0, 0]
    assert list(shards.shards_of(2)) == []


@pytest.mark.parametrize("shard", [-1, 3])
def test_a_shard_that_does_not_exist_is_refused(shard: int) -> None:
    shards = Shards(size=10, shard_elements=4, buckets=2)
    with pytest.raises(IndexError, match=f"^shard {shard} of 3$"):
        shards.span(shard)
    with pytest.raises(IndexError, match=f"^shard {shard} of 3$"):
        shards.bucket(shard)


@pytest.mark.parametrize("bucket", [-1, 2])
def test_a_bucket_that_does_not_exist_is_refused(bucket: int) -> None:
    with pytest.raises(IndexError, match=f"^bucket {bucket} of 2$"):
        Shards(size=10, shard_elements=4, buckets=2).shards_of(bucket)


def test_impossible_settings_name_their_key() -> None:
    with pytest.raises(UserError) as no_bytes:
        Shards(size=10, shard_elements=0)
    assert str(no_bytes.value) == (
        "paramserver.shard_bytes = 0: expected at least 4 (one element); try shard_bytes = 1048576"
    )
    with pytest.raises(UserError) as no_buckets:
        Shards(size=10, buckets=0)
    assert str(no_buckets.value) == (
        "paramserver.buckets = 0: expected at least 1; try buckets = 1024"
    )


# ---- the table


def test_a_small_table_written_out() -> None:
    # 9 -> a, 5 -> b, 5 -> b, 2 -> a; of the two empty buckets each gets one.
    assert assign([5, 0, 9, 5, 0, 2], servers=[7, 3]) == (7, 3, 3, 7, 7, 3)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("servers", [2, 3, 4, 5])
def test_real_nets_stay_within_1_2_of_the_mean(net: str, servers: int) -> None:
    weights = Shards(NETS[net]).weights()
    ranks = list(range(servers))
    owners = assign(weights, ranks)
    check(weights, owners, ranks)
    held = loads(weights, owners, ranks)
    assert held.sum() == 4 * NETS[net]
    assert held.max() <= 1.2 * held.mean()
    # And after one joins, and after the first one leaves.
    joined = assign(weights, [*ranks, servers], owners)
    held = loads(weights, joined, [*ranks, servers])
    assert held.max() <= 1.2 * held.mean()
    left = assign(weights, ranks[1:], owners)
    held = loads(weights, left, ranks[1:])
    assert held.max() <= 1.2 * held.mean()


@given(weight_lists, server_lists)
def test_a_first_table_is_balanced(weights: np.ndarray, servers: list[int]) -> None:
    owners = assign(weights, servers)
    assert len(owners) == len(weights)
    check(weights, owners, servers)


@given(weight_lists, server_lists, st.data())
def test_any_earlier_table_leads_to_balance_and_no_server_both_gives_and_receives(
    weights: np.ndarray, servers: list[int], data: st.DataObject
) -> None:
    owner = st.integers(0, 12)
    size = len(weights)
    previous = data.draw(st.lists(owner, min_size=size, max_size=size))
    owners = assign(weights, servers, previous)
    check(weights, owners, servers)
    for kind in (weights > 0, weights == 0):
        moved = [
            (a, b)
            for a, b, counts in zip(previous, owners, kind, strict=True)
            if counts and a != b and a in servers
        ]
        assert not {a for a, _ in moved} & {b for _, b in moved}


@given(weight_lists, server_lists)
def test_the_same_servers_keep_their_table_in_any_order(
    weights: np.ndarray, servers: list[int]
) -> None:
    owners = assign(weights, servers)
    assert assign(weights, servers, owners) == owners
    assert assign(weights, servers[::-1]) == owners


@given(weight_lists, server_lists, st.integers(1, 3))
def test_joining_servers_only_receive(
    weights: np.ndarray, servers: list[int], joining: int
) -> None:
    new = [100 + k for k in range(joining)]
    before = assign(weights, servers)
    after = assign(weights, [*servers, *new], before)
    check(weights, after, [*servers, *new])
    assert all(b in new for a, b in zip(before, after, strict=True) if a != b)


@given(weight_lists, server_lists.filter(lambda s: len(s) > 1), st.data())
def test_leaving_servers_move_their_own_buckets_only(
    weights: np.ndarray, servers: list[int], data: st.DataObject
) -> None:
    gone = data.draw(st.sets(st.sampled_from(servers), max_size=len(servers) - 1))
    left = [server for server in servers if server not in gone]
    before = assign(weights, servers)
    after = assign(weights, left, before)
    check(weights, after, left)
    assert all((a in gone) == (a != b) for a, b in zip(before, after, strict=True))


@given(st.integers(0, 200), st.integers(1, 9))
def test_among_equal_buckets_a_joining_server_takes_the_fewest_that_balance(
    buckets: int, servers: int
) -> None:
    before = assign([MIB] * buckets, range(servers))
    after = assign([MIB] * buckets, range(servers + 1), before)
    assert Counter(after)[servers] == buckets // (servers + 1)


@given(weight_lists, st.lists(server_lists, min_size=2, max_size=6))
def test_a_long_history_of_members_stays_balanced(
    weights: np.ndarray, history: list[list[int]]
) -> None:
    owners = None
    for servers in history:
        owners = assign(weights, servers, owners)
        check(weights, owners, servers)


def test_more_servers_than_shards_leaves_some_without_bytes_but_not_without_buckets() -> None:
    weights = Shards(size=3 * 262_144 - 1, buckets=64).weights()
    owners = assign(weights, range(5))
    assert sorted(loads(weights, owners, list(range(5)))) == [0, 0, MIB - 4, MIB, MIB]
    assert sorted(Counter(owners).values()) == [12, 12, 13, 13, 14]


def test_a_table_is_a_value() -> None:
    table = Table(epoch=3, owners=(0, 1))
    assert table == Table(3, (0, 1))
    assert table != Table(4, (0, 1))
