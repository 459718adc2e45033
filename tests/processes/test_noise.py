"""Nonsense on a server's port: it keeps serving, and its memory stays what it was."""

import json
import socket

import numpy as np
import pytest
import zmq

from dualshard.common.messages import Envelope, Form, Pull, Push
from dualshard.common.wire import encode

pytestmark = pytest.mark.processes

GROWTH = 16 << 20
PERIOD = 0.25


def server_of(commands, address):
    """The address of the first parameter server, and the pushes that it has applied."""
    status = commands.start("status", "--controller", address, "--json")
    assert status.wait() == 0
    roles = json.loads(status.out)["roles"]
    (role,) = [role for role in roles if role["name"] == "paramserver-0"]
    return role["address"], role["counters"].get("pushes", 0)


def messages(random):
    """Frames without end: noise, and real messages with a part of them spoilt."""
    arrays = np.ones(9, "f4"), np.empty(0, "f4"), np.empty(0, "f4")
    push = Push(1, [0], [0], 0, 0, 1, 0.0, False, "f32", "f32", [], *arrays)
    while True:
        yield [random.bytes(int(random.integers(0, 300))) for _ in range(random.integers(1, 4))]
        frames = [bytes(f) for f in encode(Envelope(9, Form.REQUEST, 1, 1, Pull(1, 0)))]
        at = int(random.integers(len(frames[0])))
        yield [frames[0][:at] + random.bytes(1) + frames[0][at + 1 :], *frames[1:]]
        yield [bytes(frame) for frame in encode(Envelope(9, Form.REQUEST, 2, 1, push))]


def noise(address, random, peers):
    """A burst of nonsense from peers that speak ZeroMQ, and from one that does not."""
    host, port = address.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port)), 5) as raw:
        raw.sendall(random.bytes(4096))
    stream = messages(random)
    for peer in peers:
        for _ in range(50):
            peer.send_multipart(next(stream))


@pytest.mark.parametrize("seconds", [2.0, pytest.param(60.0, marks=pytest.mark.slow)])
@pytest.mark.timeout(240)
def test_a_server_serves_on_through_noise(training, commands, tmp_path, seconds):
    train = training("--servers", 1)
    controller = (tmp_path / "run" / "logs" / "controller.address").read_text().strip()
    address, before = server_of(commands, controller)
    (server,) = train.roles("paramserver")
    random = np.random.default_rng(5)
    context = zmq.Context()
    try:
        peers = [context.socket(zmq.DEALER) for _ in range(3)]
        for peer in peers:
            peer.set(zmq.LINGER, 0)
            peer.set(zmq.SNDTIMEO, 5000)
            peer.connect(address)
        noise(address, random, peers)
        resident, bursts = server.resident, max(4, int(seconds / PERIOD))
        for _ in range(bursts):
            noise(address, random, peers)
            for peer in peers:  # answers are taken, as any client would
                while peer.poll(0):
                    peer.recv_multipart()
            peers[0].poll(int(1000 * PERIOD))
        assert server.resident - resident < GROWTH
    finally:
        context.destroy(0)
    log = tmp_path / "run" / "logs" / "paramserver-0.log"
    assert "dropped a message from" in log.read_text()
    commands.until(lambda: server_of(commands, controller)[1] > before, 30)
    assert train.popen.poll() is None
