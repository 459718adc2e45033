"""Whatever is wrong with a push is told to its sender alone; the server serves the others."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dualshard.common.cluster import Cluster, DataShape, Parameter, make_view
from dualshard.common.delivery import Courier, Send, routing_id
from dualshard.common.job import Job
from dualshard.common.messages import (
    Ack,
    Envelope,
    Form,
    Message,
    Pull,
    Push,
    Refused,
    Rest,
    Shard,
    Start,
    Welcome,
    WrongOwner,
)
from dualshard.common.session import Welcomed
from dualshard.common.sharding import Table
from dualshard.common.types import Array, Float32, Member, Role
from dualshard.paramserver.state import ParameterServer

CONTROLLER = "tcp://10.0.0.1:7077"
ONE, TWO = 301, 302
NOTHING: Float32 = np.empty(0, np.float32)
SHARDS, ELEMENTS = 3, 16
VIEW = Cluster(
    1,
    "training",
    0,
    -1,
    tuple(Member(Role.WORKER, rank, (ONE, TWO)[rank], "", "there", rank) for rank in range(2)),
    Table(1, (0,) * 1024),
    DataShape(100, 10, 2, (4,), 10),
    (Parameter("weight", True, (SHARDS * ELEMENTS,)),),
    0,
    "",
)


class Desk:
    """A parameter server in the middle of training, and two workers as far as messages go."""

    def __init__(self, mode: str = "async", **train: Any) -> None:
        tables = {
            "train": {"mode": mode, "staleness_scaling": 0.0, **train},
            "optimizer": {"rule": "sgd", "lr": 1.0, "schedule": "constant"},
            "paramserver": {"shard_bytes": 4 * ELEMENTS},
        }
        self.server = ParameterServer(
            Courier(100), controller=CONTROLLER, address="", host="h", pid=1, versions={}
        )
        self.server.start(0.0)
        welcome = Envelope(1, Form.REPLY, 1, 0, Welcome(0, tables, 5.0))
        (welcomed,) = self.server.receive(CONTROLLER, welcome, 0.0)
        assert isinstance(welcomed, Welcomed)
        self.server.configure(Job.from_dict(welcomed.job))
        self.sequences = {ONE: 0, TWO: 0}
        self.view(replace(VIEW, phase="preparing"))
        for shard in range(SHARDS):
            assert self.say(ONE, Start(1, shard, np.zeros(ELEMENTS, np.float32))) == [(ONE, Ack())]
        self.view(replace(VIEW, number=2))

    def view(self, view: Cluster) -> list[tuple[int, Message]]:
        notice = Envelope(1, Form.NOTICE, 0, 0, make_view(view))
        return self._replies(self.server.receive(CONTROLLER, notice, 1.0))

    def say(self, source: int, message: Message) -> list[tuple[int, Message]]:
        """A worker asks something: all answers that are sent now, and to whom."""
        self.sequences[source] += 1
        return self.repeat(source, message)

    def repeat(self, source: int, message: Message) -> list[tuple[int, Message]]:
        """The last request of a worker comes once more."""
        envelope = Envelope(source, Form.REQUEST, self.sequences[source], 1, message)
        return self._replies(self.server.receive(routing_id(source), envelope, 1.0))

    def _replies(self, actions: list[Any]) -> list[tuple[int, Message]]:
        sends = [a for a in actions if isinstance(a, Send) and a.envelope.form is Form.REPLY]
        return [(int.from_bytes(s.peer[1:], "big"), s.envelope.message) for s in sends]  # type: ignore[arg-type]

    @property
    def values(self) -> Array:
        assert self.server.store is not None
        return np.concatenate([held.values for held in self.server.store.shards.values()])

    @property
    def versions(self) -> list[int]:
        assert self.server.store is not None
        return [held.version for held in self.server.store.shards.values()]


def push(shard: int = 1, **changes: Any) -> Push:
    gradient = np.full(ELEMENTS, -1, np.float32)
    arrays = gradient, NOTHING, NOTHING
    plain = Push(1, [shard], [0], 0, 0, 1, 0.0, False, "f32", "f32", [], *arrays)
    return replace(plain, **changes)


ODD = np.arange(ELEMENTS, dtype=np.float32)
HALF = ODD.astype(np.float16)
BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "length": ({"gradient": ODD[:5]}, "shape", "shard 1 takes float32 (16,), the push holds (5,)"),
    "shape": (
        {"gradient": ODD.reshape(4, 4)},
        "shape",
        "shard 1 takes float32 (16,), the push holds (4, 4)",
    ),
    "dtype": ({"gradient": ODD.astype(float)}, "dtype", "shard 1 takes float32, not float64"),
    "version": (
        {"versions": [3]},
        "version",
        "shard 1 is at version 0; the push names version 3 and 1 minibatches",
    ),
    "count": (
        {"count": 0},
        "version",
        "shard 1 is at version 0; the push names version 0 and 0 minibatches",
    ),
    "lane": ({"lane": 7}, "lane", "a worker has lanes 0 to 1, the push is of 7"),
    "lane below": ({"lane": -1}, "lane", "a worker has lanes 0 to 1, the push is of -1"),
    "no shards": (
        {"shards": [], "versions": []},
        "shape",
        "a push names each of its shards once, not 0 shards and 0 versions",
    ),
    "versions": (
        {"versions": [0, 0]},
        "shape",
        "a push names each of its shards once, not 1 shards and 2 versions",
    ),
    "twice": (
        {"shards": [1, 1], "versions": [0, 0], "shared": True},
        "shape",
        "a push names each of its shards once, not 2 shards and 2 versions",
    ),
    "several": (
        {"shards": [1, 2], "versions": [0, 0]},
        "shape",
        "a push names each of its shards once, not 2 shards and 2 versions",
    ),
    "shared": ({"shared": True}, "lane", "lane 0 of the sender is not attached"),
    "encoding": (
        {"encoding": "gzip"},
        "encoding",
        "shard 1 as gzip: no codec 'gzip', only f32, f16, bf16, int8, topk",
    ),
    "code": (
        {"encoding": "f16", "gradient": HALF[:-1]},
        "encoding",
        "shard 1 as f16: f16: payload is float16 (15,), expected float16 (16,)",
    ),
    "factors": (
        {"encoding": "factors", "gradient": ODD, "pieces": [["a", 0, 0, 0]]},
        "encoding",
        "shard 1 as factors: piece 0: expected four whole numbers",
    ),
    "fetch": ({"fetch": "int8"}, "encoding", "values go as f32, f16, bf16, not as 'int8'"),
    "nan": (
        {"gradient": np.full(ELEMENTS, np.nan, np.float32)},
        "nonfinite",
        "the push of shard 1 holds NaN or infinity",
    ),
}


FORM = ("lane", "lane below", "no shards", "versions", "twice", "several", "fetch")
"""What is refused before anybody could wait for it."""
SIGN = {"async": 1.0, "ssp": 1.0, "bsp": 1.0, "local": 1.0, "easgd": -1.0}
"""A push of -1 moves parameters up where it is a gradient, and down where it is parameters."""


@pytest.mark.parametrize("mode", ["async", "ssp", "bsp", "local", "easgd"])
@pytest.mark.parametrize("what", BAD)
def test_a_bad_push_is_refused_and_nothing_else_happens(what: str, mode: str) -> None:
    changes, code, detail = BAD[what]
    lanes = 2 if mode == "async" else 1
    desk = Desk(mode)
    waits = desk.say(ONE, push(2)) == []
    assert waits == (mode in ("bsp", "local")), "one has pushed; at a barrier it waits"
    before, versions = desk.values, desk.versions
    detail = detail.replace("lanes 0 to 1", f"lanes 0 to {lanes - 1}")
    told = desk.say(TWO, push(**changes))
    np.testing.assert_array_equal(desk.values, before)
    assert desk.versions == versions
    # The others are served. Where they step together, a push with bad contents is a push without
    # any: its sender hears of it when the step is over.
    served = desk.say(ONE, push(1))
    later = waits and what not in FORM
    assert told == [] if later else len(told) == 1
    answers = dict(told + served)
    assert answers[TWO] == Refused(code, f"paramserver-0: {detail}")
    assert desk.server.counters[f"refused:{code}:worker-1"] == 1
    if waits and not later:
        assert served == []
    else:
        assert isinstance(answers[ONE], Shard)
        factor = 0.5 if mode == "easgd" else 1.0
        np.testing.assert_array_equal(desk.values[ELEMENTS : 2 * ELEMENTS], factor * SIGN[mode])
        assert desk.versions[1] == 1
    # Its sender may mend it.
    mended = dict(desk.say(TWO, push(1, versions=[desk.versions[1]])))
    mended |= dict(desk.say(ONE, push(1, versions=[1]))) if later else {}
    assert isinstance(mended[TWO], Shard)
    assert desk.versions[1] == (1 if waits and not later else 2)


@pytest.mark.parametrize("shard", [3, -1, 10**9])
@pytest.mark.parametrize("message", [push, lambda shard: Pull(1, shard)], ids=["push", "pull"])
def test_a_shard_that_is_not_here_is_the_wrong_owners(message: Any, shard: int) -> None:
    desk = Desk()
    assert desk.say(TWO, message(shard)) == [(TWO, WrongOwner(1))]
    assert desk.say(TWO, replace(push(), table_epoch=9)) == [(TWO, WrongOwner(1))]
    assert not desk.values.any()
    assert isinstance(desk.say(ONE, push())[0][1], Shard)


def test_a_lane_pushes_once_at_a_time() -> None:
    desk = Desk("bsp")
    assert desk.say(ONE, push()) == []
    ((to, reply),) = desk.say(ONE, push())
    assert (to, type(reply)) == (ONE, Refused)
    assert reply.detail == "paramserver-0: lane 0 has an unanswered push of shard 1"  # type: ignore[attr-defined]
    assert [to for to, _ in desk.say(TWO, push())] == [ONE, TWO]
    np.testing.assert_array_equal(desk.values[ELEMENTS : 2 * ELEMENTS], 1)


def test_a_repeat_of_a_push_that_waits_is_silent_and_of_an_answered_one_changes_nothing() -> None:
    desk = Desk("bsp")
    assert desk.say(ONE, push()) == desk.repeat(ONE, push()) == []
    assert len(desk.say(TWO, push())) == 2
    ((to, again),) = desk.repeat(ONE, push())
    assert (to, type(again)) == (ONE, Shard)
    assert desk.versions == [0, 1, 0]


@pytest.mark.parametrize("mode", ["async", "ssp", "bsp", "local", "easgd"])
def test_a_push_of_one_whom_the_view_does_not_let_train_yet_comes_again(mode: str) -> None:
    """Its own view is ahead: the warm start is over, and the server has not heard it."""
    desk = Desk(mode, quorum=1.0)
    desk.view(replace(VIEW, number=3, active=0))
    assert desk.say(TWO, push()) == [(TWO, WrongOwner(1))]
    assert [to for to, _ in desk.say(ONE, push())] == [ONE]
    desk.view(replace(VIEW, number=4))
    version = desk.versions[1]
    answers = desk.say(TWO, push(versions=[version])) + desk.say(ONE, push(versions=[version]))
    assert {to for to, _ in answers} == {ONE, TWO}


@pytest.mark.parametrize("mode", ["ssp", "bsp"])
def test_a_rest_that_overtakes_the_view_lets_the_others_go_on(mode: str) -> None:
    desk = Desk(mode, staleness=0)
    desk.view(replace(VIEW, number=3, active=0))
    assert desk.say(TWO, Rest(0, 0)) == [(TWO, Ack())]
    desk.view(replace(VIEW, number=4))
    for version in range(2):
        assert [to for to, _ in desk.say(ONE, push(versions=[version]))] == [ONE]


def test_those_who_enter_after_the_warm_start_are_not_waited_for_from_the_beginning() -> None:
    desk = Desk("ssp", staleness=1)
    desk.view(replace(VIEW, number=3, active=0))
    for version in range(5):
        assert [to for to, _ in desk.say(ONE, push(versions=[version]))] == [ONE]
    desk.view(replace(VIEW, number=4))
    assert [to for to, _ in desk.say(ONE, push(versions=[5]))] == [ONE]
    assert desk.say(ONE, push(versions=[6])) == []
    assert {to for to, _ in desk.say(TWO, push(versions=[7]))} == {ONE, TWO}
