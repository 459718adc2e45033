"""Where roles listen and what others are told: what users type, and this machine's own."""

import socket

import pytest

from dualshard.common.errors import UserError
from dualshard.common.transport import local, parse_address
from dualshard.common.transport.addresses import (
    as_ip,
    card_address,
    check_listening,
    is_everywhere,
    listening,
)

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
