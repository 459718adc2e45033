"""A role's life in the cluster, told message by message: the controller's side is the test."""

from dataclasses import replace
from typing import Any

import pytest

from dualshard.common.cluster import EMPTY, Cluster, make_view
from dualshard.common.delivery import Courier, Open, Send, routing_id
from dualshard.common.messages import (
    PROTOCOL,
    Ack,
    Describe,
    Envelope,
    Form,
    Heartbeat,
    Join,
    Leave,
    Message,
    Pull,
    Refused,
    Welcome,
)
from dualshard.common.node import Exit, Failed, Forget, Note, Trust
from dualshard.common.session import FAREWELL, Session, Welcomed, own_versions
from dualshard.common.types import Member, Role

CONTROLLER = "tcp://10.0.0.1:7077"
SERVER = "tcp://10.0.0.2:9000"
LEASE = 10.0
JOB: dict[str, Any] = {"job": {"seed": 1}}


class Life(Session):
    """A worker that notes what happens to it."""

    role = Role.WORKER

    def __init__(self, **options: Any) -> None:
        session: dict[str, Any] = {
            "controller": CONTROLLER,
            "address": "",
            "host": "here",
            "pid": 77,
            "versions": {"protocol": "1"},
        }
        super().__init__(Courier(5), **{**session, **options})
        self.views: list[tuple[int, int]] = []
        self.losses: list[tuple[str, Message]] = []

    def viewed(self, old: Cluster, new: Cluster) -> None:
        self.views.append((old.number, new.number))

    def lost(self, member: Member, request: Open) -> None:
        self.losses.append((member.name, request.message))

    def report(self) -> dict[str, float]:
        return {"steps": 3}


def reply(life: Life, message: Message, kind: type[Message], now: float) -> list[Any]:
    """The controller answers the oldest open request of a kind."""
    request = next(r for r in life.courier.open_requests() if type(r.message) is kind)
    envelope = Envelope(9, Form.REPLY, request.envelope.sequence, 0, message)
    return life.receive(CONTROLLER, envelope, now)


def notice(life: Life, cluster: Cluster, now: float, peer: str = CONTROLLER) -> list[Any]:
    return life.receive(peer, Envelope(9, Form.NOTICE, 0, 0, make_view(cluster)), now)


def sent(actions: list[Any]) -> list[Message]:
    """The messages among some actions; all go to the controller."""
    sends = [action for action in actions if isinstance(action, Send)]
    assert all(send.peer == CONTROLLER for send in sends)
    return [send.envelope.message for send in sends]


def heartbeat(*, requests: int) -> Heartbeat:
    """What a heartbeat says: what delivery has counted, and the role's own report."""
    nothing = {"retries": 0, "repeats": 0, "expired": 0, "overflows": 0}
    return Heartbeat(0, "joining", {"requests": requests, **nothing, "steps": 3})


def exits(actions: list[Any]) -> list[Exit]:
    return [action for action in actions if isinstance(action, Exit)]


def joined(now: float = 0.0) -> Life:
    """A worker that is in and whose first heartbeat has been answered."""
    life = Life()
    life.start(now)
    reply(life, Welcome(2, JOB, LEASE), Join, now)
    life.tick(now)
    reply(life, Ack(), Heartbeat, now)
    return life


def view(number: int, *members: Member, **changes: Any) -> Cluster:
    return replace(EMPTY, number=number, members=members, **changes)


SERVER_0 = Member(Role.PARAMSERVER, 0, 31, SERVER, "there", 1)
OTHER = Member(Role.DATASERVER, 0, 32, "tcp://10.0.0.3:9000", "there", 2)


# Joining.


def test_it_asks_to_join_and_takes_its_rank_and_the_job() -> None:
    life = Life(rank=2, address="tcp://here:1")
    note, *asked = life.start(0.0)
    assert note == Note("info", "joining the controller at 10.0.0.1:7077")
    assert sent(asked) == [Join("worker", 2, "tcp://here:1", "here", 77, {"protocol": "1"})]
    assert reply(life, Welcome(2, JOB, LEASE), Join, 0.5) == [Welcomed(2, JOB)]
    assert life.rank == 2
    assert life.wake_at() == 0.5
    assert sent(life.tick(0.5)) == [heartbeat(requests=1)]


def test_joining_is_tried_again_until_the_time_is_up() -> None:
    life = Life(start_timeout=20.0)
    life.start(0.0)
    tries = []
    while not (ended := exits(life.tick(life.wake_at()))):
        tries.append(life.now)
        assert len(tries) < 50
    assert tries == [0.5 * number for number in range(1, 40)]
    assert life.now == 20.0
    assert ended == [
        Exit(
            1,
            "the controller did not answer: tried 10.0.0.1:7077 for 20 s (40 tries); start it "
            "there, or give its address with --controller HOST:PORT",
        )
    ]


def test_a_controller_that_wants_keys_is_named_as_the_reason() -> None:
    life = Life(start_timeout=20.0)
    life.trouble = {CONTROLLER: "give --keys DIR"}.__getitem__
    life.start(0.0)
    (ended,) = exits(life.tick(20.0))
    assert ended.reason == (
        "the controller did not answer: tried 10.0.0.1:7077 for 20 s (1 tries); give --keys DIR"
    )


def test_a_refused_role_ends_with_the_table_that_it_was_shown() -> None:
    life = Life()
    life.start(0.0)
    table = "protocol  99  1\npython  3.11  3.12"
    assert exits(reply(life, Refused("protocol", table), Join, 1.0)) == [
        Exit(2, f"the controller at 10.0.0.1:7077 refused this role: {table}")
    ]


def test_what_is_no_welcome_ends_the_role_in_words() -> None:
    """Somebody else listens at the address: no crash."""
    life = Life()
    life.start(0.0)
    assert exits(reply(life, Ack(), Join, 1.0)) == [
        Exit(2, "the controller at 10.0.0.1:7077 refused this role: Ack is no answer to Join")
    ]


def test_a_role_that_fails_before_it_is_in_ends_at_once() -> None:
    life = Life()
    life.start(0.0)
    goodbye, exit = life.local(Failed(2, "no such file"), 1.0)
    assert goodbye.envelope.message == Leave(2, "no such file"), "it may have been let in meanwhile"
    assert exit == Exit(2, "no such file")


def test_own_versions_start_with_the_protocol() -> None:
    versions = own_versions()
    assert list(versions) == ["protocol", "python", "numpy", "msgpack"]
    assert versions["protocol"] == str(PROTOCOL)


# The lease.


def test_a_heartbeat_every_tenth_of_the_lease_one_at_a_time() -> None:
    life = joined()
    assert life.wake_at() == 1.0
    assert life.tick(0.9) == []
    assert sent(life.tick(1.0)) == [heartbeat(requests=2)]
    assert life.tick(1.9) == []
    (repeat,) = sent(life.tick(2.0))  # not answered for a tenth of the lease
    assert isinstance(repeat, Heartbeat)
    assert len(life.courier.open_requests()) == 1
    reply(life, Ack(), Heartbeat, 3.1)
    assert len(sent(life.tick(3.1))) == 1


def test_a_heartbeat_can_be_had_at_once() -> None:
    life = joined()
    life.now = 0.3
    life.beat_soon()
    assert life.wake_at() == 0.3
    assert [type(message) for message in sent(life.tick(0.3))] == [Heartbeat]


def test_a_silent_controller_is_lost_after_the_lease() -> None:
    life = joined()
    moments = []
    while not (ended := exits(life.tick(life.wake_at()))):
        moments.append(life.now)
        assert len(moments) < 20
    assert moments == [float(second) for second in range(1, 11)]
    assert life.now == 11.0
    assert ended == [
        Exit(1, "lost the controller at 10.0.0.1:7077: nothing heard for 11.0 s (lease 10 s)")
    ]


def test_whatever_the_controller_says_renews_the_lease() -> None:
    life = joined()
    life.tick(1.0)
    notice(life, view(1), 9.0)
    assert exits(life.tick(19.9)) == []
    reply(life, Ack(), Heartbeat, 19.9)
    assert exits(life.tick(30.8)) == []
    assert len(exits(life.tick(30.9))) == 1


def test_a_role_whose_lease_ran_out_is_put_out() -> None:
    life = joined()
    life.tick(1.0)
    assert exits(reply(life, Refused("unknown", "its lease had run out"), Heartbeat, 1.0)) == [
        Exit(1, "put out by the controller: its lease had run out")
    ]


# The view.


def test_views_come_as_notices_and_with_heartbeats_and_only_newer_ones_count() -> None:
    life = joined()
    notice(life, view(3), 0.1)
    notice(life, view(2), 0.2)
    notice(life, view(3), 0.3)
    life.tick(1.0)
    reply(life, make_view(view(5)), Heartbeat, 1.0)
    notice(life, view(4), 1.1)
    assert life.views == [(0, 3), (3, 5)]
    assert life.cluster.number == 5
    life.tick(2.0)
    (beat,) = [r.message for r in life.courier.open_requests()]
    assert isinstance(beat, Heartbeat)
    assert beat.view == 5


def test_a_view_before_the_welcome_waits_for_the_first_heartbeat() -> None:
    life = Life()
    life.start(0.0)
    notice(life, view(3), 0.1)
    assert life.views == []
    reply(life, Welcome(0, JOB, LEASE), Join, 0.2)
    life.tick(0.2)
    reply(life, make_view(view(3)), Heartbeat, 0.3)
    assert life.views == [(0, 3)]


def test_a_view_of_somebody_else_is_not_believed() -> None:
    life = joined()
    (note,) = notice(life, view(3), 0.1, peer="tcp://10.0.0.66:1")
    assert note == Note("warning", "a view from 0000000000000009, who is not the controller")
    assert life.cluster is EMPTY


def test_a_malformed_view_is_logged_and_the_old_one_stays() -> None:
    life = joined()
    broken = replace(make_view(view(3)), phase="dancing")
    (note,) = life.receive(CONTROLLER, Envelope(9, Form.NOTICE, 0, 0, broken), 0.1)
    assert (note.level, note.text[:26]) == ("error", "view 3: phase 'dancing' is")
    assert life.cluster is EMPTY


def test_the_view_says_whose_names_and_addresses_are() -> None:
    life = joined()
    worker = Member(Role.WORKER, 0, 33, "", "there", 3, "its key")
    server = replace(SERVER_0, key="another")
    trusts = [one for one in notice(life, view(2, worker, server), 1.0) if type(one) is Trust]
    assert trusts == [
        Trust(routing_id(33), "its key"),
        Trust(routing_id(31), "another"),
        Trust(SERVER, "another"),
    ]


def test_a_member_that_is_gone_is_cut_off_and_its_requests_come_back() -> None:
    life = joined()
    notice(life, view(1, SERVER_0, OTHER), 0.1)
    life.ask(SERVER, Pull(0, 1))
    life.ask(OTHER.address, Pull(0, 2))
    life.take()
    assert notice(life, view(2, OTHER), 0.2) == [Forget(SERVER)]
    assert life.losses == [("paramserver-0", Pull(0, 1))]
    assert [r.message for r in life.courier.open_requests()] == [Pull(0, 2)]


def test_a_new_life_at_the_same_address_does_not_inherit_requests() -> None:
    life = joined()
    notice(life, view(1, SERVER_0), 0.1)
    life.ask(SERVER, Pull(0, 1))
    life.take()
    assert notice(life, view(2, replace(SERVER_0, incarnation=99)), 0.2) == [Forget(SERVER)]
    assert life.losses == [("paramserver-0", Pull(0, 1))]
    assert life.courier.open_requests() == []


# Leaving.


def test_a_failing_role_says_why_and_ends_when_the_controller_has_noted_it() -> None:
    life = joined()
    assert sent(life.local(Failed(2, "no such file"), 1.0)) == [Leave(2, "no such file")]
    assert life.local(Failed(1, "and then some"), 1.1) == []
    assert reply(life, Ack(), Leave, 1.2) == [Exit(2, "no such file")]


def test_a_goodbye_is_repeated_and_not_waited_for_longer_than_the_farewell() -> None:
    life = joined()
    life.local(Failed(1, "why"), 1.0)
    goodbyes = 0
    while not (ended := exits(actions := life.tick(life.wake_at()))):
        goodbyes += sent(actions) == [Leave(1, "why")]
        assert goodbyes < 10
    assert goodbyes == 7
    assert (life.now, ended) == (1.0 + FAREWELL, [Exit(1, "why")])


@pytest.mark.parametrize(("status", "own"), [(0, 0), (1, 1), (130, 1)])
def test_at_the_last_view_it_says_goodbye_and_ends(status: int, own: int) -> None:
    life = joined()
    last = view(4, phase="stopped", status=status, reason="it is over")
    assert sent(notice(life, last, 0.5)) == [Leave(own, "")]
    assert sent(notice(life, view(5, phase="stopped"), 0.6)) == []
    assert reply(life, Ack(), Leave, 0.7) == [Exit(own, "it is over")]


def test_one_that_has_said_goodbye_is_not_put_out_by_it() -> None:
    """The answer to its goodbye is lost, and a heartbeat that crossed it is refused."""
    life = joined()
    life.tick(1.0)
    notice(life, view(4, phase="stopped"), 1.1)
    ended = exits(reply(life, Refused("unknown", "it never joined"), Heartbeat, 1.2))
    assert ended == [Exit(0, "")]


def test_one_that_is_leaving_sends_no_heartbeat_and_loses_nobody() -> None:
    life = joined()
    life.local(Failed(1, "why"), 10.9)
    assert sent(life.tick(11.5)) == [Leave(1, "why")]
    assert life.wake_at() > 11.5


def test_a_refused_goodbye_ends_the_role_as_well() -> None:
    life = joined()
    life.local(Failed(1, "why"), 1.0)
    assert exits(reply(life, Refused("unexpected", "who?"), Leave, 1.1)) == [Exit(1, "why")]


def test_other_refusals_are_logged_only() -> None:
    life = joined()
    life.tell(Describe([]))
    life.take()
    refusal = reply(life, Refused("layout", "differs"), Describe, 1.0)
    assert refusal == [Note("error", "Describe was refused: differs")]
    assert life.leaving is None
