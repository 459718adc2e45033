"""Sealed lanes between two ends: real sockets for what is sealed, and in between somebody who sees,
keeps and changes it. What the ends say over CURVE passes by here, and the clock is the test's."""

import socket
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import zmq

from dualshard.common.clock import ManualClock
from dualshard.common.delivery import Peer, routing_id
from dualshard.common.sealing import LANE, LEAST, TAG
from dualshard.common.transport import lane as rules
from dualshard.common.transport.lane import MARK, control, parse
from dualshard.common.transport.lanes import LANE_FRAME_LIMIT, LANE_FROM, QUEUED, Lanes
from dualshard.common.wire import Frames, MalformedFrame

TURNS = 400
"""Looks at the sockets, of up to `TURN` ms, until what is awaited must have come."""
TURN = 10
ADDRESS = "tcp://127.0.0.1:7000"
ASKER = routing_id(1)
HEADER = b"\x98the header of a message"
LARGE = b"a parameter that is nobody else's business. " * 1000


class Side:
    """One end: its lanes, what it was sent by lane, and what it has said over CURVE."""

    def __init__(self, clock: ManualClock, name: bytes, bind: str, other: Peer) -> None:
        self.context = zmq.Context()
        self.poller = zmq.Poller()
        self.key, self.others_key = name.hex(), ""
        self.other = other
        self.said: list[Frames] = []
        self.messages: list[tuple[Peer, Frames]] = []
        self.counted: Counter[str] = Counter()
        self.lanes = Lanes(
            self.context,
            self.poller,
            name,
            bind,
            own_key=lambda: self.key,
            key_of=lambda peer: self.others_key,
            tell=self._tell,
            count=lambda counter: self.counted.update([counter]),
            clock=clock,
        )

    def _tell(self, peer: Peer, frames: Frames) -> bool:
        assert peer == self.other
        self.said.append(list(frames))
        return True

    def look(self) -> None:
        for link, _ in self.poller.poll(0):
            self.lanes.drain(link, self.messages)

    def send(self, *frames: bytes) -> bool:
        return self.lanes.send(self.other, list(frames))

    def close(self) -> None:
        self.lanes.close(0)
        self.context.destroy(0)


class Middle:
    """Whoever sits on the wire between the two: passes all on, keeps a copy, can send it again."""

    def __init__(self) -> None:
        self.context = zmq.Context()
        self.poller = zmq.Poller()
        self.front, self.back = self.context.socket(zmq.ROUTER), self.context.socket(zmq.DEALER)
        for link in (self.front, self.back):
            link.set(zmq.LINGER, 0)
            self.poller.register(link, zmq.POLLIN)
        self.front.bind("tcp://127.0.0.1:*")
        self.port = int(self.front.get(zmq.LAST_ENDPOINT).rpartition(b":")[2].rstrip(b"\0"))
        self.target = 0
        self.route = b""
        self.there: list[list[bytes]] = []
        self.back_again: list[list[bytes]] = []
        self.change: Callable[[list[bytes]], list[bytes]] = lambda frames: frames
        self.cut = False

    def lead(self, port: int) -> int:
        """Stand before this port; returns our own."""
        if port != self.target:
            if self.target:
                self.back.disconnect(f"tcp://127.0.0.1:{self.target}")
            self.back.connect(f"tcp://127.0.0.1:{port}")
            self.target = port
        return self.port

    def look(self) -> None:
        for link, _ in self.poller.poll(0):
            frames = link.recv_multipart()
            if self.cut:
                continue
            if link is self.front:
                self.route, *frames = frames
                self.there.append(frames)
                self.back.send_multipart(self.change(frames))
            else:
                self.back_again.append(frames)
                self.front.send_multipart([self.route, *frames])

    def close(self) -> None:
        self.context.destroy(0)


class Pair:
    """Both ends and the middle, by hand."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.asker = Side(self.clock, ASKER, "", ADDRESS)
        self.answerer = self.make_answerer(2)
        self.middle = Middle()

    def make_answerer(self, incarnation: int) -> Side:
        side = Side(self.clock, routing_id(incarnation), "127.0.0.1:0", ASKER)
        side.others_key, self.asker.others_key = self.asker.key, side.key
        return side

    def turn(self) -> None:
        """Carry what was said over CURVE, with the middle's port for the answerer's; look at all
        sockets."""
        for one, other, peer in (
            (self.asker, self.answerer, ASKER),
            (self.answerer, self.asker, ADDRESS),
        ):
            said, one.said = one.said, []
            for frames in said:
                if frames[1] == rules.HERE:
                    port = self.middle.lead(int.from_bytes(frames[-1], "big"))
                    frames[-1] = port.to_bytes(2, "big")
                other.lanes.control(peer, frames)
        poller = zmq.Poller()
        for each in (self.asker.poller, self.answerer.poller, self.middle.poller):
            for link, _ in each.sockets:
                poller.register(link, zmq.POLLIN)
        poller.poll(TURN)
        for side in (self.asker, self.middle, self.answerer):
            side.look()

    def until(self, done: Callable[[], object]) -> None:
        for _ in range(TURNS):
            if done():
                return
            self.turn()
        raise AssertionError("it never came")

    def rest(self) -> None:
        """Let all that is under way arrive."""
        for _ in range(5):
            self.turn()

    def agree(self) -> None:
        """The first large message goes by CURVE, and asks for a lane."""
        assert not self.asker.send(HEADER, LARGE)
        self.until(lambda: self.asker.counted["lanes_agreed"])
        assert self.answerer.counted["lanes_agreed"] == 1

    def pass_on(self, one: Side, *frames: bytes) -> None:
        """A message goes by the lane, and arrives as it was."""
        other = self.answerer if one is self.asker else self.asker
        other.messages.clear()
        assert one.send(*frames)
        self.until(lambda: other.messages)
        ((peer, came),) = other.messages
        assert (peer, [bytes(frame) for frame in came]) == (other.other, list(frames))


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    for side in (made.asker, made.answerer, made.middle):
        side.close()


def counts(side: Side, *names: str) -> list[int]:
    return [side.counted[name] for name in names]


REFUSED = ("unsealed_messages", "replayed_messages")


# Agreeing, and what travels.


def test_large_messages_go_both_ways_and_nobody_can_read_them(pair: Pair) -> None:
    pair.agree()
    for size in (LANE_FROM, 1 << 20, 3_000_001):
        large = np.random.default_rng(size).bytes(size)
        pair.pass_on(pair.asker, HEADER, b"", large)
        pair.pass_on(pair.answerer, HEADER, large)
    pair.pass_on(pair.asker, HEADER, LARGE, LARGE)
    seen = b"".join(b"".join(frames) for frames in pair.middle.there + pair.middle.back_again)
    assert len(seen) > 8_000_000
    for secret in (HEADER, LARGE[:44]):
        assert secret not in seen
    assert counts(pair.answerer, *REFUSED) == counts(pair.asker, *REFUSED) == [0, 0]
    assert counts(pair.asker, "sealed_messages") == [4]


def test_a_lane_is_agreed_on_when_there_is_something_large_and_once(pair: Pair) -> None:
    assert not pair.asker.send(HEADER)
    assert not pair.asker.send(HEADER, b"x" * (LANE_FROM - 1))
    assert pair.asker.said == []
    for _ in range(3):
        assert not pair.asker.send(HEADER, LARGE)
    assert [frames[1] for frames in pair.asker.said] == [rules.HELLO]


def test_whoever_listens_may_be_the_first_with_something_large(pair: Pair) -> None:
    assert not pair.answerer.send(HEADER, LARGE)
    assert [frames[1] for frames in pair.answerer.said] == [rules.WANT]
    pair.until(lambda: pair.asker.counted["lanes_agreed"])
    pair.pass_on(pair.answerer, HEADER, LARGE)


def test_a_received_array_can_be_written(pair: Pair) -> None:
    """The server makes a shard of the memory that a gradient came in."""
    pair.agree()
    pair.pass_on(pair.asker, HEADER, LARGE)
    array = np.frombuffer(pair.answerer.messages[0][1][1], np.uint8)
    array[:] = 7
    pair.pass_on(pair.answerer, HEADER, array.data)


def test_messages_keep_their_order(pair: Pair) -> None:
    pair.agree()
    for number in range(2 * QUEUED):
        assert pair.asker.send(b"%d" % number, LARGE)
    pair.until(lambda: len(pair.answerer.messages) == 2 * QUEUED)
    assert [int(frames[0]) for _, frames in pair.answerer.messages] == [*range(2 * QUEUED)]
    assert counts(pair.answerer, *REFUSED) == [0, 0]


def test_frames_are_used_again_once_they_are_acknowledged(pair: Pair) -> None:
    pair.agree()
    for _ in range(50):
        pair.pass_on(pair.asker, HEADER, LARGE)
        pair.pass_on(pair.answerer, HEADER, LARGE)
    for side in (pair.asker, pair.answerer):
        assert 0 < side.lanes._pool._bytes <= 2 * (len(LARGE) + TAG)


def test_frames_of_one_who_is_gone_do_not_stay_lent_for_ever(pair: Pair) -> None:
    """A worker dies and another takes its place: the memory of what the first has not acknowledged
    is let go, and not counted any more."""
    pair.agree()
    for _ in range(5):
        assert pair.answerer.send(HEADER, LARGE)
    pool, size = pair.answerer.lanes._pool, len(LARGE) + TAG
    assert pool._bytes == 4 * size
    pair.clock.advance_to(pair.clock.now() + rules.PATIENCE)
    pair.answerer.other = routing_id(5)
    pair.answerer.lanes.control(routing_id(5), control(rules.HELLO, b"x" * 32))
    assert pool._bytes == 0


def test_what_no_lane_carries_goes_by_curve(pair: Pair) -> None:
    pair.agree()
    assert not pair.asker.send(HEADER, bytes(LANE_FRAME_LIMIT + 1))
    assert not pair.asker.send(HEADER, *[LARGE] * 64)
    assert not pair.asker.send(HEADER)


def test_a_port_that_cannot_be_reached_costs_no_message(pair: Pair) -> None:
    """Until something has come back by the lane, messages go by CURVE; it is tried again, more
    and more rarely."""
    pair.middle.cut = True
    hellos = 0
    for _ in range(100):
        assert not pair.asker.send(HEADER, LARGE)
        hellos += sum(frames[1] == rules.HELLO for frames in pair.asker.said)
        pair.turn()
        pair.clock.advance_to(pair.clock.now() + 2)
    assert 6 <= hellos <= 10
    pair.middle.cut = False
    pair.clock.advance_to(pair.clock.now() + 100)
    pair.agree()


# Strangers.


def test_captured_messages_are_refused_and_counted(pair: Pair) -> None:
    pair.agree()
    pair.pass_on(pair.asker, HEADER, LARGE)
    pair.pass_on(pair.answerer, HEADER, LARGE)
    stranger = pair.middle.context.socket(zmq.DEALER)
    stranger.connect(f"tcp://127.0.0.1:{pair.middle.target}")
    for frames in pair.middle.there:
        stranger.send_multipart(frames)
        pair.middle.back.send_multipart(frames)
    pair.middle.front.send_multipart([pair.middle.route, *pair.middle.back_again[-1]])
    copies = 2 * len(pair.middle.there)
    pair.until(lambda: pair.answerer.counted["replayed_messages"] == copies)
    pair.until(lambda: pair.asker.counted["replayed_messages"] == 1)
    stranger.close(0)
    assert pair.middle.there[0][0][:LANE] == pair.middle.back_again[0][0][:LANE]
    pair.pass_on(pair.answerer, HEADER, LARGE)  # the way to the asker is still its own
    pair.pass_on(pair.asker, HEADER, LARGE)


def test_a_message_does_not_come_back_to_its_sender(pair: Pair) -> None:
    """Each direction has a key of its own."""
    pair.agree()
    for _ in range(3):
        pair.pass_on(pair.asker, HEADER, LARGE)
    pair.asker.messages.clear()
    pair.middle.front.send_multipart([pair.middle.route, *pair.middle.there[-1]])
    pair.until(lambda: pair.asker.counted["unsealed_messages"])
    assert pair.asker.messages == []


@pytest.mark.parametrize("place", range(2))
def test_what_was_changed_on_the_way_is_refused(pair: Pair, place: int) -> None:
    pair.agree()
    pair.answerer.messages.clear()

    def damaged(frames: list[bytes]) -> list[bytes]:
        frame = bytearray(frames[place])
        frame[-1] ^= 1
        return [*frames[:place], bytes(frame), *frames[place + 1 :]]

    pair.middle.change = damaged
    assert pair.asker.send(HEADER, LARGE)
    pair.until(lambda: sum(counts(pair.answerer, *REFUSED)))
    assert pair.answerer.messages == []
    pair.middle.change = lambda frames: frames
    pair.pass_on(pair.asker, HEADER, LARGE)


def test_nonsense_is_counted_and_does_nothing(pair: Pair) -> None:
    pair.agree()
    number = pair.middle.there[0][0][:LANE]
    nonsense = [
        [b""],
        [b"", b""],
        [b"GET / HTTP/1.1"],
        [bytes(LEAST)],
        [bytes(LEAST), LARGE],
        [number + b"\xff" * 8],
        [number + b"\xff" * (LEAST - LANE)],
        [number + b"\xff" * 100, b""],
        [number + b"\xff" * 100, LARGE],
        [number + b"\xff" * 100] + [bytes(TAG)] * 300,
        [LARGE] * 3,
    ]
    random = np.random.default_rng(7)
    for turn in range(100):
        sizes = random.integers(0, 200, random.integers(1, 5))
        frames = [random.bytes(int(size)) for size in sizes]
        nonsense.append([number + b"\xff" + frames[0], *frames[1:]] if turn % 2 else frames)
    stranger = pair.middle.context.socket(zmq.DEALER)
    stranger.set(zmq.ROUTING_ID, ASKER)
    stranger.connect(f"tcp://127.0.0.1:{pair.middle.target}")
    for frames in nonsense:
        stranger.send_multipart(frames)
    pair.until(lambda: pair.answerer.counted["unsealed_messages"] == len(nonsense))
    assert pair.answerer.messages == []
    pair.pass_on(pair.answerer, HEADER, LARGE)
    pair.pass_on(pair.asker, HEADER, LARGE)
    assert stranger.poll(0) == 0, "nobody answers a stranger"
    stranger.close(0)


def test_a_frame_over_the_limit_ends_the_strangers_connection(pair: Pair) -> None:
    pair.agree()
    stranger = pair.middle.context.socket(zmq.DEALER)
    stranger.set(zmq.RECONNECT_IVL, -1)
    watched = stranger.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    stranger.connect(f"tcp://127.0.0.1:{pair.middle.target}")
    stranger.send(bytes(LANE_FRAME_LIMIT + TAG + 1))
    pair.until(lambda: watched.poll(0))
    stranger.disable_monitor()
    watched.close(0)
    stranger.close(0)
    assert counts(pair.answerer, *REFUSED) == [0, 0]
    pair.pass_on(pair.asker, HEADER, LARGE)


def test_what_makes_no_sense_over_curve_is_malformed(pair: Pair) -> None:
    for frames in (
        [MARK],
        [MARK, b"what"],
        [MARK, b""],
        [b"mark", rules.WANT],
        [MARK, rules.HELLO],
        [MARK, rules.HELLO, b"short"],
        [MARK, rules.WANT, b""],
        [MARK, rules.GONE, b"12345678", b""],
        [MARK, rules.HERE, b"x" * 32, b"x" * 32, b"x" * 9, b"xx", b"", b""],
        [MARK, rules.HELLO, b"x" * 1_000_000],
    ):
        for side in (pair.asker, pair.answerer):
            side.lanes.control(side.other, frames)
            with pytest.raises(MalformedFrame):
                parse(frames)
    for side, frames in (
        (pair.asker, control(rules.HELLO, b"x" * 32)),
        (pair.answerer, control(rules.WANT)),
        (pair.answerer, control(rules.HERE, b"x" * 32, b"x" * 32, b"x" * 9, b"xx")),
    ):
        side.lanes.control(side.other, frames)
        assert parse(frames)[0] == frames[1]
    assert counts(pair.asker, "malformed_frames") == [11]
    assert counts(pair.answerer, "malformed_frames") == [12]
    assert pair.asker.said == pair.answerer.said == []


def test_an_answer_that_nobody_asked_for_makes_no_lane(pair: Pair) -> None:
    fields = b"x" * 32, b"x" * 32, b"x" * 9, b"xx"
    pair.asker.lanes.control(ADDRESS, control(rules.HERE, *fields))
    pair.asker.lanes.control(ADDRESS, control(rules.GONE, b"12345678"))
    pair.asker.lanes.control(ADDRESS, control(rules.GOT, b"12345678", bytes(8)))
    assert len(pair.asker.poller.sockets) == 0


# What ends a lane, and how it comes to stand again.


def test_a_new_life_that_listens_knows_no_lane_and_says_so(pair: Pair) -> None:
    pair.agree()
    pair.answerer.close()
    pair.answerer = pair.make_answerer(3)
    # Whoever takes its place has its key here; else the lane would end at once.
    pair.asker.key, pair.answerer.key = pair.asker.key, routing_id(2).hex()
    pair.asker.others_key = pair.answerer.key
    assert pair.asker.send(HEADER, LARGE)
    pair.clock.advance_to(2)
    assert not pair.asker.send(HEADER, LARGE), "what is repeated goes the safe way"
    assert [frames[1] for frames in pair.asker.said] == [rules.PROBE]
    pair.until(lambda: pair.asker.counted["lanes_agreed"] == 2)
    pair.pass_on(pair.asker, HEADER, LARGE)
    pair.pass_on(pair.answerer, HEADER, LARGE)


def test_a_lane_from_which_nothing_comes_back_is_given_up_and_agreed_on_anew(pair: Pair) -> None:
    pair.agree()
    pair.middle.cut = True
    begin, sent = pair.clock.now(), 0
    while not pair.asker.counted["lanes_lost"]:
        sent += pair.asker.send(HEADER, LARGE)
        pair.turn()
        pair.clock.advance_to(pair.clock.now() + 0.25)
    assert sent == rules.DOUBT / 0.25, "then messages go by CURVE"
    assert 0 <= pair.clock.now() - begin - rules.PATIENCE <= 2
    pair.middle.cut = False
    pair.clock.advance_to(pair.clock.now() + 2)
    assert not pair.asker.send(HEADER, LARGE)
    pair.until(lambda: pair.asker.counted["lanes_agreed"] == 2)
    pair.pass_on(pair.asker, HEADER, LARGE)


def test_a_lane_that_is_used_one_way_is_kept(pair: Pair) -> None:
    """What comes back is small and goes by CURVE: the other end is asked how far it has come."""
    pair.agree()
    for number in range(1, 51):
        assert pair.asker.send(b"%d" % number, LARGE)
        pair.until(lambda number=number: len(pair.answerer.messages) == number)
        pair.until(lambda: not pair.asker.said + pair.answerer.said)
        pair.clock.advance_to(pair.clock.now() + 0.6)
    assert counts(pair.asker, "lanes_lost", "lanes_agreed") == [0, 1]


def test_a_lane_that_was_not_used_for_long_is_still_good(pair: Pair) -> None:
    pair.agree()
    for _ in range(3):
        pair.clock.advance_to(pair.clock.now() + 3600)
        pair.pass_on(pair.asker, HEADER, LARGE)
        pair.rest()
        pair.pass_on(pair.answerer, HEADER, LARGE)
    assert counts(pair.asker, "lanes_lost", "lanes_agreed") == [0, 1]


def test_a_socket_that_has_just_been_closed_is_left_alone(pair: Pair) -> None:
    """What is said over CURVE may end a lane in the same turn in which something has come by it."""
    pair.agree()
    number = pair.middle.there[0][0][:LANE]
    (link,) = [link for link, _ in pair.asker.poller.sockets]
    pair.asker.lanes.control(ADDRESS, control(rules.GONE, number))
    assert link.closed
    assert link in pair.asker.lanes
    pair.asker.lanes.drain(link, pair.asker.messages)
    assert pair.asker.messages == []
    pair.until(lambda: pair.asker.counted["lanes_agreed"] == 2)
    pair.pass_on(pair.asker, HEADER, LARGE)


def test_a_connection_that_was_cut_is_found_again_where_it_comes_from(pair: Pair) -> None:
    """The asker's connection is another one now, and whoever listens does not know before
    something authentic has come by it."""
    pair.agree()
    pair.middle.back.disconnect(f"tcp://127.0.0.1:{pair.middle.target}")
    pair.middle.back.connect(f"tcp://127.0.0.1:{pair.middle.target}")
    pair.pass_on(pair.asker, HEADER, LARGE)
    pair.pass_on(pair.answerer, HEADER, LARGE)
    assert counts(pair.asker, "lanes_lost") == [0]


def test_a_connection_that_is_gone_is_made_anew_by_whoever_has_asked(pair: Pair) -> None:
    pair.agree()
    pair.middle.back.disconnect(f"tcp://127.0.0.1:{pair.middle.target}")
    pair.until(lambda: not pair.answerer.send(HEADER, LARGE))
    assert counts(pair.answerer, "lanes_lost") == [1]
    pair.middle.target = 0
    pair.until(lambda: pair.answerer.counted["lanes_agreed"] == 2)
    pair.pass_on(pair.answerer, HEADER, LARGE)


@pytest.mark.parametrize("whose", ["asker", "answerer"])
def test_a_changed_key_ends_its_lanes(pair: Pair, whose: str) -> None:
    pair.agree()
    pair.pass_on(pair.asker, HEADER, LARGE)
    pair.answerer.messages.clear()
    changed = getattr(pair, whose)
    other = pair.answerer if whose == "asker" else pair.asker
    changed.key = other.others_key = "another"
    assert not pair.asker.send(HEADER, LARGE)
    pair.until(lambda: pair.asker.counted["lanes_agreed"] == 2)
    pair.pass_on(pair.asker, HEADER, LARGE)
    pair.pass_on(pair.answerer, HEADER, LARGE)


def test_a_key_that_is_accepted_no_more_ends_its_lane_and_gets_no_other(pair: Pair) -> None:
    pair.agree()
    pair.pass_on(pair.asker, HEADER, LARGE)
    pair.answerer.messages.clear()
    pair.answerer.others_key = ""
    for _ in range(10):
        pair.asker.send(HEADER, LARGE)
        pair.rest()
        pair.clock.advance_to(pair.clock.now() + 10)
    assert pair.answerer.messages == []
    assert counts(pair.answerer, "lanes_lost", "lanes_agreed") == [1, 1]
    assert not pair.answerer.send(HEADER, LARGE)


def test_what_was_forgotten_is_agreed_on_anew(pair: Pair) -> None:
    pair.agree()
    pair.asker.lanes.forget(ADDRESS)
    pair.asker.lanes.forget(ADDRESS)
    assert not pair.asker.send(HEADER, LARGE)
    pair.until(lambda: pair.asker.counted["lanes_agreed"] == 2)
    pair.pass_on(pair.asker, HEADER, LARGE)


def test_the_port_behind_the_one_that_was_named_is_taken_if_it_is_free(pair: Pair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert port_of_a_lane(pair, port - 1) != port
    assert port_of_a_lane(pair, port - 1) == port


def port_of_a_lane(pair: Pair, named: int) -> int:
    """Where somebody who was told to bind a port listens for sealed messages."""
    side = Side(pair.clock, routing_id(9), f"127.0.0.1:{named}", ASKER)
    side.others_key = "key"
    side.lanes.control(ASKER, control(rules.HELLO, b"x" * 32))
    side.close()
    return int.from_bytes(side.said[-1][-1], "big")
