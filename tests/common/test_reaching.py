"""A role that gets no answer from somebody it has never heard from: when it looks, what it says."""

from dataclasses import replace
from typing import Any

import numpy as np

from dualshard.common.cluster import EMPTY, make_view
from dualshard.common.delivery import Courier, Send
from dualshard.common.messages import (
    Ack,
    Envelope,
    Fetch,
    Form,
    Heartbeat,
    Join,
    Message,
    Portion,
    Welcome,
)
from dualshard.common.node import Exit, Note, Probe
from dualshard.common.reaching import SILENCE, Probed
from dualshard.common.session import Session
from dualshard.common.types import Member, Role

CONTROLLER = "tcp://10.0.0.1:7077"
SERVER = "tcp://10.0.0.2:9000"
NOTHING = np.empty(0, np.float32)
FETCH = Fetch(False, 0, -1)
FIX = (
    "see that it listens where others get to (--bind, --interface, --advertise), and that no "
    "firewall is between"
)


class Life(Session):
    role = Role.WORKER

    def __init__(self) -> None:
        super().__init__(
            Courier(5),
            controller=CONTROLLER,
            address="",
            host="near",
            pid=77,
            versions={},
            start_timeout=20.0,
        )
        self.replies[Fetch] = lambda request, reply: None

    def ask_for_data(self, now: float) -> list[Any]:
        self.now = now
        self.ask(SERVER, FETCH)
        return self.take()


def answer(life: Life, peer: str, kind: type[Message], reply: Message, now: float) -> list[Any]:
    """The answer to the oldest open request of a kind."""
    request = next(r for r in life.courier.open_requests(peer) if type(r.message) is kind)
    return life.receive(peer, Envelope(9, Form.REPLY, request.envelope.sequence, 0, reply), now)


def member() -> Life:
    """A worker in a cluster with one data server, whose lease lasts long."""
    life = Life()
    life.start(0.0)
    answer(life, CONTROLLER, Join, Welcome(0, {}, 1e6), 0.0)
    server = Member(Role.DATASERVER, 0, 99, SERVER, "far", 1)
    view = make_view(replace(EMPTY, number=1, members=(server,)))
    life.receive(CONTROLLER, Envelope(9, Form.NOTICE, 0, 0, view), 0.0)
    life.tick(0.0)
    answer(life, CONTROLLER, Heartbeat, Ack(), 0.0)
    return life


def probes(actions: list[Any]) -> list[str]:
    return [action.address for action in actions if isinstance(action, Probe)]


def notes(actions: list[Any]) -> list[str]:
    return [action.text for action in actions if isinstance(action, Note)]


def test_a_server_that_never_answers_is_looked_for_and_named() -> None:
    life = member()
    life.ask_for_data(10.0)
    assert life.wake_at() <= 10.0 + SILENCE
    assert probes(life.tick(10.0 + SILENCE - 0.1)) == []
    assert probes(life.tick(10.0 + SILENCE)) == [SERVER]
    said = life.local(Probed(SERVER, "connection refused"), 15.1)
    assert notes(said) == ["cannot reach dataserver-0 at 10.0.0.2:9000: connection refused"]
    beats = [a.envelope.message for a in life.tick(15.2) if isinstance(a, Send)]
    (beat,) = [one for one in beats if isinstance(one, Heartbeat)]
    assert beat.counters["unreachable:dataserver-0:connection refused"] == 1.0
    assert life.leaving is None


def test_after_the_start_time_out_the_role_ends_and_names_both_ends() -> None:
    life = member()
    life.ask_for_data(0.0)
    for now in (5.0, 10.0, 15.0):
        assert probes(life.tick(now)) == [SERVER]
        life.local(Probed(SERVER, "no connection within 3 s"), now + 1)
        assert life.leaving is None
    life.tick(20.0)
    assert life.leaving == Exit(
        1,
        "worker-0 on near cannot reach dataserver-0 at 10.0.0.2:9000, tried for 20 s: "
        f"no connection within 3 s; {FIX}",
    )


def test_whoever_can_be_reached_may_take_its_time() -> None:
    life = member()
    life.ask_for_data(0.0)
    assert probes(life.tick(5.0)) == [SERVER]
    assert notes(life.local(Probed(SERVER, ""), 5.1)) == []
    for now in (10.0, 30.0, 300.0):
        assert probes(life.tick(now)) == []
    assert (life.leaving, life.out_of_reach) == (None, {})


def test_an_answer_ends_the_search() -> None:
    life = member()
    life.ask_for_data(0.0)
    life.tick(5.0)
    life.local(Probed(SERVER, "connection refused"), 5.1)
    assert SERVER in life.out_of_reach
    life.ask_for_data(6.0)
    answer(life, SERVER, Fetch, Portion(0, -1, False, NOTHING, NOTHING), 7.0)
    assert life.out_of_reach == {}
    assert notes(life.local(Probed(SERVER, "connection refused"), 8.0)) == []
    assert probes(life.tick(60.0)) == []
    assert life.leaving is None


def test_one_look_at_a_time_and_each_reason_once() -> None:
    life = member()
    life.ask_for_data(0.0)
    assert probes(life.tick(5.0)) == [SERVER]
    assert probes(life.tick(10.0)) == []
    assert len(notes(life.local(Probed(SERVER, "connection refused"), 11.0))) == 1
    assert probes(life.tick(15.0)) == [SERVER]
    assert notes(life.local(Probed(SERVER, "connection refused"), 16.0)) == []


def test_a_new_life_at_the_address_is_looked_for_afresh() -> None:
    life = member()
    life.ask_for_data(0.0)
    life.tick(5.0)
    life.local(Probed(SERVER, "connection refused"), 5.1)
    gone = make_view(replace(EMPTY, number=2))
    life.receive(CONTROLLER, Envelope(9, Form.NOTICE, 0, 0, gone), 6.0)
    assert life.out_of_reach == {}
    assert probes(life.tick(30.0)) == []


def test_why_the_controller_does_not_answer_is_said_while_it_is_tried_and_at_the_end() -> None:
    life = Life()
    life.start(0.0)
    assert probes(life.tick(5.0)) == [CONTROLLER]
    said = life.local(Probed(CONTROLLER, "its name cannot be resolved"), 5.1)
    assert notes(said) == [
        "no connection to the controller yet: its name cannot be resolved; trying on"
    ]
    ended = [action for action in life.tick(20.0) if isinstance(action, Exit)]
    assert ended == [
        Exit(
            1,
            "the controller did not answer: tried 10.0.0.1:7077 for 20 s (2 tries; its name "
            "cannot be resolved); start it there, or give its address with --controller HOST:PORT",
        )
    ]
