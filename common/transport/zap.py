"""Whom a keyed socket lets in: ZeroMQ asks here before a connection may say a word.

The protocol is rfc.zeromq.org/spec/27 (ZAP): requests come from ZeroMQ's I/O thread to a well-known
address inside the process. They are answered in the loop's thread, within `receive`.
"""

from collections.abc import Callable

import zmq
from zmq.utils import z85

ENDPOINT = "inproc://zeromq.zap.01"
DOMAIN = b"dualshard"
"""Whoever has a domain is refused where nobody answers: an empty one would be let in."""
VERSION = b"1.0"


class Door:
    """Lets in whoever proves that it has the secret of a known public key.

    To be made before the first keyed socket of its context, and closed after the last.
    """

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        self.socket = context.socket(zmq.ROUTER)
        self.socket.set(zmq.LINGER, 0)
        self.socket.bind(ENDPOINT)

    def answer(self, known: Callable[[str], bool]) -> list[tuple[str, str]]:
        """Answer all who wait. Returns the address and public key of those who were refused."""
        refused = []
        while self.socket.poll(0):
            back, empty, version, number, domain, address, _, mechanism, *credentials = (
                self.socket.recv_multipart()
            )
            key = z85.encode(credentials[0]).decode() if mechanism == b"CURVE" else ""
            if version == VERSION and domain == DOMAIN and key and known(key):
                verdict = [b"200", b"OK", key.encode(), b""]
            else:
                refused.append((address.decode(errors="replace"), key))
                verdict = [b"400", b"unknown key", b"", b""]
            self.socket.send_multipart([back, empty, VERSION, number, *verdict])
        return refused

    def close(self) -> None:
        """Refuse everyone from now on."""
        self.socket.close(0)
