"""The controller's view: there and back, refusing what is no view, and its arithmetic."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualshard.common.cluster import (
    ELEMENTS_LIMIT,
    EMPTY,
    PHASES,
    Cluster,
    DataShape,
    Parameter,
    layout_rows,
    make_view,
    parse_layout,
    parse_view,
)
from dualshard.common.errors import RemoteError
from dualshard.common.messages import Envelope, Form, View
from dualshard.common.sharding import Table
from dualshard.common.types import Member, Role
from dualshard.common.wire import decode, encode

NATURAL = st.integers(0, 2**63 - 1)
SIZES = st.integers(1, 5)
PARAMETERS = st.builds(
    Parameter,
    st.text(max_size=5),
    st.booleans(),
    st.lists(SIZES, max_size=3).map(tuple),
    st.booleans(),
)
LAYOUTS = st.lists(PARAMETERS, max_size=6).map(tuple)


def STARTS(size: int) -> st.SearchStrategy[tuple[int, ...]]:
    """Where parts of a net of so many elements may begin."""
    if size < 2:
        return st.just(())
    later = st.sets(st.integers(1, size - 1), min_size=1, max_size=3)
    return st.just(()) | later.map(lambda found: (0, *sorted(found)))


CLUSTERS = st.builds(
    Cluster,
    number=NATURAL,
    phase=st.sampled_from(PHASES),
    leg=NATURAL,
    active=st.integers(-1, 100),
    members=st.lists(
        st.builds(Member, st.sampled_from(Role), NATURAL, NATURAL, st.text(), st.text(), NATURAL),
        max_size=4,
    ).map(tuple),
    table=st.builds(Table, NATURAL, st.lists(st.integers(0, 65535), max_size=20).map(tuple)),
    data=st.none()
    | st.builds(DataShape, NATURAL, NATURAL, NATURAL, st.lists(SIZES).map(tuple), NATURAL),
    layout=LAYOUTS,
    status=st.integers(0, 255),
    reason=st.text(),
).flatmap(lambda cluster: STARTS(cluster.size).map(lambda s: replace(cluster, starts=s)))


def cluster(*layout: Parameter) -> Cluster:
    return replace(EMPTY, layout=layout)


@given(CLUSTERS)
def test_a_view_comes_back_over_the_wire(original: Cluster) -> None:
    sent = Envelope(1, Form.NOTICE, 0, 0, make_view(original))
    received = decode([bytes(frame) for frame in encode(sent)]).message
    assert isinstance(received, View)
    assert parse_view(received) == original


def test_the_table_travels_as_little_endian_uint16() -> None:
    view = make_view(replace(EMPTY, table=Table(3, (1, 258))))
    assert (view.table_epoch, view.owners) == (3, b"\x01\x00\x02\x01")


MEMBER = ["worker", 0, 7, "tcp://h:1", "h", 12, ""]
DATA = {
    "samples": 1,
    "test_samples": 1,
    "classes": 2,
    "sample_shape": [4],
    "portion_size": 1,
    "mean": [0.5],
    "std": [0.25],
    "soft": False,
}


@pytest.mark.parametrize(
    "changes",
    [
        {"members": [["dancer", *MEMBER[1:]]]},
        {"members": [MEMBER[:5]]},
        {"members": [[*MEMBER, 1]]},
        {"members": [["worker", float("inf"), *MEMBER[2:]]]},
        {"members": [["worker", "0", *MEMBER[2:]]]},
        {"members": [["worker", 0, 7, ["tcp://h:1"], "h", 12, ""]]},
        {"members": [MEMBER[:-1]]},
        {"members": [[*MEMBER[:-1], b"key"]]},
        {"owners": b"\x00"},
        {"data": {"samples": 1}},
        {"data": {**DATA, "classes": float("nan")}},
        {"data": {**DATA, "sample_shape": 4}},
        {"data": {**DATA, "soft": 1}},
        {"data": {**DATA, "mean": [0.5, 0.5]}},
        {"data": {**DATA, "mean": ["a half"]}},
        {"data": {**DATA, "std": [0.0]}},
        {"data": {**DATA, "std": [float("inf")]}},
        {"layout": [[]]},
        {"layout": [["W"]]},
        {"layout": [["W", True]]},
        {"layout": [["W", True, 3]]},
        {"layout": [["W", 1, False, 3]]},
        {"layout": [["W", True, False, 0]]},
        {"layout": [["W", True, False, float("inf")]]},
        {"layout": [["W", True, False, 1 << 41]]},
        {"phase": "dancing"},
        {"starts": [1]},
        {"starts": [0, 2, 2]},
        {"starts": [0, 3]},
        {"starts": [0, 1.0]},
        {"starts": ["0"]},
    ],
    ids=str,
)
def test_what_is_no_view_is_a_remote_error(changes: dict[str, object]) -> None:
    good = replace(make_view(EMPTY), members=[MEMBER], data=DATA, layout=[["W", True, False, 3]])
    parse_view(good)
    with pytest.raises(RemoteError, match=r"^view 0"):
        parse_view(replace(good, **changes))  # type: ignore[arg-type]


@given(LAYOUTS)
def test_a_layout_comes_back(layout: tuple[Parameter, ...]) -> None:
    assert parse_layout(layout_rows(layout)) == layout


def test_a_layout_says_what_is_wrong_with_it() -> None:
    with pytest.raises(ValueError, match="a parameter with an empty dimension"):
        parse_layout([["W", True, False, 3, 0]])
    with pytest.raises(ValueError, match=f"more than {ELEMENTS_LIMIT} elements"):
        parse_layout([["W", True, False, ELEMENTS_LIMIT], ["b", False, False, 1]])
    with pytest.raises(TypeError, match="expected an integer, got a str"):
        parse_layout([["W", True, False, "3"]])
    with pytest.raises(TypeError, match="expected a text, got a int"):
        parse_layout([[1, True, False, 3]])
    with pytest.raises(TypeError, match="expected true or false, got a int"):
        parse_layout([["W", True, 3]])  # a row from before there was averaged state


def test_members_by_role_and_incarnation() -> None:
    members = tuple(
        Member(role, rank, 10 * rank + len(role), "", "", 0)
        for role, rank in [(Role.WORKER, 1), (Role.PARAMSERVER, 0), (Role.WORKER, 0)]
    )
    view = replace(EMPTY, members=members)
    assert [member.rank for member in view.of_role(Role.WORKER)] == [0, 1]
    assert view.of_role(Role.DATASERVER) == []
    assert view.member(members[0].incarnation) is members[0]
    assert view.member(999) is None
    assert members[0].name == "worker-1"


def test_shards_of_the_layout() -> None:
    shards = cluster(Parameter("W", True, (10, 10))).shards(shard_bytes=64, buckets=8)
    assert (shards.size, shards.shard_elements, shards.buckets, shards.count) == (100, 16, 8, 7)
