"""The fault injector: each kind of fault is applied, counted and traced, as often as it should."""

from collections import Counter

import pytest

from dualshard.common.clock import ManualClock
from dualshard.common.delivery import routing_id
from dualshard.common.memory import FaultPlan, MemoryTransport, Network
from dualshard.common.messages import Envelope, Form, Pull
from dualshard.common.wire import Frames, decode, encode

ADDRESS = "tcp://here:1"
ALL = FaultPlan(drop=0.2, duplicate=0.2, reorder=0.2, jitter=0.01)


class Line:
    """A sender, a receiver that listens, and numbered messages from the one to the other."""

    def __init__(self, plan: FaultPlan | None = None, seed: int = 0) -> None:
        self.clock = ManualClock()
        self.network = Network(self.clock, seed, plan)
        self.sender = self.network.transport(1)
        self.receiver = self.network.transport(2, ADDRESS)
        self.moments: list[float] = []

    def send(self, *numbers: int) -> None:
        for number in numbers:
            assert self.sender.send(ADDRESS, frames(number))

    def arrivals(self) -> list[int]:
        """Let all that flies arrive; the numbers, in order."""
        found = []
        while (moment := self.network.next_delivery()) < float("inf"):
            self.clock.advance_to(moment)
            self.network.deliver()
            for peer, arrived in self.receiver.receive(0.0):
                assert peer == routing_id(1)
                found.append(number(arrived))
                self.moments.append(moment)
        return found

    def traced(self, fate: str) -> list[int]:
        """The numbers of the messages that met this fate, by the trace."""
        lines = [line.split() for line in self.network.trace]
        return [int(line[-1]) for line in lines if line[1] == fate]


def frames(number: int) -> Frames:
    return encode(Envelope(1, Form.REQUEST, number, 1, Pull(0, number)))


def number(arrived: Frames) -> int:
    return decode(arrived).sequence


MANY = range(1, 2001)


def test_without_faults_all_arrive_once_in_order_after_the_delay() -> None:
    line = Line(FaultPlan(delay=0.25))
    line.send(1, 2, 3)
    assert line.receiver.receive(0.0) == []
    assert line.arrivals() == [1, 2, 3]
    assert line.moments == [0.25] * 3
    assert line.network.counts == {"sent": 3, "deliver": 3}
    assert line.network.trace == [
        f"0.250000 deliver 0000000000000001 -> 0000000000000002 Pull REQUEST {n}" for n in (1, 2, 3)
    ]


def test_dropped_messages_are_those_that_do_not_arrive() -> None:
    line = Line(FaultPlan(drop=0.3))
    line.send(*MANY)
    arrived = line.arrivals()
    dropped = line.traced("drop")
    assert sorted(arrived + dropped) == list(MANY)
    assert line.network.counts == {"sent": 2000, "drop": len(dropped), "deliver": len(arrived)}
    assert 500 < len(dropped) < 700
    assert arrived == sorted(arrived)


def test_duplicated_messages_arrive_twice_and_the_others_once() -> None:
    line = Line(FaultPlan(duplicate=0.3))
    line.send(*MANY)
    arrived = Counter(line.arrivals())
    twice = line.traced("duplicate")
    assert arrived == Counter(MANY) + Counter(twice)
    assert line.network.counts["duplicate"] == len(twice)
    assert 500 < len(twice) < 700


def test_delayed_messages_take_up_to_the_jitter_longer_and_keep_their_order() -> None:
    line = Line(FaultPlan(delay=1.0, jitter=0.5))
    line.send(*MANY)
    assert line.arrivals() == list(MANY)
    assert line.network.counts["delay"] == len(line.traced("delay")) == 2000
    assert 1.0 <= line.moments[0] < 1.1
    assert 1.4 < line.moments[-1] <= 1.5


def test_delays_are_spread_evenly() -> None:
    line = Line(FaultPlan(delay=1.0, jitter=0.5))
    for n in MANY:
        line.send(n)
        line.arrivals()
        line.moments[-1] -= 1.5 * (n - 1)
        line.clock.advance_to(1.5 * n)
    below = sum(moment < 1.25 for moment in line.moments)
    assert 900 < below < 1100


def test_reordered_messages_are_overtaken_and_the_others_keep_their_order() -> None:
    line = Line(FaultPlan(reorder=0.3, reorder_delay=0.05))
    line.send(*MANY)
    arrived, late = line.arrivals(), set(line.traced("reorder"))
    assert sorted(arrived) == list(MANY)
    assert line.network.counts["reorder"] == len(late)
    assert 500 < len(late) < 700
    assert [n for n in arrived if n not in late] == [n for n in MANY if n not in late]
    assert [n for n in arrived if n in late] != sorted(late)
    assert line.moments[-1] <= 0.0001 + 0.05


def test_a_cut_loses_both_directions_and_what_is_in_flight_until_healed() -> None:
    line = Line()
    line.send(1)
    line.network.cut(line.sender, line.receiver)
    line.send(2)
    assert line.receiver.send(routing_id(1), frames(3))
    third = line.network.transport(3)
    third.send(ADDRESS, frames(4))
    line.clock.advance_to(1.0)
    line.network.deliver()
    assert [number(arrived) for _, arrived in line.receiver.receive(0.0)] == [4]
    assert line.sender.receive(0.0) == []
    assert line.traced("cut") == [2, 3, 1]
    assert line.network.counts == {"sent": 4, "cut": 3, "deliver": 1}
    line.network.heal()
    line.send(5)
    assert line.arrivals() == [5]


def test_faults_come_together() -> None:
    line = Line(ALL)
    line.send(*MANY)
    arrived = Counter(line.arrivals())
    assert arrived == Counter(MANY) - Counter(line.traced("drop")) + Counter(
        line.traced("duplicate")
    )
    assert {"drop", "duplicate", "delay", "reorder"} < set(line.network.counts)
    for fate, count in line.network.counts.items():
        assert fate == "sent" or len(line.traced(fate)) == count


def history(seed: int) -> tuple[list[str], list[int]]:
    line = Line(ALL, seed)
    line.send(*range(1, 200))
    return line.network.trace, line.arrivals()


def test_one_seed_replays_one_history() -> None:
    assert history(7) == history(7)
    assert history(7) != history(8)


# Names, and roles that go.


def test_replies_go_back_by_name_and_are_known_by_the_address_that_was_asked() -> None:
    line = Line()
    line.send(1)
    assert line.arrivals() == [1]
    assert line.receiver.send(routing_id(1), frames(2))
    line.clock.advance_to(1.0)
    line.network.deliver()
    ((peer, arrived),) = line.sender.receive(0.0)
    assert (peer, number(arrived)) == (ADDRESS, 2)
    line.sender.forget(ADDRESS)
    assert line.receiver.send(routing_id(1), frames(3))
    line.clock.advance_to(2.0)
    line.network.deliver()
    ((peer, _),) = line.sender.receive(0.0)
    assert peer == routing_id(2)


def test_nobody_there_is_counted_as_a_socket_would_treat_it() -> None:
    """An unknown address may come to life; an unknown name is refused (ROUTER_MANDATORY)."""
    line = Line()
    assert line.sender.send("tcp://nowhere:1", frames(1)) is True
    assert line.receiver.send(routing_id(99), frames(2)) is False
    assert line.network.counts == {"sent": 2, "nobody": 2}
    assert line.traced("nobody") == [1, 2]
    assert line.network.next_delivery() == float("inf")


@pytest.mark.parametrize("ending", ["sender", "receiver"])
def test_what_is_in_flight_when_one_end_goes_is_lost_and_counted(ending: str) -> None:
    line = Line()
    line.send(1)
    leaver: MemoryTransport = getattr(line, ending)
    leaver.close(0.0)
    assert line.arrivals() == []
    assert line.network.counts == {"sent": 1, "lost": 1}


def test_a_new_life_at_the_same_address_gets_what_is_sent_from_then_on() -> None:
    line = Line()
    line.send(1)
    line.receiver.close(0.0)
    line.receiver = line.network.transport(5, ADDRESS)
    line.send(2)
    assert line.arrivals() == [2]


def test_a_message_is_what_it_was_when_it_was_sent() -> None:
    """A buffer that is written to while it is lent shows up in memory as it would on a wire."""
    line = Line()
    buffer = bytearray(frames(1)[0])
    line.sender.send(ADDRESS, [memoryview(buffer)])
    buffer[:] = frames(2)[0]
    assert line.arrivals() == [1]


def test_what_is_no_message_flies_as_well() -> None:
    line = Line(FaultPlan(duplicate=1.0))
    line.sender.send(ADDRESS, [b"garbage"])
    line.clock.advance_to(1.0)
    assert line.network.deliver() == 2
    assert [arrived for _, arrived in line.receiver.receive(0.0)] == [[b"garbage"]] * 2
    assert all(entry.endswith(" no message") for entry in line.network.trace)


# Slow links.


def test_over_a_slow_link_messages_queue_behind_each_other() -> None:
    line = Line(FaultPlan(delay=0.25))
    size = sum(map(len, frames(1)))
    line.network.limit(line.sender, line.receiver, delay=2.0, bandwidth=size / 3)
    line.send(1, 2)
    assert line.arrivals() == [1, 2]
    assert line.moments == pytest.approx([5.0, 8.0])
    line.clock.advance_to(20.0)
    line.send(3)
    assert line.arrivals() == [3]
    assert line.moments[2] == pytest.approx(25.0)
    assert line.network.counts["limit"] == len(line.traced("limit")) == 3


def test_the_two_ways_of_a_slow_link_do_not_wait_for_each_other_nor_other_links_for_it() -> None:
    line = Line(FaultPlan(delay=0.25))
    size = sum(map(len, frames(1)))
    line.network.limit(line.sender, line.receiver, delay=0.0, bandwidth=size)
    third = line.network.transport(3)
    line.send(1, 2)
    line.receiver.send(routing_id(1), frames(3))
    third.send(ADDRESS, frames(4))
    moments = {}
    while (moment := line.network.next_delivery()) < float("inf"):
        line.clock.advance_to(moment)
        line.network.deliver()
        for end in (line.sender, line.receiver):
            for _, arrived in end.receive(0.0):
                moments[number(arrived)] = moment
    assert moments == pytest.approx({1: 1.0, 2: 2.0, 3: 1.0, 4: 0.25})
    assert line.network.counts["limit"] == 3


def test_a_far_link_only_delays_and_faults_come_on_top() -> None:
    line = Line(FaultPlan(delay=0.25, jitter=0.5, drop=0.3, duplicate=0.3))
    line.network.limit(line.sender, line.receiver, delay=1.0, bandwidth=float("inf"))
    line.send(*MANY)
    arrived = line.arrivals()
    assert sorted(set(arrived) | set(line.traced("drop"))) == list(MANY)
    assert 1.0 <= line.moments[0] < line.moments[-1] <= 1.5
    assert line.network.counts["limit"] == len(arrived) > 2000 * 0.7


def test_a_limit_replaces_the_one_before() -> None:
    line = Line()
    line.network.limit(line.sender, line.receiver, delay=9.0, bandwidth=1.0)
    line.network.limit(line.receiver, line.sender, delay=1.0, bandwidth=float("inf"))
    line.send(1)
    line.arrivals()
    assert line.moments == [1.0]
