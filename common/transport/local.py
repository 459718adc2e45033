"""The addresses of this machine, and ways from it to others. Sends nothing but `reach`."""

import socket

import psutil

from .addresses import EVERYWHERE, is_loopback

ANYWHERE = "203.0.113.1"
"""An address of nobody (RFC 5737): the way to it is the default route."""


def network_cards() -> dict[str, list[str]]:
    """The IPv4 addresses of each network card, by its name."""
    return {
        name: [one.address for one in addresses if one.family == socket.AF_INET]
        for name, addresses in psutil.net_if_addrs().items()
    }


def own_addresses() -> frozenset[str]:
    """All IPv4 addresses of this machine."""
    return frozenset(address for card in network_cards().values() for address in card)


def resolve(host: str) -> list[str]:
    """The IPv4 addresses of a host; may wait for a name server. Raises `OSError` if there is none.

    Any thread may call it.
    """
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except UnicodeError:  # a label that is empty or too long
        raise socket.gaierror(socket.EAI_NONAME, "it is no name of a host") from None
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def address_towards(host: str = ANYWHERE) -> str:
    """The address of this machine that the way to `host` leaves from; empty if there is no way.

    A datagram socket is connected, which looks up the route and sends nothing.

    Raises:
        OSError: the name of the host has no address.
    """
    target = resolve(host)[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((target, 9))
            address = str(probe.getsockname()[0])
        except OSError:
            return ""
    return "" if address == EVERYWHERE else address


def public_address() -> str:
    """The address of this machine that others most likely reach it by: that of the default route,
    else of a network card that is no loopback, else the name of the host."""
    address = address_towards()
    if address and not is_loopback(address):
        return address
    others = sorted(one for one in own_addresses() if not is_loopback(one))
    return others[0] if others else socket.gethostname()


def reach(host: str, port: int, patience: float) -> str:
    """Open a connection and close it; why that failed within `patience` seconds, or nothing.

    A name server may take longer. Any thread may call it.
    """
    try:
        address = resolve(host)[0]
    except OSError as failed:
        return f"its name cannot be resolved ({failed.strerror or failed})"
    try:
        socket.create_connection((address, port), patience).close()
    except TimeoutError:
        return f"no connection within {patience:g} s"
    except OSError as failed:
        return (failed.strerror or str(failed)).lower()
    return ""


def unresolved(address: str) -> str:
    """That the name in an address leads nowhere; empty if it leads somewhere.

    ZeroMQ looks a name up anew at each try to connect, and goes on trying: whoever starts before
    the name is known waits for it, and must only be told in the end.
    """
    host = address.removeprefix("tcp://").rpartition(":")[0]
    try:
        resolve(host)
    except OSError as failed:
        why = f"the name {host} does not resolve ({failed.strerror or failed})"
        return f"{why}: give the controller's address with --controller HOST:PORT"
    return ""
