"""Two couriers joined by a bad channel: each request is handled once, in bounded space.

Time is a number that the tests move on. The channel's faults are drawn by hypothesis: each message
handed over is lost, repeated or kept back for as long as the example says.
"""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualshard.common import delivery
from dualshard.common.delivery import Arrival, Courier, Peer, Send, routing_id
from dualshard.common.messages import Ack, Done, Envelope, Fetch, Form, Obituary, Pull, Pushed

SERVER = "tcp://server:1"


def pushed(shard: int) -> Pushed:
    """Some reply that says which request it answers."""
    return Pushed([shard], [0], [0], 0, 0)


class Pair:
    """An asking and an answering courier, and the messages between them in both directions."""

    def __init__(self, first_pause: float = 2.0) -> None:
        self.asker = Courier(11, first_pause=first_pause)
        self.server = Courier(22)
        self.client = routing_id(11)
        self.now = 0.0
        self.handled: Counter[int] = Counter()
        self.answered: Counter[int] = Counter()

    def ask(self, number: int, **options: float) -> Envelope:
        return self.asker.ask(SERVER, Pull(0, number), self.now, tag=number, **options).envelope

    def serve(self, envelope: Envelope, *, remember: bool = True) -> list[Envelope]:
        """What the server says to one arriving envelope: its own work, or a remembered reply."""
        arrival, _, again = self.server.receive(self.client, envelope)
        assert isinstance(envelope.message, Pull)
        if again is not None:
            return [again.envelope]
        if arrival is Arrival.REQUEST:
            self.handled[envelope.message.shard] += 1
        elif arrival is not Arrival.REPEAT:
            return []
        reply = pushed(envelope.message.shard)
        return [self.server.answer(self.client, envelope, reply, remember=remember).envelope]

    def accept(self, envelope: Envelope) -> Arrival:
        """A reply reaches the asker: it is checked against the request that it closes."""
        arrival, request, again = self.asker.receive(SERVER, envelope)
        assert again is None
        if arrival is Arrival.REPLY:
            assert request is not None
            assert envelope.message == pushed(request.tag)
            self.answered[request.tag] += 1
        return arrival

    def due(self, now: float) -> list[Envelope]:
        self.now = now
        sends, _ = self.asker.due(now)
        assert all(send.peer == SERVER for send in sends)
        return [send.envelope for send in sends]


# Exactly once.

FATES = st.lists(st.sampled_from(["deliver", "drop", "twice", "later"]), max_size=120)


@settings(max_examples=200)
@given(fates=FATES, requests=st.integers(1, 12), remember=st.booleans(), credit=st.integers(1, 5))
def test_each_request_is_handled_once_and_answered_over_a_bad_channel(
    fates: list[str], requests: int, remember: bool, credit: int
) -> None:
    pair = Pair()
    fate, asked, rounds = iter(fates), 0, 0
    kept: list[Envelope] = []
    flying: list[Envelope] = []

    def launch(envelopes: list[Envelope]) -> None:
        for envelope in envelopes:
            what = next(fate, "deliver")
            if what == "later":
                kept.append(envelope)
            else:
                flying.extend([envelope] * {"deliver": 1, "drop": 0, "twice": 2}[what])

    while asked < requests or pair.asker.open_requests():
        rounds += 1
        assert rounds < 400
        while asked < requests and len(pair.asker.open_requests()) < credit:
            asked += 1
            launch([pair.ask(asked)])
        if not flying:
            launch(pair.due(pair.asker.wake_at()))
            flying += kept[::-1]  # what was kept back arrives late, and in the wrong order
            kept.clear()
        while flying:
            envelope = flying.pop(0)
            if envelope.form is Form.REQUEST:
                launch(pair.serve(envelope, remember=remember))
            else:
                pair.accept(envelope)
            assert pair.server.remembered() <= asked
    expected = dict.fromkeys(range(1, requests + 1), 1)
    assert pair.handled == expected
    assert pair.answered == expected
    assert pair.asker.counters.requests == requests
    assert pair.asker.counters.expired == 0


@given(st.permutations(range(6)))
def test_any_order_of_arrival_gives_the_same(order: list[int]) -> None:
    pair = Pair()
    envelopes = [pair.ask(number) for number in range(6)]
    for index in order:
        (reply,) = pair.serve(envelopes[index])
        assert pair.accept(reply) is Arrival.REPLY
    assert pair.handled == dict.fromkeys(range(6), 1)
    assert pair.asker.open_requests() == []


def test_a_repeat_gets_the_remembered_reply_without_being_seen() -> None:
    pair = Pair()
    request = pair.ask(1)
    (reply,) = pair.serve(request)
    arrival, asked, again = pair.server.receive(pair.client, request)
    assert (arrival, asked) == (Arrival.STALE, None)
    assert again == Send(pair.client, reply)
    assert pair.server.counters.repeats == 1


def test_a_reply_that_is_not_remembered_is_made_afresh() -> None:
    pair = Pair()
    request = pair.ask(1)
    pair.serve(request, remember=False)
    arrival, asked, again = pair.server.receive(pair.client, request)
    assert (arrival, asked, again) == (Arrival.REPEAT, None, None)


def test_a_repeat_before_the_answer_is_not_a_second_request() -> None:
    pair = Pair()
    request = pair.ask(1)
    assert pair.server.receive(pair.client, request)[0] is Arrival.REQUEST
    assert pair.server.receive(pair.client, request)[0] is Arrival.REPEAT


def test_a_repeat_is_answered_where_it_came_from() -> None:
    """A peer that has connected anew has another name; the reply follows it."""
    pair = Pair()
    request = pair.ask(1)
    pair.serve(request)
    _, _, again = pair.server.receive(b"elsewhere", request)
    assert again is not None
    assert again.peer == b"elsewhere"


def test_second_and_unknown_replies_are_stale() -> None:
    pair = Pair()
    (reply,) = pair.serve(pair.ask(1))
    assert pair.accept(reply) is Arrival.REPLY
    assert pair.accept(reply) is Arrival.STALE
    assert pair.accept(Envelope(22, Form.REPLY, 99, 0, Ack())) is Arrival.STALE
    assert pair.answered == {1: 1}


def test_a_reply_from_somebody_else_closes_nothing() -> None:
    pair = Pair()
    (reply,) = pair.serve(pair.ask(1))
    assert pair.asker.receive("tcp://stranger:1", reply)[0] is Arrival.STALE
    assert len(pair.asker.open_requests(SERVER)) == 1


def test_notices_are_sent_once_and_never_sorted_out() -> None:
    pair = Pair()
    notice = Obituary("host", 1, 9)
    send = pair.asker.notify(SERVER, notice)
    assert send.envelope == Envelope(11, Form.NOTICE, 0, 0, notice)
    for _ in range(2):
        assert pair.server.receive(pair.client, send.envelope) == (Arrival.NOTICE, None, None)
    assert pair.asker.due(1e9) == ([], [])
    assert pair.server.remembered() == 0


# Lives: a role that starts again has another incarnation.


def test_a_new_life_of_the_asker_is_not_confused_with_the_old_one() -> None:
    pair = Pair()
    for number in range(3):
        pair.serve(pair.ask(number))
    reborn = Courier(33).ask(SERVER, Pull(0, 0), 0.0).envelope
    assert reborn.sequence == 1
    assert pair.server.receive(routing_id(33), reborn)[0] is Arrival.REQUEST


def test_a_new_life_of_the_server_takes_up_the_open_requests() -> None:
    """At the same address, with an empty window, in the middle of the sequence."""
    pair = Pair()
    for number in range(3):
        pair.accept(*pair.serve(pair.ask(number)))
    pair.ask(3)
    pair.server = Courier(44)
    (repeat,) = pair.due(2.0)
    (reply,) = pair.serve(repeat)
    assert pair.accept(reply) is Arrival.REPLY
    assert pair.handled[3] == 1


# Floors and the window.


def test_the_floor_is_the_oldest_open_request() -> None:
    pair = Pair()
    envelopes = [pair.ask(number) for number in range(3)]
    assert [(e.sequence, e.floor) for e in envelopes] == [(1, 1), (2, 1), (3, 1)]
    pair.accept(*pair.serve(envelopes[1]))
    assert pair.ask(3).floor == 1
    pair.accept(*pair.serve(envelopes[0]))
    assert pair.ask(4).floor == 3


def test_below_the_floor_all_is_forgotten_and_stale() -> None:
    pair = Pair()
    first = pair.ask(1)
    pair.accept(*pair.serve(first))
    pair.serve(pair.ask(2))
    assert pair.server.remembered() == 1
    assert pair.server.receive(pair.client, first) == (Arrival.STALE, None, None)
    assert pair.handled == {1: 1, 2: 1}


@settings(max_examples=50)
@given(st.lists(st.integers(0, 7), min_size=50, max_size=200))
def test_the_window_is_bounded_by_the_credit(closed: list[int]) -> None:
    """Eight requests are open at any time, and any of them may be answered next; replies are
    remembered for as long as the oldest one is open, and then let go."""
    pair = Pair()
    envelopes = [pair.ask(number) for number in range(8)]
    for envelope in envelopes:
        pair.serve(envelope)
    for count, index in enumerate(closed):
        oldest = min(envelope.sequence for envelope in envelopes)
        reply = pair.server.answer(pair.client, envelopes[index], pushed(0))
        pair.asker.receive(SERVER, reply.envelope)
        envelopes[index] = pair.ask(8 + count)
        pair.serve(envelopes[index])
        assert pair.server.remembered() <= 1 + 8 + count - oldest + 1
    for envelope in envelopes:
        pair.asker.receive(SERVER, pair.server.answer(pair.client, envelope, Ack()).envelope)
    pair.serve(pair.ask(0))
    assert pair.server.remembered() == 1


def test_a_full_window_drops_requests_until_its_sender_repeats_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first request stays open while as many as fit behind it are answered. Once it is
    answered too, repeats carry the new floor and are taken, though nothing new is asked."""
    monkeypatch.setattr(delivery, "WINDOW_LIMIT", 4)
    pair = Pair()
    envelopes = [pair.ask(number) for number in range(5)]
    assert pair.server.receive(pair.client, envelopes[0])[0] is Arrival.REQUEST
    for envelope in envelopes[1:4]:
        pair.accept(*pair.serve(envelope))
    assert pair.serve(envelopes[4]) == []
    assert pair.server.counters.overflows == 1
    assert pair.server.remembered() == 4
    late = pair.server.answer(pair.client, envelopes[0], pushed(0))
    pair.accept(late.envelope)
    (repeat,) = pair.due(2.0)
    assert (repeat.sequence, repeat.floor) == (5, 5)
    pair.accept(*pair.serve(repeat))
    assert pair.asker.open_requests() == []
    assert pair.server.remembered() == 1


def test_senders_are_bounded_and_the_longest_silent_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "SENDERS_LIMIT", 3)
    server = Courier(22)
    requests = {name: Courier(name).ask(SERVER, Ack(), 0.0).envelope for name in range(1, 5)}
    for name in (1, 2, 3):
        server.receive(b"", requests[name])
    server.receive(b"", requests[1])
    server.receive(b"", requests[4])
    assert server.remembered() == 3
    assert server.receive(b"", requests[1])[0] is Arrival.REPEAT
    assert server.receive(b"", requests[2])[0] is Arrival.REQUEST


# Time.


def repeats_at(pair: Pair, count: int) -> list[float]:
    moments = []
    for _ in range(count):
        moments.append(pair.asker.wake_at())
        assert pair.due(moments[-1] - 0.001) == []
        assert len(pair.due(moments[-1])) == 1
    return moments


def test_pauses_between_repeats_double_up_to_the_longest() -> None:
    pair = Pair()
    pair.ask(1)
    assert repeats_at(pair, 6) == [2.0, 6.0, 14.0, 24.0, 34.0, 44.0]
    assert pair.asker.counters.retries == 6


def test_a_given_pause_stays_the_same() -> None:
    pair = Pair()
    pair.ask(1, pause=0.5)
    assert repeats_at(pair, 4) == [0.5, 1.0, 1.5, 2.0]


def test_a_long_standstill_is_followed_by_one_repeat() -> None:
    pair = Pair()
    pair.ask(1)
    assert len(pair.due(1000.0)) == 1
    assert pair.due(1000.0) == []
    assert pair.asker.wake_at() == 1004.0


def test_a_deadline_closes_the_request_and_its_reply_is_stale() -> None:
    pair = Pair()
    request = pair.ask(1, patience=5.0)
    assert pair.asker.wake_at() == 2.0
    pair.due(2.0)
    assert pair.asker.wake_at() == 5.0
    sends, expired = pair.asker.due(5.0)
    assert sends == []
    assert [(e.tag, e.tries, e.asked_at, e.message) for e in expired] == [(1, 2, 0.0, Pull(0, 1))]
    assert pair.accept(*pair.serve(request)) is Arrival.STALE
    assert pair.asker.wake_at() == float("inf")
    assert (pair.asker.counters.expired, pair.asker.counters.retries) == (1, 1)


def test_nothing_open_never_wakes() -> None:
    assert Courier(1).wake_at() == float("inf")
    assert Courier(1).due(1e12) == ([], [])


# Peers that go.


def test_forget_closes_what_one_peer_was_asked() -> None:
    courier, other = Courier(1), "tcp://other:1"
    for number in range(3):
        courier.ask(SERVER, Fetch(False, number), 0.0, tag=number)
    courier.ask(other, Done(0, 0, {}), 0.0, tag="kept")
    assert [request.tag for request in courier.forget(SERVER)] == [0, 1, 2]
    assert [request.tag for request in courier.open_requests()] == ["kept"]
    assert courier.forget(SERVER) == []
    assert {send.peer for send in courier.due(5.0)[0]} == {other}


def test_sequence_numbers_go_on_after_forget() -> None:
    """A late reply to a forgotten request must not close a new one."""
    pair = Pair()
    request = pair.ask(1)
    pair.asker.forget(SERVER)
    assert (pair.ask(2).sequence, pair.ask(3).floor) == (2, 2)
    assert pair.accept(*pair.serve(request)) is Arrival.STALE
    assert len(pair.asker.open_requests()) == 2


def test_withdraw_closes_one_request() -> None:
    pair = Pair()
    pair.ask(1)
    pair.ask(2)
    first, second = pair.asker.open_requests(SERVER)
    pair.asker.withdraw(first)
    pair.asker.withdraw(first)
    assert pair.asker.open_requests() == [second]
    assert pair.ask(3).floor == 2


def test_peers_have_sequences_of_their_own() -> None:
    courier = Courier(1)
    peers: list[Peer] = [SERVER, "tcp://other:1", routing_id(5)]
    for count in (1, 2):
        assert [courier.ask(p, Ack(), 0.0).envelope.sequence for p in peers] == [count] * 3


def test_routing_ids_are_distinct_and_never_start_with_zero() -> None:
    """ZeroMQ keeps names that start with a zero byte for itself."""
    names = {routing_id(incarnation) for incarnation in (0, 1, 255, 256, 2**63 - 1)}
    assert len(names) == 5
    assert {name[0] for name in names} == {1}
