"""The state machine under every role: what reaches which handler, and which actions come out."""

from typing import Any

import pytest

from dualshard.common.delivery import Courier, Open, Peer, Send, routing_id
from dualshard.common.messages import (
    Ack,
    Envelope,
    Form,
    Heartbeat,
    Message,
    Obituary,
    Pull,
    Pushed,
    Refused,
    WrongOwner,
)
from dualshard.common.node import Exit, Node, Note

PEER = "tcp://peer:1"
CLIENT = routing_id(5)


class Recorder(Node):
    """Notes what it was handed; answers pulls."""

    def __init__(self) -> None:
        super().__init__(Courier(1))
        self.seen: list[tuple[Any, ...]] = []
        self.requests[Pull] = self._on_pull
        self.requests[Obituary] = lambda peer, envelope: self.seen.append(
            ("notice", envelope.message)
        )
        self.replies[Pull] = lambda request, reply: self.seen.append(("reply", request.tag, reply))

    def _on_pull(self, peer: Peer, envelope: Envelope) -> None:
        self.seen.append(("request", peer, envelope.message))
        self.answer(peer, envelope, WrongOwner(7))

    def repeated(self, peer: Peer, envelope: Envelope) -> None:
        self.seen.append(("repeat", peer, envelope.message))

    def refused(self, request: Open, reply: Refused) -> None:
        self.seen.append(("refused", request.tag, reply))
        super().refused(request, reply)

    def expired(self, request: Open) -> None:
        self.seen.append(("expired", request.tag))

    def ticked(self) -> None:
        self.seen.append(("ticked", self.now))

    def happened(self, event: object) -> None:
        self.seen.append(("happened", event))
        self.note("info", "so it did")


@pytest.fixture
def node() -> Recorder:
    return Recorder()


def request(message: Message, sequence: int = 1, form: Form = Form.REQUEST) -> Envelope:
    return Envelope(5, form, sequence, 1, message)


def reply(node: Node, message: Message, sequence: int = 1) -> list[Any]:
    return node.receive(PEER, Envelope(9, Form.REPLY, sequence, 0, message), 1.0)


def test_a_request_is_handled_and_answered(node: Recorder) -> None:
    (send,) = node.receive(CLIENT, request(Pull(0, 3)), 1.0)
    assert send == Send(CLIENT, Envelope(1, Form.REPLY, 1, 0, WrongOwner(7)))
    assert node.seen == [("request", CLIENT, Pull(0, 3))]
    assert node.take() == []


def test_a_repeat_is_answered_from_memory_and_handled_no_more(node: Recorder) -> None:
    first = node.receive(CLIENT, request(Pull(0, 3)), 1.0)
    assert node.receive(CLIENT, request(Pull(0, 3)), 2.0) == first
    assert len(node.seen) == 1


def test_a_repeat_without_a_remembered_reply_is_the_roles_own_matter(node: Recorder) -> None:
    node.requests[Pull] = lambda peer, envelope: None
    node.receive(CLIENT, request(Pull(0, 3)), 1.0)
    assert node.receive(CLIENT, request(Pull(0, 3)), 2.0) == []
    assert node.seen == [("repeat", CLIENT, Pull(0, 3))]


def test_a_reply_comes_back_with_the_tag_of_its_request(node: Recorder) -> None:
    node.ask(PEER, Pull(0, 1), tag="first")
    node.ask(PEER, Pull(0, 2), tag="second")
    assert [send.envelope.message for send in node.take()] == [Pull(0, 1), Pull(0, 2)]
    reply(node, WrongOwner(8), sequence=2)
    reply(node, WrongOwner(8), sequence=2)
    assert node.seen == [("reply", "second", WrongOwner(8))]


def test_a_refusal_is_not_a_reply(node: Recorder) -> None:
    node.ask(PEER, Pull(0, 1), tag="tag")
    node.take()
    assert reply(node, Refused("shard", "no such shard")) == [
        Note("error", "Pull was refused: no such shard")
    ]
    assert node.seen == [("refused", "tag", Refused("shard", "no such shard"))]


@pytest.mark.parametrize("wrong", [Ack(), Pushed([0], [0], [0], 0, 0), Pull(0, 1)])
def test_a_reply_of_a_kind_that_is_no_answer_counts_as_a_refusal(
    node: Recorder, wrong: Message
) -> None:
    node.ask(PEER, Pull(0, 1), tag="tag")
    reply(node, wrong)
    detail = f"{type(wrong).__name__} is no answer to Pull"
    assert node.seen == [("refused", "tag", Refused("unexpected", detail))]
    assert node.courier.open_requests() == []


def test_what_is_not_for_this_role_is_refused_once_and_for_all(node: Recorder) -> None:
    beat = request(Heartbeat(0, "", {}))
    note, send = node.receive(CLIENT, beat, 1.0)
    detail = "Heartbeat is not for this role"
    assert note == Note("warning", "Heartbeat from 0000000000000005 is not for this role; refused")
    assert send.envelope.message == Refused("unexpected", detail)
    assert node.receive(CLIENT, beat, 2.0) == [send]


def test_notices_are_handled_and_not_answered(node: Recorder) -> None:
    death = Obituary("host", 12, 9)
    assert node.receive(CLIENT, request(death, 0, Form.NOTICE), 1.0) == []
    assert node.seen == [("notice", death)]


@pytest.mark.parametrize(
    ("message", "form"),
    [(Pull(0, 1), Form.NOTICE), (Obituary("host", 1, 9), Form.REQUEST), (Ack(), Form.NOTICE)],
)
def test_a_message_in_the_wrong_form_is_not_handled(
    node: Recorder, message: Message, form: Form
) -> None:
    note, *sends = node.receive(CLIENT, request(message, 1, form), 1.0)
    assert isinstance(note, Note)
    assert len(sends) == (form is Form.REQUEST)
    assert node.seen == []


def test_a_tick_repeats_what_is_due_and_reports_what_is_over(node: Recorder) -> None:
    node.ask(PEER, Pull(0, 1), tag="patient")
    node.ask(PEER, Pull(0, 2), tag="hasty", patience=2.0)
    first, _ = node.take()
    assert node.wake_at() == 2.0
    assert node.tick(2.0) == [first]
    assert node.seen == [("expired", "hasty"), ("ticked", 2.0)]
    assert node.wake_at() == 6.0


def test_local_events_give_actions(node: Recorder) -> None:
    assert node.local("it", 4.0) == [Note("info", "so it did")]
    assert (node.seen, node.now) == ([("happened", "it")], 4.0)


def test_actions_are_handed_out_once_and_in_order(node: Recorder) -> None:
    node.do(Exit(0, ""))
    node.note("info", "last")
    assert node.take() == [Exit(0, ""), Note("info", "last")]
    assert node.take() == []


def test_a_plain_node_has_nothing_to_do() -> None:
    node = Node(Courier(1))
    assert node.wake_at() == float("inf")
    assert node.tick(5.0) == node.local("event", 6.0) == []
    assert [type(action) for action in node.receive(CLIENT, request(Pull(0, 1)), 7.0)] == [
        Note,
        Send,
    ]
