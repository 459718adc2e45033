"""Whom a keyed socket lets in: ZeroMQ asks here before a connection may say a word.

The protocol is rfc.zeromq.org/spec/27 (ZAP): requests come from ZeroMQ's I/O thread to a well-known
address inside the process. They are answered in the loop's thread, within `receive`.
"""

import contextlib
import ipaddress
from collections import OrderedDict
from collections.abc import Callable

import zmq
from zmq.utils import z85

ENDPOINT = "inproc://zeromq.zap.01"
DOMAIN = b"dualshard"
"""Whoever has a domain is refused where nobody answers: an empty one would be let in."""
LANES = b"dualshard-lanes"
"""The domain of the socket that takes sealed lanes."""
HOSTS_LIMIT = 4096
VERSION = b"1.0"


class Door:
    """Lets in whoever proves that it has the secret of a known public key; to sealed lanes, on
    which everyone proves all with each message, those on a host from which such a one has come.

    To be made before the first keyed socket of its context, and closed after the last.
    """

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        self.socket = context.socket(zmq.ROUTER)
        self.socket.set(zmq.LINGER, 0)
        self.socket.bind(ENDPOINT)
        self._hosts: OrderedDict[str, None] = OrderedDict()

    def answer(self, known: Callable[[str], bool]) -> list[tuple[str, str]]:
        """Answer all who wait. Returns the address and public key of those who were refused;
        without a key, from sealed lanes."""
        refused = []
        while self.socket.poll(0):
            back, empty, version, number, domain, address, _, mechanism, *credentials = (
                self.socket.recv_multipart()
            )
            host = _host(address)
            key = z85.encode(credentials[0]).decode() if mechanism == b"CURVE" else ""
            if version == VERSION and domain == DOMAIN and key and known(key):
                self._welcome(host)
                verdict = [b"200", b"OK", key.encode(), b""]
            elif version == VERSION and domain == LANES and host in self._hosts:
                verdict = [b"200", b"OK", b"", b""]
            else:
                refused.append((host, key))
                verdict = [b"400", b"unknown key", b"", b""]
            self.socket.send_multipart([back, empty, VERSION, number, *verdict])
        return refused

    def _welcome(self, host: str) -> None:
        """Somebody with a known key is on this host."""
        self._hosts[host] = None
        self._hosts.move_to_end(host)
        if len(self._hosts) > HOSTS_LIMIT:
            self._hosts.popitem(last=False)

    def close(self) -> None:
        """Refuse everyone from now on."""
        self.socket.close(0)


def _host(address: bytes) -> str:
    """The IP address of a peer; of one on a Unix socket, for which ZeroMQ tells its process, that
    with which it would come by tcp."""
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(address.decode(errors="replace")))
    return "127.0.0.1"
