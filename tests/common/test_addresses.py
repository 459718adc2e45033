"""Where roles listen and what others are told: what users type, and this machine's own."""

import socket
from queue import SimpleQueue

import pytest

from dualshard.common import listening as where
from dualshard.common.clock import ManualClock
from dualshard.common.errors import UserError
from dualshard.common.listening import Listening
from dualshard.common.reaching import Probed
from dualshard.common.telemetry import Telemetry
from dualshard.common.transport import local, parse_address
from dualshard.common.transport.addresses import (
    as_ip,
    card_address,
    check_listening,
    is_everywhere,
    listening,
)
from dualshard.common.types import Role

CARDS = {"lo": ["127.0.0.1"], "eth0": ["10.0.0.5", "10.0.0.6"], "wg0": []}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("10.0.0.5:7078", "10.0.0.5:7078"),
        ("10.0.0.5", "10.0.0.5:0"),
        ("node7", "node7:0"),
        ("node7:0", "node7:0"),
        (":7078", "0.0.0.0:7078"),
        ("*:0", "0.0.0.0:0"),
        ("*", "0.0.0.0:0"),
        ("0.0.0.0:0", "0.0.0.0:0"),
        ("0.0.0.0", "0.0.0.0:0"),
    ],
)
def test_what_may_be_typed_for_a_place_to_listen(typed: str, meant: str) -> None:
    assert listening(typed) == meant
    assert is_everywhere(meant) is meant.startswith("0.0.0.0:")


@pytest.mark.parametrize("typed", ["7077", "*:x", "127.0.0.1:65536", "host:", ":", "host:-1"])
def test_what_is_no_place_to_listen_is_shown_as_it_was_typed(typed: str) -> None:
    with pytest.raises(UserError) as refused:
        listening(typed)
    assert str(refused.value) == (
        f"--bind = {typed}: expected HOST:PORT with a port from 0 to 65535; "
        "for example --bind 127.0.0.1:7077"
    )


@pytest.mark.parametrize("typed", ["[::1]:7077", "::1", "[::]:0", "fe80::1:7077", "::"])
def test_ipv6_is_refused_in_words(typed: str) -> None:
    said = (
        "expected an IPv4 address or the name of a host; IPv6 is not supported: give the host's "
        "IPv4 address, or a name that has one"
    )
    with pytest.raises(UserError) as refused:
        listening(typed)
    assert str(refused.value) == f"--bind = {typed}: {said}"
    with pytest.raises(UserError) as refused:
        parse_address(typed, "--controller")
    assert str(refused.value) == f"--controller = {typed}: {said}"
    with pytest.raises(UserError) as refused:
        check_listening("", "", typed)
    assert str(refused.value) == f"--advertise = {typed}: {said}"


def test_bind_and_interface_exclude_each_other() -> None:
    check_listening("10.0.0.5:0", "", "node7")
    check_listening("", "eth0", "10.0.0.5:7000")
    with pytest.raises(UserError) as refused:
        check_listening("10.0.0.5:0", "eth0", "")
    assert str(refused.value) == (
        "--interface = eth0: expected either --interface or --bind, and not --bind 10.0.0.5:0 "
        "besides; leave one of them out"
    )


@pytest.mark.parametrize("advertise", ["0.0.0.0", "0.0.0.0:7077", "*:7077", "*"])
def test_everywhere_is_no_address_for_others(advertise: str) -> None:
    with pytest.raises(UserError) as refused:
        check_listening("", "", advertise)
    assert str(refused.value) == (
        f"--advertise = {advertise}: expected an address that others can connect to; give one of "
        "this machine's, or leave --advertise out: it is then found out"
    )


def test_a_network_card_is_its_first_address() -> None:
    assert card_address("eth0", CARDS) == "10.0.0.5"


@pytest.mark.parametrize(
    ("name", "cards", "said"),
    [
        (
            "eth1",
            CARDS,
            "expected the name of a network card of this machine; there are lo (127.0.0.1), eth0 "
            "(10.0.0.5, 10.0.0.6)",
        ),
        (
            "wg0",
            CARDS,
            "expected a network card that has an IPv4 address; there are lo (127.0.0.1), eth0 "
            "(10.0.0.5, 10.0.0.6)",
        ),
        ("eth1", {}, "expected the name of a network card of this machine; there are none"),
    ],
)
def test_an_unknown_network_card_is_told_which_there_are(
    name: str, cards: dict[str, list[str]], said: str
) -> None:
    with pytest.raises(UserError) as refused:
        card_address(name, cards)
    assert str(refused.value) == f"--interface = {name}: {said}"


@pytest.mark.parametrize(
    ("host", "ip"),
    [("10.0.0.5", "10.0.0.5"), ("localhost", "127.0.0.1"), ("node7", ""), ("::1", ""), ("", "")],
)
def test_numbers_are_told_from_names(host: str, ip: str) -> None:
    assert as_ip(host) == ip


def test_this_machine_has_loopback_on_a_card() -> None:
    assert "127.0.0.1" in local.network_cards()["lo"]
    assert "127.0.0.1" in local.own_addresses()


def test_the_way_to_loopback_leaves_from_loopback() -> None:
    assert local.address_towards("127.0.0.1") == "127.0.0.1"
    assert local.address_towards("localhost") == "127.0.0.1"


def test_a_name_of_nobody_has_no_way() -> None:
    with pytest.raises(socket.gaierror):
        local.address_towards("no-such-host.invalid")
    with pytest.raises(socket.gaierror):
        local.resolve("a..b")


def test_the_public_address_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "address_towards", lambda: "10.0.0.5")
    assert local.public_address() == "10.0.0.5"
    monkeypatch.setattr(local, "address_towards", lambda: "")
    monkeypatch.setattr(local, "own_addresses", lambda: frozenset({"127.0.0.1", "10.9.0.1"}))
    assert local.public_address() == "10.9.0.1"
    monkeypatch.setattr(local, "own_addresses", lambda: frozenset({"127.0.0.1"}))
    assert local.public_address() == socket.gethostname()


def test_what_keeps_a_connection_from_being_made_is_said() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        assert local.reach("127.0.0.1", port, 1.0) == "connection refused"
        listener.listen()
        assert local.reach("localhost", port, 1.0) == ""
    assert "cannot be resolved" in local.reach("no-such-host.invalid", 1, 1.0)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A machine whose default route leaves from 10.0.0.5; ways to other hosts are to be added."""
    ways = {"127.0.0.1": "127.0.0.1"}
    monkeypatch.setattr(where, "address_towards", lambda host: ways[host])
    monkeypatch.setattr(where, "public_address", lambda: "10.0.0.5")
    monkeypatch.setattr(where, "network_cards", lambda: CARDS)
    monkeypatch.setattr(where, "own_addresses", lambda: frozenset({"10.0.0.5", "10.0.0.6"}))
    return ways


@pytest.mark.parametrize(("role", "port"), [(Role.WORKER, 0), (Role.CONTROLLER, 7077)])
def test_a_role_listens_for_this_machine_alone_unless_told_otherwise(role: Role, port: int) -> None:
    assert Listening(role, "", "", "").bind == f"127.0.0.1:{port}"
    assert Listening(role, "node7", "", "").bind == f"node7:{port}"
    assert Listening(role, "node7:0", "", "").bind == "node7:0"


@pytest.mark.parametrize(("role", "port"), [(Role.WORKER, 0), (Role.CONTROLLER, 7077)])
def test_a_role_listens_at_its_network_card(role: Role, port: int, machine: dict[str, str]) -> None:
    listens = Listening(role, "", "eth0", "")
    assert (listens.bind, listens.advertise) == (f"10.0.0.5:{port}", "")
    bound = f"tcp://{listens.bind}"
    assert listens.told(bound, "tcp://10.9.9.9:7077") == bound


def test_who_listens_everywhere_tells_the_address_towards_the_controller(
    machine: dict[str, str],
) -> None:
    machine["10.1.0.1"], machine["10.2.0.1"] = "10.1.0.7", ""
    listens = Listening(Role.PARAMSERVER, "*", "", "")
    bound = "tcp://thishost:4000"
    assert listens.told(bound, "tcp://10.1.0.1:7077") == "tcp://10.1.0.7:4000"
    assert listens.told(bound, "tcp://10.2.0.1:7077") == "tcp://10.0.0.5:4000"
    assert listens.told(bound, "tcp://127.0.0.1:7077") == "tcp://10.0.0.5:4000"


def test_without_a_network_who_listens_everywhere_tells_loopback(
    machine: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, "public_address", lambda: "thishost")
    listens = Listening(Role.PARAMSERVER, "*", "", "")
    assert listens.told("tcp://thishost:4000", "tcp://127.0.0.1:7077") == "tcp://127.0.0.1:4000"


def test_a_controller_everywhere_tells_the_default_routes_address(machine: dict[str, str]) -> None:
    assert Listening(Role.CONTROLLER, ":7077", "", "").advertise == "10.0.0.5"
    assert Listening(Role.CONTROLLER, ":7077", "", "outer").advertise == "outer"


@pytest.mark.parametrize(
    ("advertise", "found", "said"),
    [
        ("10.9.9.9:7", [], None),
        ("node7", ["10.0.0.6"], None),
        ("node7:7078", ["10.9.9.9"], "is 10.9.9.9, which is no address of this machine"),
        ("node7", None, "has no IPv4 address here (not known)"),
    ],
)
def test_an_advertised_name_that_leads_elsewhere_is_a_warning(
    advertise: str,
    found: list[str] | None,
    said: str | None,
    machine: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def resolve(host: str) -> list[str]:
        assert host == "node7"
        if found is None:
            raise OSError(1, "not known")
        return found

    lines: list[tuple[str, str]] = []

    class Log(Telemetry):
        def log(self, level: str, text: str) -> None:
            lines.append((level, text))

    monkeypatch.setattr(where, "resolve", resolve)
    Listening(Role.WORKER, "", "", advertise).check_advertised(Log("worker", ManualClock()))
    expected = (
        f"--advertise node7 {said}: unless it is right where the others run, give an address of "
        "this machine (10.0.0.5, 10.0.0.6)"
    )
    assert lines == ([("warning", expected)] if said else [])


def test_a_probe_tells_the_loop_what_it_found() -> None:
    lookout, posted = where.Lookout(), SimpleQueue[object]()
    lookout.post = posted.put
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{reserved.getsockname()[1]}"
        lookout.probe(address)
        assert posted.get(timeout=10) == Probed(address, "connection refused")
    assert lookout._beside is not None
    assert lookout._beside.close(10)
