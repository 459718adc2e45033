"""The loop between a state, a transport and a clock, in one thread; and the thread beside it."""

import threading
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

from dualshard.common.clock import ManualClock
from dualshard.common.delivery import Courier, Peer, Send, routing_id
from dualshard.common.errors import RemoteError, UserError
from dualshard.common.loop import Background, Crew, Loop, attempt
from dualshard.common.memory import MemoryTransport, Network
from dualshard.common.messages import (
    Ack,
    Envelope,
    Form,
    Obituary,
    Pull,
    Ready,
    Refused,
    Start,
    WrongOwner,
)
from dualshard.common.node import Exit, Failed, Forget, Node, Note, Trust
from dualshard.common.telemetry import Telemetry
from dualshard.common.transport.contract import Seen
from dualshard.common.types import Role as Kind
from dualshard.common.wire import decode, encode

ADDRESS = "tcp://server:1"


class Role(Node):
    """Keeps what it is told; does what the test has laid out for an event."""

    def __init__(self, incarnation: int) -> None:
        super().__init__(Courier(incarnation))
        self.events: list[Any] = []
        self.ticks: list[float] = []
        self.alarm = float("inf")
        self.requests[Pull] = self._on_pull
        self.requests[Obituary] = self._on_obituary
        self.replies[Pull] = lambda request, reply: self.events.append(reply)

    def _on_pull(self, peer: Peer, envelope: Envelope) -> None:
        self.answer(peer, envelope, WrongOwner(4))

    def _on_obituary(self, peer: Peer, envelope: Envelope) -> None:
        self.note("info", "half done")
        raise RemoteError("nobody of that name")

    def happened(self, event: object) -> None:
        self.events.append(event)
        if isinstance(event, list):
            for action in event:
                self.do(action)

    def ticked(self) -> None:
        self.ticks.append(self.now)
        self.alarm = float("inf")

    def wake_at(self) -> float:
        return min(super().wake_at(), self.alarm)


class Spy:
    """A transport that notes how long it was told to wait, and when it was rung."""

    def __init__(self, inner: MemoryTransport) -> None:
        self.inner, self.address = inner, inner.address
        self.waits: list[float] = []
        self.rings = 0
        self.forgotten: list[Peer] = []
        self.seen, self.trust, self.trouble = inner.seen, inner.trust, inner.trouble
        self.expect, self.report = inner.expect, inner.report

    def send(self, peer: Peer, frames: Any) -> bool:
        return self.inner.send(peer, frames)

    def receive(self, timeout: float) -> list[tuple[Peer, Any]]:
        self.waits.append(timeout)
        return self.inner.receive(timeout)

    def wake(self) -> None:
        self.rings += 1

    def forget(self, peer: Peer) -> None:
        self.forgotten.append(peer)

    def close(self, linger: float) -> None:
        self.inner.close(linger)


class Stage:
    """A client and a server on one network."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.network = Network(self.clock)
        self.performed: list[Any] = []
        self.seen: object = None
        self.client, self.spy, self.loop = self._role(1, "")
        self.server, self.server_spy, self.server_loop = self._role(2, ADDRESS)

    def _role(self, incarnation: int, address: str) -> tuple[Role, Spy, Loop]:
        role, spy = Role(incarnation), Spy(self.network.transport(incarnation, address))
        telemetry = Telemetry(f"role-{incarnation}", self.clock)
        loop = Loop(role, spy, self.clock, telemetry, self.performed.append, self._look)
        return role, spy, loop

    def _look(self) -> object:
        seen, self.seen = self.seen, None
        return seen

    def fly(self) -> None:
        self.clock.advance_to(self.network.next_delivery())
        self.network.deliver()


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_request_goes_round(stage: Stage) -> None:
    stage.client.ask(ADDRESS, Pull(0, 1))
    stage.loop.begin(stage.client.take())
    stage.fly()
    assert stage.server_loop.turn(0.0) is True
    stage.fly()
    assert stage.loop.turn(0.0) is True
    assert stage.client.events == [WrongOwner(4)]
    assert stage.loop.turn(0.0) is False
    assert stage.loop.ended is None


def test_it_waits_until_the_next_timer_and_no_longer_than_it_is_told(stage: Stage) -> None:
    stage.loop.turn(0.5)
    stage.client.alarm = 0.3
    stage.loop.begin([])
    stage.loop.turn(0.5)
    stage.clock.advance_to(0.3)
    stage.loop.turn(0.5)
    assert stage.spy.waits == [0.5, 0.3, 0.0]
    assert stage.client.ticks == [0.3]
    stage.loop.turn(0.5)
    assert stage.client.ticks == [0.3]


def test_posted_events_are_handled_in_order_and_end_the_wait(stage: Stage) -> None:
    stage.loop.post("one")
    stage.loop.post("two")
    assert stage.spy.rings == 2
    assert stage.loop.turn(0.5) is True
    assert stage.client.events == ["one", "two"]
    assert stage.spy.waits == [0.0]


def test_what_follows_from_an_action_that_is_done_at_once_comes_before_the_next() -> None:
    clock, done = ManualClock(), []

    def perform(action: str) -> object:
        done.append(action)
        return [f"sent {action[-1]}"] if action.startswith("compute") else None

    endpoint = Network(clock).transport(1)
    role = Role(1)
    loop = Loop(role, endpoint, clock, Telemetry("role-1", clock), perform)
    loop.begin(["compute 1", "compute 2"])
    assert done == ["compute 1", "sent 1", "compute 2", "sent 2"]


def test_what_look_sees_is_an_event(stage: Stage) -> None:
    stage.seen = "a signal"
    stage.loop.turn(0.0)
    assert stage.client.events == ["a signal"]


def test_actions_in_common_are_performed_and_the_rest_is_handed_on(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dualshard")
    stage.loop.begin([Note("info", "hello"), Forget(ADDRESS), "its own"])
    assert caplog.messages == ["role-1: hello"]
    assert stage.spy.forgotten == [ADDRESS]
    assert stage.performed == ["its own"]


def test_an_exit_ends_it_and_nothing_is_done_after(stage: Stage) -> None:
    stage.loop.post([Exit(3, "enough"), "never performed"])
    stage.loop.post("never handled")
    assert stage.loop.run() == Exit(3, "enough")
    assert stage.performed == []
    assert len(stage.client.events) == 1


def test_messages_that_come_with_an_exit_are_left_alone(stage: Stage) -> None:
    stage.loop.begin([Exit(0, "")])
    stage.server.courier.notify(routing_id(1), Ack())
    stage.server_spy.send(routing_id(1), [b"garbage"])
    stage.fly()
    stage.loop.turn(0.0)
    assert stage.loop.telemetry.counters == {}


def test_what_is_no_message_is_counted_logged_rarely_and_dropped(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    other = encode(Envelope(1, Form.REQUEST, 1, 1, Ready(1), protocol=99))
    for frames in ([b"garbage"], [b""], [], other):
        stage.spy.send(ADDRESS, frames)
        stage.fly()
        stage.server_loop.turn(0.0)
    assert stage.server_loop.telemetry.counters == {"malformed_frames": 4}
    assert caplog.messages == [
        "role-2: dropped a message from b'\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x01': "
        "header is no msgpack: ExtraData"
    ]
    assert stage.server_loop.ended is None


def test_a_peers_fault_that_only_the_role_can_see_is_treated_the_same(stage: Stage) -> None:
    stage.loop.begin([stage.client.courier.notify(ADDRESS, Obituary("host", 1, 9))])
    stage.fly()
    stage.server_loop.turn(0.0)
    assert stage.server_loop.telemetry.counters == {"malformed_frames": 1}
    assert stage.server_loop.ended is None


@pytest.mark.parametrize(
    ("role", "source", "why"),
    [
        (Kind.WORKER, 1, ""),
        (Kind.PARAMSERVER, 1, "a key of role paramserver may not send Pull"),
        (Kind.WORKER, 7, "it claims to be 0000000000000007"),
    ],
)
def test_with_keys_a_message_must_be_its_senders_and_one_that_it_may_send(
    role: Kind, source: int, why: str, stage: Stage
) -> None:
    stage.server_spy.inner.others[routing_id(1)] = Seen(role, "a key")
    stage.spy.send(ADDRESS, encode(Envelope(source, Form.REQUEST, 1, 1, Pull(0, 1))))
    stage.fly()
    stage.server_loop.turn(0.0)
    assert stage.server_loop.telemetry.counters == ({"forbidden_messages": 1} if why else {})
    stage.fly()
    ((_, frames),) = stage.spy.receive(0.0)
    answer = decode(frames).message
    assert answer == (Refused("forbidden", why) if why else WrongOwner(4))


def test_the_transport_counts_with_its_role_and_says_what_troubles_it(stage: Stage) -> None:
    assert stage.server_spy.report is stage.server_loop.telemetry
    assert stage.server.trouble == stage.server_spy.trouble


def test_whom_to_trust_is_told_to_the_transport(stage: Stage) -> None:
    stage.loop.begin([Trust(ADDRESS, "a key"), Trust(routing_id(2), "another")])
    assert stage.spy.inner.trusted == {ADDRESS: "a key", routing_id(2): "another"}


def test_a_message_to_nobody_is_counted(stage: Stage) -> None:
    stage.loop.begin([stage.client.courier.notify(routing_id(99), Ack())])
    assert stage.loop.telemetry.counters == {"unsent_messages": 1}


def test_a_message_that_nobody_would_take_ends_the_role_in_words(stage: Stage) -> None:
    doubles = Start(0, 0, np.zeros(3))  # type: ignore[arg-type]
    stage.loop.begin([Send(ADDRESS, Envelope(1, Form.REQUEST, 1, 1, doubles))])
    stage.loop.turn(0.0)
    (failed,) = stage.client.events
    assert isinstance(failed, Failed)
    assert failed.status == 1
    assert failed.reason.startswith("Start.values: cannot send dtype <f8")


# Work beside the loop.


def raising(error: BaseException) -> Any:
    def work() -> None:
        raise error

    return work


def test_attempt_gives_the_result_or_what_ends_the_role() -> None:
    assert attempt("worker", lambda: "done") == "done"
    refused = UserError("data.source", "x", "a folder", "make one")
    assert attempt("worker", raising(refused)) == Failed(
        2, "data.source = x: expected a folder; make one"
    )
    for error, start in [
        (ValueError("two\nlines"), "worker: ValueError: two lines at "),
        (SystemExit(3), "worker: SystemExit: 3 at "),
    ]:
        failed = attempt("worker", raising(error))
        assert isinstance(failed, Failed)
        assert failed.status == 1
        assert failed.reason.startswith(start)
        assert "test_loop.py:" in failed.reason


def test_work_runs_in_order_in_one_other_thread_and_its_results_are_posted() -> None:
    posted: SimpleQueue[Any] = SimpleQueue()
    beside = Background(posted.put, "beside")
    threads: set[int] = set()

    def work(number: int) -> int:
        threads.add(threading.get_ident())
        return number

    for number in range(20):
        beside.submit(lambda number=number: work(number))
    beside.submit(raising(SystemExit("the model said so")))
    beside.submit(lambda: "still there")
    assert beside.close(10.0) is True
    results = [posted.get_nowait() for _ in range(22)]
    assert results[:20] == list(range(20))
    assert results[20].reason.startswith("beside: SystemExit: the model said so")
    assert results[21] == "still there"
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


def test_several_threads_work_at_once_and_post_in_order() -> None:
    posted: SimpleQueue[Any] = SimpleQueue()
    beside = Background(posted.put, "beside", 2)
    beside.widen(3)
    together, last_is_done = threading.Barrier(3, timeout=20), threading.Event()

    def work(number: int) -> int:
        together.wait()
        if number == 0:
            last_is_done.wait(20)
        if number == 2:
            last_is_done.set()
        return number

    for number in range(3):
        beside.submit(lambda number=number: work(number))
    beside.submit(raising(ValueError("broken")))
    assert beside.close(20.0) is True
    results = [posted.get_nowait() for _ in range(4)]
    assert results[:3] == [0, 1, 2]
    assert results[3].reason.startswith("beside: ValueError: broken")


def test_closing_waits_no_longer_than_it_is_told() -> None:
    go_on = threading.Event()
    beside = Background(lambda event: None, "beside")
    beside.submit(go_on.wait)
    assert beside.close(0.0) is False
    go_on.set()
    assert beside.close(10.0) is True


def test_what_it_counts_is_known_to_the_state(stage: Stage) -> None:
    stage.loop.telemetry.count("malformed_frames", 3)
    assert stage.client.counted == {"malformed_frames": 3}


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("pieces", [0, 1, 2, 7])
def test_a_crew_does_every_piece_once_and_in_its_place(threads: int, pieces: int) -> None:
    crew, done = Crew(threads, "crew"), list[int]()
    try:
        for _ in range(50):
            done.clear()
            work = [lambda n=n: done.append(n) or n * n for n in range(pieces)]
            assert crew.run(work) == [n * n for n in range(pieces)]
            assert sorted(done) == list(range(pieces))
    finally:
        assert crew.close(5.0)


def test_a_crew_finishes_all_and_then_raises() -> None:
    crew, done = Crew(2, "crew"), list[int]()

    def broken() -> None:
        raise RemoteError("no")

    try:
        with pytest.raises(RemoteError, match="no"):
            crew.run([broken, lambda: done.append(1), lambda: done.append(2)])
        assert sorted(done) == [1, 2]
        assert crew.run([lambda: 3, lambda: 4]) == [3, 4]
    finally:
        assert crew.close(5.0)


def test_a_crew_works_side_by_side() -> None:
    crew, meet = Crew(2, "crew"), threading.Barrier(2, timeout=5.0)
    try:
        assert sorted(crew.run([meet.wait, meet.wait])) == [0, 1]
    finally:
        assert crew.close(5.0)
