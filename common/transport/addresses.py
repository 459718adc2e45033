"""Addresses that users give: HOST:PORT to listen on, to be told to others, to connect to. Pure."""

import ipaddress

from ..errors import UserError


def parse_address(text: str, key: str) -> str:
    """`HOST:PORT` as a ZeroMQ address.

    Raises:
        UserError: it is not HOST:PORT with a port from 1 to 65535.
    """
    address = text.removeprefix("tcp://")
    check_address(address, key, 1)
    return f"tcp://{address}"


def check_address(text: str, key: str, lowest: int) -> None:
    """Refuse what is not HOST:PORT; ZeroMQ itself takes 70000 for port 4464."""
    host, _, port = text.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and lowest <= int(port) < 65536):
        raise UserError(
            key,
            text,
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
