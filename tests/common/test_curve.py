"""Connections with keys, on loopback: who comes in, as whom, and how keys are changed.

Real sockets: few and quick.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dualshard.common.delivery import Peer, routing_id
from dualshard.common.keys import KeyRing, write_pair
from dualshard.common.transport import Seen, ZmqTransport, new_pair
from dualshard.common.transport.curve import STRANGER
from dualshard.common.types import Role
from dualshard.common.wire import Frames

PATIENCE = 10.0
"""Seconds for what takes less than one unless the machine is very busy."""
ROLES = ("controller", "paramserver", "worker", "operator")


class Counts(Counter[str]):
    """A report that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def count(self, counter: str, by: int = 1) -> None:
        self[counter] += by

    def log_rarely(self, level: str, text: str) -> None:
        self.lines.append(text)


class Keyed(ZmqTransport):
    """A transport with keys, and what it counts."""

    def __init__(self, folder: Path, role: str, incarnation: int, bind: str = "") -> None:
        super().__init__(incarnation, bind, keys=KeyRing(folder, role))
        self.report = self.counts = Counts()


Make = Callable[..., Keyed]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for role in ROLES:
        write_pair(tmp_path / "keys", role, new_pair())
    return tmp_path / "keys"


@pytest.fixture
def make(folder: Path) -> Iterator[Make]:
    """Makes transports with keys, and closes them."""
    made: list[Keyed] = []

    def transport(role: str, incarnation: int, bind: str = "", keys: Path = folder) -> Keyed:
        made.append(Keyed(keys, role, incarnation, bind))
        return made[-1]

    yield transport
    for one in made:
        one.close(0.0)


def exchange(
    transports: list[ZmqTransport], done: Callable[[], object], patience: float = PATIENCE
) -> list[tuple[Peer, Frames]]:
    """Let all take their turns until something holds; all messages that came."""
    came: list[tuple[Peer, Frames]] = []
    for _ in range(int(patience / 0.01)):
        for transport in transports:
            came += transport.receive(0.01 / len(transports))
        if done() or (done is came_any and came):
            return came
    raise AssertionError("it did not come to pass")


def came_any() -> bool:
    """Until a message comes."""
    return False


def talk(server: Keyed, client: Keyed, others: tuple[ZmqTransport, ...] = ()) -> Peer:
    """One question and one answer; whom the server heard."""
    assert client.send(server.address, [b"question", b"x" * 100_000])
    ((peer, frames),) = exchange([server, client, *others], came_any)
    assert [bytes(frame) for frame in frames] == [b"question", b"x" * 100_000]
    assert isinstance(frames[0], bytes)
    assert server.send(peer, [b"answer"])
    ((back, frames),) = exchange([server, client, *others], came_any)
    assert (back, frames) == (server.address, [b"answer"])
    return peer


def test_both_directions_and_what_each_knows_of_the_other(make: Make) -> None:
    server, client = make("controller", 1, "127.0.0.1:0"), make("worker", 2)
    client.expect(server.address, Role.CONTROLLER)
    peer = talk(server, client)
    assert peer == routing_id(2)
    ring = server._curve.ring
    (theirs,) = ring.keys_of(role="worker")
    (ours,) = ring.keys_of(role="controller")
    assert server.seen(peer) == Seen("worker", theirs, "127.0.0.1")
    assert client.seen(server.address) == Seen("controller", ours, "127.0.0.1")
    assert server.seen(b"nobody") == client.seen("tcp://127.0.0.1:1") == STRANGER
    assert server.counts.keys() <= {"lanes_agreed"}
