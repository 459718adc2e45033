"""`dualshard doctor` on this machine and beside a real controller; addresses of real roles."""

import json
import re
import socket

import pytest

from dualshard.common.transport.addresses import as_ip
from dualshard.common.transport.local import public_address
from dualshard.deploy.doctor import machine, network
from dualshard.deploy.operator import Operator

pytestmark = pytest.mark.processes


@pytest.fixture
def controller(commands, tmp_path):
    """A controller at a free port of loopback, its address, and its command."""
    command = commands.start("controller", "--bind", "127.0.0.1:0", "--out", tmp_path / "run")
    commands.until(lambda: "waiting at " in command.err or command.popen.poll() is not None, 30)
    found = re.search(r"waiting at (127\.0\.0\.1:\d+) for ", command.err)
    assert found, command.err
    return found.group(1), command


def test_a_healthy_machine_and_its_controller(controller, commands, tmp_path):
    address, _ = controller
    server = commands.start(
        *("paramserver", "--controller", address, "--bind", "*", "--insecure"),
        *("--advertise", "no-such-host.invalid"),
    )
    everywhere = commands.start("dataserver", "--controller", address, "--bind", ":0", "--insecure")
    doctor = commands.start("doctor", "--controller", address, "--json", tmp_path / "found.json")
    status = doctor.wait(30)
    found = {one["name"]: one for one in json.loads((tmp_path / "found.json").read_text())}
    failed = [one for one in found.values() if one["state"] == "fail"]
    assert (status, failed, doctor.err) == (0, [], "")
    assert found["controller"]["what"].startswith(f"{address} answers in ")
    assert "phase joining, dualshard " in found["controller"]["what"]
    assert found["controller"]["what"].endswith("the way there leaves from 127.0.0.1")
    assert found["clock"]["state"] == found["shared memory"]["state"] == "ok"
    assert doctor.out.splitlines()[-1].startswith(f"{len(found)} checks: ")
    assert "shared memory" in doctor.out

    operator = Operator(f"tcp://{address}")
    try:
        commands.until(lambda: len(operator.status(5.0)["roles"]) == 2, 30)
        told = {role["role"]: role["address"] for role in operator.status(5.0)["roles"]}
    finally:
        operator.close()
    outer = public_address() if as_ip(public_address()) else "127.0.0.1"
    assert re.fullmatch(rf"tcp://{re.escape(outer)}:\d+", told["dataserver"]), everywhere.err
    assert re.fullmatch(r"tcp://no-such-host\.invalid:\d+", told["paramserver"])
    commands.until(lambda: "WARNING" in server.err, 10)
    assert "--advertise no-such-host.invalid has no IPv4 address here (" in server.err


def test_contradictions_about_addresses_are_one_line(commands):
    wrong = {
        ("--interface", "eth99"): "--interface = eth99: expected the name of a network card of ",
        ("--interface", "lo", "--bind", ":0"): "--interface = lo: expected either --interface or ",
        ("--bind", "[::1]:0"): "--bind = [::1]:0: expected an IPv4 address or the name of a host",
    }
    started = [
        (commands.start("paramserver", "--controller", "127.0.0.1:9", *options), said)
        for options, said in wrong.items()
    ]
    for command, said in started:
        assert command.wait(30) == 2
        (line,) = command.err.splitlines()
        assert line.startswith(f"dualshard: {said}")


def only(found):
    """The one finding, which is a failure."""
    (finding,) = found
    assert (finding.name, finding.state) == ("controller", "fail")
    return finding


def test_a_closed_port():
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
        finding = only(network.check_controller(address, None))
    assert finding.what == f"{address} cannot be reached: connection refused"
    assert finding.fix.startswith("start the controller there, with --bind or --interface")


def test_a_port_that_takes_connections_and_never_answers(monkeypatch):
    monkeypatch.setattr(network, "PATIENCE", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        finding = only(network.check_controller(address, None))
    assert finding.what == (
        f"{address} takes connections and does not answer as a controller does within 0.5 s"
    )


def test_a_name_of_nobody():
    finding = only(network.check_controller("no-such-host.invalid:7077", None))
    assert finding.what.startswith("no-such-host.invalid:7077 cannot be found: ")
    assert "/etc/hosts" in finding.fix


def test_memory_that_another_process_cannot_open_is_a_warning(monkeypatch):
    monkeypatch.setattr(machine, "LOOK", "raise PermissionError('not yours')")
    found = machine.check_shared_memory()
    assert found.state == "warn"
    assert "PermissionError: not yours" in found.what
    assert "train.transport = tcp" in found.fix
