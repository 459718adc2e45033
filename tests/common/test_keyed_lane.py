"""Sealed lanes between two transports with keys: whole messages, over real sockets."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq

from dualshard.common.clock import SystemClock
from dualshard.common.delivery import Peer, routing_id
from dualshard.common.keys import KeyRing, write_pair
from dualshard.common.messages import Envelope, Form, Start
from dualshard.common.telemetry import Telemetry
from dualshard.common.transport import ZmqTransport, new_pair
from dualshard.common.types import Role
from dualshard.common.wire import decode, encode, take_over

TURNS = 1000
TURN = 0.01
"""Seconds of one look; all of them are only waited where something is wrong."""
GRADIENT = np.random.default_rng(3).standard_normal(262_144, np.float32)


def transport(folder: Path, role: Role, incarnation: int, bind: str = "") -> ZmqTransport:
    made = ZmqTransport(incarnation, bind, keys=KeyRing(folder, role))
    made.report = Telemetry(str(role), SystemClock())
    return made


class Pair:
    """A server, and a worker that pushes to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = transport(folder, Role.PARAMSERVER, 1, "127.0.0.1:0")
        self.worker = transport(folder, Role.WORKER, 2)
        self.worker.expect(self.server.address, Role.PARAMSERVER)

    def exchange(self, turns: int = TURNS) -> tuple[Peer, np.ndarray]:
        """A gradient goes to the server, which doubles it in the memory that it came in, and
        returns it; what has come back."""
        frames = encode(Envelope(2, Form.REQUEST, 1, 1, Start(1, 0, GRADIENT)))
        assert self.worker.send(self.server.address, frames)
        for _ in range(turns):
            for peer, came in self.server.receive(0):
                message = decode(came).message
                assert isinstance(message, Start)
                ours = take_over(message.values)
                assert ours is not None, "this memory becomes the server's shard"
                ours *= 2
                back = encode(Envelope(1, Form.REPLY, 1, 0, Start(1, 0, ours)))
                assert self.server.send(peer, back)
            for peer, came in self.worker.receive(TURN):
                message = decode(came).message
                assert isinstance(message, Start)
                return peer, message.values
        raise AssertionError(f"no answer: {self.counts()}")

    def counts(self) -> dict[str, dict[str, int]]:
        return {
            "server": dict(self.server.report.counters),
            "worker": dict(self.worker.report.counters),
        }

    def agree(self) -> None:
        for _ in range(TURNS):
            if all(count.get("lanes_agreed") for count in self.counts().values()):
                return
            self.server.receive(0)
            self.worker.receive(TURN)
        raise AssertionError(f"no lane: {self.counts()}")

    def close(self) -> None:
        self.server.close(0.0)
        self.worker.close(0.0)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    for role in Role:
        write_pair(tmp_path / "keys", role, new_pair())
    made = Pair(tmp_path / "keys")
    yield made
    made.close()


def test_gradients_and_fresh_shards_go_by_the_lane(pair: Pair) -> None:
    pair.exchange()
    pair.agree()
    for turn in range(20):
        peer, values = pair.exchange()
        assert peer == pair.server.address
        assert np.array_equal(values, 2 * GRADIENT), turn
    assert pair.counts() == {
        "server": {"lanes_agreed": 1, "sealed_messages": 20},
        "worker": {"lanes_agreed": 1, "sealed_messages": 20},
    }
    assert pair.server.seen(routing_id(2)).role == Role.WORKER


def test_who_comes_by_the_unix_socket_may_have_a_lane_too(pair: Pair) -> None:
    assert pair.worker.shortcut(pair.server.address)
    pair.exchange()
    pair.agree()
    pair.exchange()
    assert pair.counts()["server"] == {"lanes_agreed": 1, "sealed_messages": 1}


def test_a_changed_key_is_agreed_on_anew_and_nothing_is_lost_for_good(pair: Pair) -> None:
    pair.exchange()
    pair.agree()
    write_pair(pair.folder, Role.WORKER, new_pair())
    while pair.counts()["server"]["lanes_agreed"] < 2:
        with contextlib.suppress(AssertionError):  # what was on its way is lost, and repeated
            pair.exchange(turns=30)
    before = pair.counts()["worker"]["sealed_messages"]
    _, values = pair.exchange()
    assert np.array_equal(values, 2 * GRADIENT)
    assert pair.counts()["worker"]["sealed_messages"] == before + 1


def test_nobody_is_let_in_from_a_host_that_has_shown_no_key(pair: Pair) -> None:
    pair.exchange()
    pair.agree()
    port = pair.server._lanes._port
    context = zmq.Context()
    stranger = context.socket(zmq.DEALER)
    stranger.set(zmq.LINGER, 0)
    pair.server._curve.door._hosts.clear()
    stranger.connect(f"tcp://127.0.0.1:{port}")
    stranger.send(b"x" * 100)
    for _ in range(TURNS):
        pair.server.receive(TURN)
        if pair.counts()["server"].get("unknown_hosts"):
            break
    stranger.close()
    context.term()
    assert pair.counts()["server"]["unknown_hosts"] == 1
    assert "unsealed_messages" not in pair.counts()["server"]
