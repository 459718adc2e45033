"""The Unix socket beside a loopback address: a shorter way between processes of one machine."""

import contextlib
import ipaddress
import os
import socket
import struct


def beside(address: str) -> str | None:
    """The name of the Unix socket beside a loopback address; None for any other.

    It stands in the abstract namespace (unix(7)): no file, gone with its socket, and seen by the
    same network namespace as the address. It protects as much as loopback tcp, not more: any
    process of this machine may connect. Who listens is checked by `is_ours`.
    """
    place = address.removeprefix("tcp://")
    with contextlib.suppress(ValueError):  # not a number: a name may lead anywhere
        if ipaddress.IPv4Address(place.rpartition(":")[0]).is_loopback:
            return f"dualshard-{place}"
    return None


def is_ours(name: str) -> bool:
    """Whether a process of this user listens under an abstract name. A port belongs to whoever has
    bound it; this name beside it could have been taken by another user."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full queue is an answer, too: then tcp will do
        try:
            probe.connect(f"\0{name}")
            row = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return False
    return int(_CREDENTIALS.unpack(row)[1]) == os.geteuid()


_CREDENTIALS = struct.Struct("=iII")
"""Process, user and group of the other end, see unix(7)."""
