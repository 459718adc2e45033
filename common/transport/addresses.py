"""Addresses that users give: HOST:PORT to listen on, to be told to others, to connect to. Pure.

Hosts are names or IPv4 addresses. ZeroMQ's sockets are made without IPv6, and what only IPv6 would
reach is refused here in one line.
"""

import ipaddress
from collections.abc import Mapping, Sequence

from ..errors import UserError

EVERYWHERE = "0.0.0.0"  # noqa: S104 (nothing is bound by its name)
"""All IPv4 addresses of this machine, as a place to listen."""


def parse_address(text: str, key: str) -> str:
    """`HOST:PORT` as a ZeroMQ address.

    Raises:
        UserError: it is not HOST:PORT with a port from 1 to 65535.
    """
    address = text.removeprefix("tcp://")
    refuse_ipv6(address, key)
    check_address(address, key, 1)
    return f"tcp://{address}"


def listening(bind: str, usual: int = 0) -> str:
    """`--bind` as HOST:PORT: a lone HOST takes the `usual` port (0: any free one); `*:PORT` and
    `:PORT` are all IPv4 addresses of this machine.

    Raises:
        UserError: it is none of these.
    """
    refuse_ipv6(bind, "--bind")
    host, colon, port = bind.rpartition(":")
    if not colon and not bind.isdigit():
        host, port = bind, str(usual)
    if host == "*" or (colon and not host):
        host = EVERYWHERE
    check_address(f"{host}:{port}", "--bind", 0, bind)
    return f"{host}:{port}"


def is_everywhere(bind: str) -> bool:
    """Whether a role that listens at `HOST:PORT` does so at all addresses of its machine."""
    return bind.rpartition(":")[0] == EVERYWHERE


def check_listening(bind: str, interface: str, advertise: str) -> None:
    """Refuse options about addresses that contradict each other, or lead nobody anywhere.

    Raises:
        UserError: for the first of them.
    """
    if bind and interface:
        raise UserError(
            "--interface",
            interface,
            f"either --interface or --bind, and not --bind {bind} besides",
            "leave one of them out",
        )
    refuse_ipv6(advertise, "--advertise")
    host = advertise.rpartition(":")[0] or advertise
    if host in (EVERYWHERE, "*"):
        raise UserError(
            "--advertise",
            advertise,
            "an address that others can connect to",
            "give one of this machine's, or leave --advertise out: it is then found out",
        )


def card_address(name: str, cards: Mapping[str, Sequence[str]]) -> str:
    """The IPv4 address of a network card, its first one where it has several.

    Arguments:
        cards: the IPv4 addresses of each card of this machine.
    Raises:
        UserError: there is no such card, or it has none.
    """
    named = ", ".join(f"{card} ({', '.join(cards[card])})" for card in cards if cards[card])
    if name not in cards:
        expected = "the name of a network card of this machine"
    elif not cards[name]:
        expected = "a network card that has an IPv4 address"
    else:
        return cards[name][0]
    raise UserError("--interface", name, expected, f"there are {named or 'none'}")


def refuse_ipv6(address: str, key: str) -> None:
    """Refuse `[::1]:7077`, `::1` and the like in words that say why."""
    if "[" in address or "]" in address or address.count(":") > 1:
        raise UserError(
            key,
            address,
            "an IPv4 address or the name of a host",
            "IPv6 is not supported: give the host's IPv4 address, or a name that has one",
        )


def check_address(text: str, key: str, lowest: int, typed: str = "") -> None:
    """Refuse what is not HOST:PORT; ZeroMQ itself takes 70000 for port 4464. `typed` is what the
    user gave, if it was something shorter."""
    host, _, port = text.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and lowest <= int(port) < 65536):
        raise UserError(
            key,
            typed or text,
            f"HOST:PORT with a port from {lowest} to 65535",
            f"for example {key} 127.0.0.1:7077",
        )


def advertised(text: str, bound: str) -> tuple[str, str]:
    """The host and port of `--advertise HOST[:PORT]`; without one, or with 0, the bound port."""
    host, colon, port = text.rpartition(":")
    if not colon:
        return text, bound
    if port in ("", "0") and host:
        return host, bound
    check_address(text, "--advertise", 1)
    return host, port


def require_keys(bind: str, *, keyed: bool, insecure: bool) -> None:
    """Refuse to listen beyond this machine without keys unless the user said that the network is
    trusted.

    Raises:
        UserError: `bind` is not a loopback address, there are no keys, and `insecure` is not set.
    """
    if keyed or insecure or is_loopback(bind.rpartition(":")[0]):
        return
    raise UserError(
        "--bind",
        bind,
        "a loopback address such as 127.0.0.1:0, or keys",
        "beyond this machine everyone could join: make keys with `dualshard keygen DIR` and give "
        "--keys DIR, or, on a network that you trust, --insecure",
    )


def unprotected(bind: str, *, keyed: bool) -> str:
    """The warning of a role that listens beyond this machine without keys; empty for all others."""
    if keyed or is_loopback(bind.rpartition(":")[0]):
        return ""
    return (
        f"listening at {bind} without keys (--insecure): whoever reaches this port can read, "
        "change and end the job"
    )


def is_loopback(host: str) -> bool:
    """Whether a host that is an address, or localhost, is this machine itself. Any other name may
    lead anywhere."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def as_ip(host: str) -> str:
    """`host` if it is an IPv4 address, 127.0.0.1 for localhost; empty for any other name."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        return ""
