"""Pushes of several shards at once, through memory that worker and server share."""

from dataclasses import replace

import numpy as np
from test_bad_pushes import ELEMENTS, ONE, SHARDS, TWO, VIEW, Desk, push

from dualshard.common.messages import Attach, Push, Pushed
from dualshard.common.types import Float32, Member, Role

THREE = 303
CROWD = replace(
    VIEW, number=3, members=(*VIEW.members, Member(Role.WORKER, 2, THREE, "", "there", 2))
)


class Memory:
    """One worker's segment: a parameter row and one gradient."""

    def __init__(self) -> None:
        self.vector = np.full(SHARDS * ELEMENTS, np.nan, np.float32)
        self.row = np.full(SHARDS * ELEMENTS, -1, np.float32)

    def attach(self, source: int, wanted: Attach) -> None:
        assert source == ONE

    def gradient(self, source: int, lane: int, begin: int, end: int) -> Float32 | None:
        return self.row[begin:end] if (source, lane) == (ONE, 0) else None

    def parameters(self, source: int, begin: int, end: int) -> Float32 | None:
        return self.vector[begin:end] if source == ONE else None

    def keep_only(self, present: set[int]) -> None:
        assert ONE in present


def shared(*versions: int) -> Push:
    nothing = np.empty(0, np.float32)
    both = {"shards": [0, 1], "versions": list(versions), "shared": True}
    return push(0, gradient=nothing, **both)


def desk(mode: str, staleness: int = 0) -> tuple[Desk, Memory]:
    made, memory = Desk(mode, staleness=staleness), Memory()
    made.sequences[THREE] = 0
    made.server._lanes = memory
    made.view(replace(CROWD, active=0))
    made.view(replace(CROWD, number=4))  # the warm start is over: all take part
    return made, memory


def test_the_answer_names_the_versions_that_were_delivered() -> None:
    """Shard 1 waits for the slowest; meanwhile shard 0, which has let go, moves on."""
    table, memory = desk("ssp", staleness=1)
    assert [to for to, _ in table.say(ONE, shared(0, 0))] == [ONE]
    for source in (TWO, THREE):
        table.say(source, push(0))
    table.say(TWO, push(1))
    assert table.say(ONE, shared(3, 2)) == [], "two clocks ahead of the third at shard 1"
    np.testing.assert_array_equal(memory.vector[:ELEMENTS], 4)
    table.say(TWO, push(0, versions=[4]))
    assert table.versions == [5, 3, 0]
    answers = dict(table.say(THREE, push(1)))
    reply = answers[ONE]
    assert isinstance(reply, Pushed)
    assert reply.versions == [4, 4]
    np.testing.assert_array_equal(memory.vector[: 2 * ELEMENTS], 4)


def test_a_step_is_delivered_shard_by_shard_and_answered_once() -> None:
    table, memory = desk("bsp")
    assert table.say(ONE, shared(0, 0)) == []
    for source in (TWO, THREE):
        told = table.say(source, push(0))
    assert {to for to, _ in told} == {TWO, THREE}
    np.testing.assert_array_equal(memory.vector[:ELEMENTS], 1)
    assert np.isnan(memory.vector[ELEMENTS:]).all()
    assert table.repeat(ONE, shared(0, 0)) == []
    table.say(TWO, push(1))
    answers = dict(table.say(THREE, push(1)))
    assert answers.keys() == {ONE, TWO, THREE}
    assert answers[ONE] == Pushed([0, 1], [1, 1], [0, 0], 3, 0)
    np.testing.assert_array_equal(memory.vector[ELEMENTS : 2 * ELEMENTS], 1)
    np.testing.assert_array_equal(memory.row, -1)
