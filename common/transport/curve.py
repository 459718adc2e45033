"""What keys change for ZeroMQ's sockets: who is let in, whose a message is, whom we connect to.

Connections are CurveZMQ (rfc.zeromq.org/spec/26): both sides prove that they have the secret of
the public key that the other knows, then every frame is encrypted. A client sends its name as the
first frame of each message: routing ids are ZeroMQ's own here, since a chosen one could be another
client's. What was proved is read off each message, so that nothing hangs on what it claims.
"""

import contextlib
import ipaddress
from dataclasses import dataclass
from typing import cast

import zmq

from ..delivery import Peer, routing_id
from ..keys import Holder, KeyRing, Pair
from ..types import Role
from ..wire import Frames
from .contract import Report, Seen
from .monitor import Handshake
from .names import Names
from .zap import DOMAIN, Door

HANDSHAKE_LIMIT = 5.0
"""Seconds in which a connection must have shown its key."""
BACKLOG = 4096
"""Connections that wait to be accepted; the kernel may have room for fewer."""
STRANGER = Seen("stranger")
"""Who is not known where everyone must be: no such role may send anything."""
NAME_LENGTH = len(routing_id(0))


@dataclass(slots=True)
class Server:
    """Whom we must meet at an address: whoever has a key of a role, or one holder, who is known by
    the key `named` until that is found here. `tries` says which of the keys we expect now."""

    role: str = ""
    named: str = ""
    holder: str = ""
    tries: int = 0
    seen: Seen = STRANGER

    def is_of(self, key: str, holder: Holder | None) -> bool:
        """Whether the holder of this key is whom we must meet."""
        return self.named == key or (holder is not None and self.holder == holder.name)


class Curve:
    """The keys of one transport. Not thread-safe: it belongs to the loop."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", ring: KeyRing) -> None:
        ring.check_pairs(public_of)
        self.ring, self.door = ring, Door(context)
        self._names = Names()
        self._servers: dict[str, Server] = {}

    # Sockets.

    def protect(self, router: "zmq.Socket[bytes]") -> None:
        """Give a socket that listens our key; what it binds from now on has it."""
        _set_pair(router, self.ring.own)
        router.set(zmq.CURVE_SERVER, 1)
        router.set(zmq.ZAP_DOMAIN, DOMAIN)
        router.set(zmq.BACKLOG, BACKLOG)
        router.set(zmq.HANDSHAKE_IVL, int(HANDSHAKE_LIMIT * 1000))

    def introduce(self, dealer: "zmq.Socket[bytes]", address: str) -> bool:
        """Give a socket that is to connect our key, and the one that it must meet; False if none
        may be met there."""
        key = self._key_at(address)
        if not key:
            return False
        _set_pair(dealer, self.ring.own)
        dealer.set(zmq.CURVE_SERVERKEY, key.encode())
        dealer.set(zmq.HANDSHAKE_IVL, int(HANDSHAKE_LIMIT * 1000))
        return True

    # Whom we connect to.

    def expect(self, address: str, role: Role) -> None:
        """Whoever listens there must have a key of this role."""
        self._servers[address] = Server(role=str(role))

    def trust(self, peer: Peer, key: str, report: Report) -> bool:
        """The address, or the name, is that of the holder of this key; whether somebody else was
        expected at that address."""
        holder = self.ring.holders.get(key)
        if isinstance(peer, bytes):
            if holder is not None:
                self._names.bind(peer, holder.name)
            return False
        server = self._servers.get(peer)
        if server is not None and (server.role or server.is_of(key, holder)):
            return False  # no member of the view stands in for a controller
        self._servers[peer] = Server(named=key)
        if holder is None:
            place = peer.removeprefix("tcp://")
            report.log_rarely("warning", f"cannot connect to {place}: {self.advice(peer)}")
        return server is not None

    def forget(self, address: str) -> None:
        """Nobody is expected there any more."""
        self._servers.pop(address, None)

    def try_next(self, address: str) -> bool:
        """A handshake there has failed: expect the next key of whoever may listen there. Returns
        whether there is another than before."""
        server = self._servers.get(address)
        if server is None:
            return False
        server.tries += 1
        before = server.seen.key
        return self._key_at(address) != before

    def _key_at(self, address: str) -> str:
        """The key to expect there now: that in use, or after a failure an earlier one."""
        server = self._servers.get(address)
        if server is None:
            return ""
        if not server.holder and server.named in self.ring.holders:
            server.holder = self.ring.holders[server.named].name
        keys = []
        if server.role or server.holder:
            keys = self.ring.keys_of(role=server.role, name=server.holder)
        if not keys:
            server.seen = STRANGER
            return ""
        key = keys[server.tries % len(keys)]
        host = address.removeprefix("tcp://").rpartition(":")[0]
        server.seen = Seen(self.ring.holders[key].role, key, host)
        return key

    # Messages.

    def admit(self, route: bytes, first: zmq.Frame, frames: Frames, report: Report) -> Peer | None:
        """The name under which a message came that begins with it; None if it may not."""
        if len(frames) < 2:
            report.count("malformed_frames")
            return None
        name = cast(bytes, frames[0])
        key = metadata(first, "User-Id")
        bearer = self._names.get(name)
        if bearer is None or bearer.key != key or bearer.route != route:
            holder = self.ring.holders.get(key)
            if holder is None:  # the file of its key was removed
                report.count("withdrawn_keys")
                return None
            if len(name) != NAME_LENGTH or name[0] != routing_id(0)[0]:
                report.count("malformed_frames")
                return None
            bearer = self._names.claim(name, holder.name)
            if bearer is None:
                report.count("foreign_names")
                report.log_rarely("warning", f"{holder.name} speaks under the name of another")
                return None
            bearer.key, bearer.route = key, route
            bearer.seen = Seen(holder.role, key, address_of(first))
        return name

    def route(self, name: bytes) -> bytes:
        """Where the last message under a name came from; empty if it cannot be reached."""
        bearer = self._names.get(name)
        return b"" if bearer is None else bearer.route

    def seen(self, peer: Peer) -> Seen:
        """Who this is; never a role that may send anything unless its key was proved."""
        if isinstance(peer, bytes):
            bearer = self._names.get(peer)
            return bearer.seen if bearer is not None and bearer.key else STRANGER
        server = self._servers.get(peer)
        return STRANGER if server is None else server.seen

    def advice(self, address: str, handshake: Handshake | None = None) -> str:
        """What to do about a handshake that has failed, or that was never tried."""
        server, public = self._servers.get(address), self.ring.folder / "public"
        if handshake is None:
            if server is None or self._key_at(address):
                return ""
            key = f"{server.named}, the key" if server.named else f"a key of role {server.role}"
            return f"{public} lacks {key} that it must have: copy that from its host"
        if handshake.mismatch:
            return "it has no keys: start it with --keys DIR, or leave --keys out here"
        if handshake.outcome == "refused":
            return (
                f"it does not know our key: copy {public} to its host: there the file of "
                f"{self.ring.own_name} is missing, or another"
            )
        whose = "" if server is None else server.role or server.holder
        return (
            f"it breaks off; perhaps its key is no {whose} key of {public}: copy that from its host"
        )

    # What changes.

    def let_in(self, report: Report) -> None:
        """Answer connections that wait to be let in."""
        for address, key in self.door.answer(self.ring.holders.__contains__):
            report.count("unknown_keys" if key else "unknown_hosts")
            why = f"its key {key!r} is not known here" if key else "nobody there has shown a key"
            report.log_rarely("warning", f"refused {address}: {why}")

    def reload(self, report: Report) -> tuple[bool, list[str]]:
        """Read the files of keys again. Returns whether our own pair has changed, and the addresses
        at which the key that we have met counts no more."""
        own = self.ring.own
        if not self.ring.reload():
            if self.ring.trouble:
                report.count("unread_keys")
                report.log_rarely("warning", f"the keys of before hold: {self.ring.trouble}")
            return False, []
        self._names.keep_keys(self.ring.holders.__contains__)
        gone = [
            address
            for address, server in self._servers.items()
            if server.seen.key and server.seen.key not in self.ring.holders
        ]
        return self.ring.own != own, gone


def new_pair() -> Pair:
    """A fresh pair, from the system's source of randomness."""
    public, secret = zmq.curve_keypair()
    return Pair(public.decode(), secret.decode())


def public_of(secret: str) -> str:
    """The public key that belongs to a secret."""
    return zmq.curve_public(secret.encode()).decode()


def metadata(frame: zmq.Frame, name: str) -> str:
    """What ZeroMQ itself says of the connection that a frame came by; empty if nothing."""
    try:
        return cast(str, frame.get(name))
    except zmq.ZMQError:
        return ""


def address_of(frame: zmq.Frame) -> str:
    """The IP address that a frame came from; empty where there is none, as on a Unix socket."""
    found = metadata(frame, "Peer-Address")
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(found))
    return ""


def _set_pair(link: "zmq.Socket[bytes]", pair: Pair) -> None:
    link.set(zmq.CURVE_PUBLICKEY, pair.public.encode())
    link.set(zmq.CURVE_SECRETKEY, pair.secret.encode())
