"""The role commands, one process each, as in four terminals: together, and with one missing."""

import json
import re
import socket
import time

import pytest

from dualshard.common.messages import PROTOCOL, Envelope, Form, Join, Refused
from dualshard.common.transport import ZmqTransport
from dualshard.common.wire import decode, encode

pytestmark = pytest.mark.processes

SMALL = ("--set", "job.epochs=2")


@pytest.fixture
def controller(commands):
    """Starts a controller on a free port; returns the command and its address."""

    def start(*arguments):
        command = commands.start("controller", "--bind", "127.0.0.1:0", *arguments)
        commands.until(lambda: "waiting at " in command.err or command.popen.poll() is not None, 30)
        found = re.search(r"waiting at (127\.0\.0\.1:\d+) for ", command.err)
        assert found, command.err
        return command, found.group(1)

    return start


def test_the_role_commands_build_the_same_cluster_by_hand(controller, commands, tmp_path):
    out = tmp_path / "run"
    first, address = controller("--workers", 2, "--servers", 2, "--out", out, *SMALL)
    assert int(address.partition(":")[2]) > 0
    others = ["paramserver", "paramserver", "dataserver"]
    roles = [commands.start(role, "--controller", address) for role in others]
    commands.until(lambda: "waiting for worker-0, worker-1" in first.err, 30)
    roles += [commands.start("worker", "--controller", address) for _ in range(2)]
    for role in [first, *roles]:
        assert (role.wait(), "dualshard: " in role.err) == (0, False), role.err
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["epochs"], summary["samples"]) == (2, 2 * 1438)
    assert (summary["workers"], summary["servers"]) == (2, 2)
    assert (out / "model.safetensors").exists()
    assert "waiting for worker-0, worker-1" in first.err
    assert f"joining the controller at {address}" in roles[0].err


def test_a_start_without_a_role_ends_and_names_what_is_missing(controller, commands, tmp_path):
    began = time.monotonic()
    first, address = controller("--start-timeout", "3s", "--out", tmp_path / "run")
    data = commands.start("dataserver", "--controller", address)
    assert first.wait(10) == 1
    assert time.monotonic() - began < 8
    assert first.err.splitlines()[-1] == (
        "dualshard: missing after 3 s: paramserver-0, paramserver-1, worker-0, worker-1; each is "
        f"to reach the controller at {address}: start it with --controller {address}, or allow "
        "more time with --start-timeout"
    )
    assert data.wait(10) == 1
    assert data.err.splitlines()[-1].startswith("dualshard: missing after 3 s: paramserver-0")


@pytest.mark.parametrize("role", ["worker", "dataserver", "paramserver"])
def test_a_role_without_a_controller_ends_in_time_and_names_the_address(role, commands):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
        lost = commands.start(role, "--controller", address, "--start-timeout", "1s")
        assert lost.wait(15) == 1
    last = lost.err.splitlines()[-1]
    assert re.fullmatch(
        f"dualshard: the controller did not answer: tried {address} for 1 s "
        r"\(\d+ tries\); start it there, or give its address with --controller HOST:PORT",
        last,
    ), last


def test_a_role_without_a_controllers_file_ends_in_time(commands, tmp_path):
    lost = commands.start(
        "worker", "--controller", f"@{tmp_path / 'none'}", "--start-timeout", "1s"
    )
    assert lost.wait(15) == 1
    assert lost.err.splitlines()[-1] == (
        f"dualshard: no controller has written {tmp_path / 'none'} within 1 s"
    )


@pytest.mark.parametrize("role", ["controller", "paramserver"])
def test_a_port_in_use_is_one_line_with_the_address_and_the_flag(role, commands, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        more = ["--controller", "127.0.0.1:9"] if role == "paramserver" else []
        late = commands.start(role, *more, "--bind", address)
        assert late.wait(15) == 2
    (line,) = late.err.splitlines()
    assert line.startswith(
        f"dualshard: --bind = {address}: expected an address of this machine that is free; "
        "Address already in use"
    )
    assert line.endswith(": choose another with --bind HOST:PORT (port 0 takes any free one)")
    assert not (tmp_path / "runs").exists()


def test_a_controller_refuses_another_protocol_with_a_table(controller, tmp_path):
    first, address = controller("--out", tmp_path / "run")
    peer = f"tcp://{address}"
    transport = ZmqTransport(5)
    versions = {"protocol": "99", "python": "3.99.0", "numpy": "9.9", "msgpack": "9.9.9"}
    join = Join("worker", -1, "", "elsewhere", 4711, versions)
    try:
        transport.send(peer, encode(Envelope(5, Form.REQUEST, 1, 1, join, protocol=99)))
        ((_, frames),) = transport.receive(10.0)
        reply = decode(frames).message
    finally:
        transport.close(0)
    assert isinstance(reply, Refused)
    assert reply.code == "protocol"
    lines = reply.detail.splitlines()
    assert lines[0] == "protocol versions differ; install the same dualshard on both"
    assert lines[1].split() == ["this", "role", "controller"]
    assert lines[2].split() == ["protocol", "99", str(PROTOCOL)]
    assert lines[3].split()[:2] == ["python", "3.99.0"]
    assert f"worker on elsewhere (pid 4711): it speaks protocol 99, not {PROTOCOL}" in first.err
    first.popen.terminate()
    assert first.wait(10) == 143


def test_a_role_that_is_refused_shows_the_table(commands):
    transport = ZmqTransport(7, "127.0.0.1:0")
    address = transport.address.removeprefix("tcp://")
    try:
        worker = commands.start("worker", "--controller", address)
        ((peer, frames),) = transport.receive(30.0)
        asked = decode(frames)
        assert isinstance(asked.message, Join)
        refused = Refused("protocol", "protocol versions differ\n  protocol   1   99")
        reply = Envelope(7, Form.REPLY, asked.sequence, 0, refused, protocol=99)
        transport.send(peer, encode(reply))
        assert worker.wait(10) == 2
    finally:
        transport.close(0)
    assert worker.err.endswith(
        f"dualshard: the controller at {address} refused this role: protocol versions differ\n"
        "  protocol   1   99\n"
    )


def test_a_role_that_hangs_up_is_told_apart_from_a_clean_end(controller, commands, tmp_path):
    first, address = controller("--workers", 1, "--servers", 1, "--out", tmp_path / "run")
    server = commands.start("paramserver", "--controller", address)
    commands.until(lambda: "paramserver-0 joined" in first.err, 30)
    server.popen.terminate()
    assert server.wait(10) == 143
    commands.until(lambda: "lost paramserver-0" in first.err, 10)
    assert "stopped by SIGTERM" in first.err
    first.popen.terminate()
    assert first.wait(10) == 143
    assert first.err.splitlines()[-1] == "dualshard: stopped by SIGTERM"
