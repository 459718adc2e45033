"""One small cluster with keys, and everyone who should not be let in: refused, counted, while it
trains on. Then all its keys are changed."""

import contextlib
import re
import socket

import pytest
import zmq

from dualshard.common.keys import KeyRing, read_public
from dualshard.common.messages import Ack, Envelope, Form, Join, Leave, Refused, Snapshot, Stop
from dualshard.common.transport import ZmqTransport
from dualshard.common.types import Role
from dualshard.common.wire import decode, encode
from dualshard.deploy.keygen import copy_for, make_pairs, rotate_pair
from dualshard.deploy.operator import Operator

pytestmark = pytest.mark.processes

HALF_OPEN = 2000
ROLES = ("controller", "paramserver", "dataserver", "worker", "operator")
FORBIDDEN = (Stop(0, "stolen"), Snapshot(1, "/tmp"), Join("paramserver", -1, "", "", 1, {}))
TERABYTE = (
    *(b"\xff", bytes(8), b"\x7f\x03\x01CURVE", bytes(47)),  # the greeting, then a command
    *(b"\x06", (1 << 40).to_bytes(8, "big"), bytes(100)),
)
NOISE = (b"GET / HTTP/1.1\r\n\r\n" + bytes(64), b"".join(TERABYTE))


@pytest.fixture
def keys(tmp_path):
    """Everyone's keys, and those of a worker whose host was broken into."""
    folder = tmp_path / "keys"
    make_pairs(folder, (*ROLES, "worker-stolen"))
    copy_for(folder, "worker-stolen", tmp_path / "stolen")
    return folder


class Cluster:
    """A long training with keys, and its operator, who stays connected."""

    def __init__(self, training, commands, keys, run):
        self._commands = commands
        self.train = training("--workers", 1, "--servers", 1, "--keys", keys)
        self.controller = (run / "logs" / "controller.address").read_text().strip()
        self.operator = Operator(f"tcp://{self.controller}", keys)

    def status(self):
        report = self.operator.status(20.0)
        assert report is not None
        return report

    def count(self, what):
        """What the controller has counted."""
        return self.status()["counters"].get(what, 0)

    def trains_on(self):
        """Wait until it has done more than now."""
        done = self.status()["epochs_done"]
        self._commands.until(lambda: self.status()["epochs_done"] > done, 30)


@pytest.fixture
def cluster(training, commands, keys, tmp_path):
    made = Cluster(training, commands, keys, tmp_path / "run")
    yield made
    made.operator.close()


class Thief:
    """Whoever has the key of one worker, and makes up messages."""

    def __init__(self, folder, controller):
        self.to, self.sequence = f"tcp://{controller}", 0
        self.transport = ZmqTransport(666, keys=KeyRing(folder, "worker"))
        self.transport.expect(self.to, Role.CONTROLLER)

    def ask(self, message, source=666):
        """The answer to a request."""
        self.sequence += 1
        envelope = Envelope(source, Form.REQUEST, self.sequence, self.sequence, message)
        for _ in range(100):
            self.transport.send(self.to, encode(envelope))
            for _, frames in self.transport.receive(0.2):
                answer = decode(frames)
                if answer.sequence == self.sequence:
                    return answer.message
        raise AssertionError(f"no answer to {message}")


def steal(folder, controller):
    """All that a stolen worker's key is good for."""
    thief = Thief(folder, controller)
    try:
        for message in FORBIDDEN:
            answer = thief.ask(message)
            assert isinstance(answer, Refused)
            assert answer.code == "forbidden"
        claims = thief.ask(Leave(0, "somebody else's"), source=0xABCDEF)
        assert isinstance(claims, Refused)
        assert claims.detail == "it claims to be 0000000000abcdef"
        assert thief.ask(Leave(0, "its own")) == Ack()
    finally:
        thief.transport.close(0)


def knock(address, server_key):
    """Noise, a frame of a terabyte, a client without keys, one with a key that nobody knows."""
    for sent in NOISE:
        with socket.create_connection(address, 10) as raw:
            raw.sendall(sent)
    context = zmq.Context()
    peers = [context.socket(zmq.DEALER) for _ in range(2)]
    public, secret = zmq.curve_keypair()
    peers[1].set(zmq.CURVE_PUBLICKEY, public)
    peers[1].set(zmq.CURVE_SECRETKEY, secret)
    peers[1].set(zmq.CURVE_SERVERKEY, server_key)
    for peer in peers:
        peer.set(zmq.LINGER, 0)
        peer.connect(f"tcp://{address[0]}:{address[1]}")
        peer.send_multipart([bytes(9), b"let me in"])
    assert not any(peer.poll(300) for peer in peers)
    context.destroy(0)


@pytest.mark.timeout(180)
def test_a_cluster_with_keys_trains_on_whoever_knocks(cluster, commands, keys, tmp_path):
    before = cluster.status()
    host, _, port = cluster.controller.partition(":")
    with contextlib.ExitStack() as flood:
        for _ in range(HALF_OPEN):
            flood.enter_context(socket.create_connection((host, int(port)), 30))
        knock((host, int(port)), read_public(keys / "public" / "controller.pub").encode())
        steal(tmp_path / "stolen", cluster.controller)
        assert cluster.count("forbidden_messages") == len(FORBIDDEN) + 1
        cluster.trains_on()

    counted = cluster.count
    commands.until(lambda: counted("unfinished_handshakes") >= HALF_OPEN, 30)
    assert counted("unknown_keys") >= 1

    for name in ROLES:
        rotate_pair(keys, name)
    for path in (keys / "public").glob("*-old-*.pub"):
        path.unlink()
    cluster.trains_on()
    after = cluster.status()
    assert [role["pid"] for role in after["roles"]] == [role["pid"] for role in before["roles"]]
    words = r"takes only connections with keys: give --keys DIR, see `dualshard keygen`\n$"
    plain = commands.start("status", "--controller", cluster.controller)
    late = commands.start("worker", "--controller", cluster.controller, "--start-timeout", "2s")
    assert (plain.wait(), late.wait()) == (2, 1)
    assert re.search(
        rf"{cluster.controller}: expected a controller that answers .*{words}", plain.err
    )
    assert re.search(rf"tried {cluster.controller} for 2 s \(\d+ tries\); it .*{words}", late.err)

    commands.until(lambda: counted("failed_handshakes") >= len(NOISE), 30)
    stop = commands.start("stop", "--controller", cluster.controller, "--keys", keys)
    assert stop.wait() == 0, stop.err
    assert cluster.train.wait(30) == 0, cluster.train.err
