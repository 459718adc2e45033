"""ZeroMQ's sockets as a `Transport`; what keys change stands in `curve`.

A peer that we connect to is named by its address (`tcp://host:port`); a peer that connected to us
is named by its routing id (its incarnation), which it chose itself, or says with each message where
connections have keys. Frames of arrays are sent without copying (see `lending`).
"""

import contextlib
import math
import socket
from collections.abc import Sequence
from typing import cast

import zmq

from ..clock import SystemClock
from ..delivery import SENDERS_LIMIT, Peer, routing_id
from ..errors import UserError
from ..keys import KeyRing
from ..types import Array, Role
from ..wire import Frame, Frames
from .addresses import advertised, check_address
from .bell import Bell
from .beside import beside, is_ours
from .contract import NOBODY, Report, Seen, Unheard
from .curve import HANDSHAKE_LIMIT, Curve, address_of
from .lanes import Lanes, lanes_beside
from .lending import Loans
from .local import unresolved
from .monitor import Handshake, Monitor
from .sockets import configure, why

BURST = 64
"""Messages taken from one socket before the others have their turn."""
LOOK_EVERY = 0.5
"""Seconds between two looks at handshakes and at the files of keys."""
WARN_AFTER = 2.0
"""Seconds after which failing handshakes are worth a warning: keys may just be changing."""
CONTROL = 0xC1
"""How a message begins that is the transport's own: no msgpack begins like this."""

# Plain numbers: each use of one of pyzmq's enumerations costs a microsecond.
_NOBLOCK = int(zmq.NOBLOCK)
_MORE = _NOBLOCK | int(zmq.SNDMORE)
_CONTROL = bytes([CONTROL])
_EVENTS, _POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)


class ZmqTransport:
    """ZeroMQ: one ROUTER socket for those who connect to us, one DEALER socket an address.

    Arguments:
        keys: what a connection must show, either way; None: connections have no keys.
        lanes: whether with keys large messages travel sealed beside CURVE, see `lanes`.

    Raises:
        UserError: the address to bind is malformed, in use, or not of this machine; our own pair of
            keys is none.
    """

    def __init__(
        self,
        incarnation: int,
        bind: str = "",
        advertise: str = "",
        keys: KeyRing | None = None,
        *,
        lanes: bool = True,
    ) -> None:
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 4 * 4096)
        self.report: Report = Unheard()
        self._clock, self._look_at = SystemClock(), 0.0
        self._monitors: dict[zmq.Socket[bytes], Monitor] = {}
        self._troubles: dict[str, Handshake] = {}
        self._failing: dict[str, float] = {}
        self._name = routing_id(incarnation)
        self._dealers: dict[str, zmq.Socket[bytes]] = {}
        self._addresses: dict[zmq.Socket[bytes], str] = {}
        self._shortcuts, self._expected = set[str](), set[str]()
        self._seen: dict[Peer, Seen] = {}
        self._loans = Loans()
        self._poller = zmq.Poller()
        self._bell = Bell()
        self._poller.register(self._bell.descriptor, zmq.POLLIN)
        self._router: zmq.Socket[bytes] | None = None
        self.address = ""
        self._endpoints, self._unbound = list[str](), list[str]()
        self._curve: Curve | None = None
        self._lanes: Lanes | None = None
        try:
            if keys is not None:
                self._curve = Curve(self._context, keys)
                self._poller.register(self._curve.door.socket, zmq.POLLIN)
                if lanes:
                    sockets = self._context, self._poller
                    self._lanes = lanes_beside(self._curve, self, sockets, self._name, bind)
            if bind:
                self._bind(bind, advertise)
        except BaseException:
            self.close(0)
            raise

    def _bind(self, bind: str, advertise: str) -> None:
        check_address(bind, "--bind", 0)
        router = self._context.socket(zmq.ROUTER)
        self._router = router
        configure(router)
        router.set(zmq.ROUTER_MANDATORY, 1)
        if self._curve is None:
            router.set(zmq.ROUTER_HANDOVER, 1)
        else:
            self._curve.protect(router)
            self._monitors[router] = Monitor(self._context, router, 2 * HANDSHAKE_LIMIT)
        try:
            router.bind(f"tcp://{bind}")
        except zmq.ZMQError as refused:
            raise UserError(
                "--bind",
                bind,
                "an address of this machine that is free",
                f"{why(refused)}: choose another with --bind HOST:PORT (port 0 takes any free one)",
            ) from None
        bound = cast(bytes, router.get(zmq.LAST_ENDPOINT)).decode().rstrip("\0")
        self._endpoints.append(bound)
        host, _, port = bound.removeprefix("tcp://").rpartition(":")
        host = socket.gethostname() if host == "0.0.0.0" else host  # noqa: S104 (nothing is bound)
        host, port = advertised(advertise, port) if advertise else (host, port)
        self.address = f"tcp://{host}:{port}"
        if (name := beside(bound)) is not None:
            with contextlib.suppress(zmq.ZMQError):  # then nobody finds it, and all use tcp
                router.bind(f"ipc://@{name}")
                self._endpoints.append(f"ipc://@{name}")
        self._poller.register(router, zmq.POLLIN)

    def send(self, peer: Peer, frames: Sequence[Frame]) -> bool:
        if self._lanes is not None and len(frames) > 1 and self._lanes.send(peer, frames):
            return True
        try:
            if isinstance(peer, bytes):
                if self._router is None:
                    return False
                link = self._router
                route = peer if self._curve is None else self._curve.route(peer)
                if not route:
                    return False
                link.send(route, _MORE)
            else:
                link = self._dealers.get(peer) or self._dealer(peer)
                if self._curve is not None:
                    link.send(self._name, _MORE)
            self._loans.send(link, frames)
        except zmq.ZMQError as failed:
            if failed.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                return False
            raise
        return True

    def _dealer(self, address: str) -> "zmq.Socket[bytes]":
        link = self._dealers.get(address)
        if link is None:
            link = self._context.socket(zmq.DEALER)
            configure(link)
            if self._curve is None:
                link.set(zmq.ROUTING_ID, self._name)
            elif not self._curve.introduce(link, address):
                link.close(0)
                raise zmq.ZMQError(zmq.EHOSTUNREACH)
            monitor = self._watch(link, address)
            try:
                link.connect(self._endpoint(address))
            except zmq.ZMQError as refused:
                if monitor is not None:
                    monitor.close()
                link.close(0)
                raise UserError(
                    "--controller",
                    address.removeprefix("tcp://"),
                    "HOST:PORT",
                    f"{why(refused)}: give the address that the role printed",
                ) from None
            self._dealers[address] = link
            self._addresses[link] = address
            if monitor is not None:
                self._monitors[link] = monitor
            self._poller.register(link, zmq.POLLIN)
        return link

    def _watch(self, link: "zmq.Socket[bytes]", address: str) -> Monitor | None:
        """Follow its handshakes: without keys only those with a controller, who may want them."""
        if self._curve is None and address not in self._expected:
            return None
        return Monitor(self._context, link)

    def receive(self, timeout: float) -> list[tuple[Peer, Frames]]:
        messages: list[tuple[Peer, Frames]] = []
        if self._curve is not None:
            timeout = min(timeout, LOOK_EVERY)
        for link, _ in self._poller.poll(math.ceil(max(0.0, timeout) * 1000)):
            if isinstance(link, int):
                self._bell.silence()
            elif self._curve is not None and link is self._curve.door.socket:
                self._curve.let_in(self.report)
            elif self._lanes is not None and link in self._lanes:
                self._lanes.drain(link, messages)
            else:
                self._drain(link, messages)
        if (now := self._clock.now()) >= self._look_at:
            self._look_at = now + LOOK_EVERY
            self._look()
        return messages

    def _drain(self, link: "zmq.Socket[bytes]", messages: list[tuple[Peer, Frames]]) -> None:
        """Take what is there of a socket that is readable, up to `BURST` messages."""
        address = self._addresses.get(link)
        for _ in range(BURST):
            try:
                peer = link.recv(_NOBLOCK) if address is None else address
                first = frame = link.recv(_NOBLOCK, copy=False)
            except zmq.Again:
                return
            frames: Frames = [frame.bytes]
            while frame.more:
                frame = link.recv(_NOBLOCK, copy=False)
                frames.append(frame.buffer)
            if self._curve is not None:
                if (name := self._let_in(self._curve, peer, first, frames)) is None:
                    continue
                peer = name
            elif peer not in self._seen:
                self._see(peer, first)
            messages.append((peer, frames))
            if not cast(int, link.get(_EVENTS)) & _POLLIN:  # half the cost of an exception
                return

    def _let_in(self, curve: Curve, peer: Peer, first: zmq.Frame, frames: Frames) -> Peer | None:
        """Whose message it is that came by a connection with keys; its name is taken off. None if
        it may not come in, or is for us."""
        if isinstance(peer, bytes):
            if (name := curve.admit(peer, first, frames, self.report)) is None:
                return None
            peer, frames[:2] = name, [bytes(frames[1])]
        if frames[0][:1] == _CONTROL:
            self._control(peer, frames)
            return None
        return peer

    def _control(self, peer: Peer, frames: Frames) -> None:
        """A message of the peer's transport to ours (see `CONTROL`); `send` takes them, too."""
        if self._lanes is not None:
            self._lanes.control(peer, frames)

    def _see(self, peer: Peer, first: zmq.Frame) -> None:
        """Note where somebody without keys comes from."""
        if len(self._seen) >= SENDERS_LIMIT:
            del self._seen[next(iter(self._seen))]
        self._seen[peer] = Seen(address=address_of(first))

    def _look(self) -> None:
        """What has become of handshakes, and of the files of keys."""
        for link, monitor in list(self._monitors.items()):
            address = self._addresses.get(link)
            if address is None:
                monitor.count_failures(self._look_at, self.report)
            elif not (ended := monitor.take()):
                if monitor.is_given_up():
                    self._redial(address)
            elif ended[-1].outcome == "succeeded":
                self._troubles.pop(address, None)
                self._failing.pop(address, None)
            else:
                self._failed(address, ended[-1])
        if self._curve is not None:
            fresh, gone = self._curve.reload(self.report)
            if fresh:
                self._renew(self._curve)
            for address in gone:
                self._redial(address)
            self._bind_again()

    def _failed(self, address: str, handshake: Handshake) -> None:
        """A handshake with whoever listens there has failed. ZeroMQ tries again only where the
        other side broke off."""
        if handshake.outcome != "unfinished" or address not in self._troubles:
            self._troubles[address] = handshake  # who only breaks off says less than before
        another = self._curve is not None and self._curve.try_next(address)
        if another or handshake.outcome != "unfinished":
            self._redial(address)
        lasts = self._look_at - self._failing.setdefault(address, self._look_at)
        if not another and lasts >= WARN_AFTER and (advice := self.trouble(address)):
            place = address.removeprefix("tcp://")
            self.report.log_rarely("warning", f"no connection to {place}: {advice}")

    def _redial(self, address: str) -> None:
        """Connect again, with our pair and the key to be met as they are now."""
        if self._hang_up(address):
            with contextlib.suppress(zmq.ZMQError):  # nobody may be met there now
                self._dealer(address)

    def _renew(self, curve: Curve) -> None:
        """Our pair has changed. A place keeps the pair that it was bound with, and connections end
        with it: clients come back, and delivery repeats what was on its way."""
        if self._router is not None:
            curve.protect(self._router)
            for endpoint in self._endpoints:
                with contextlib.suppress(zmq.ZMQError):  # it still waits to be bound
                    self._router.unbind(endpoint)
            self._unbound = list(self._endpoints)
        for address in list(self._dealers):
            self._redial(address)

    def _bind_again(self) -> None:
        """Listen again where we did; ZeroMQ may not yet have let go of the place."""
        for endpoint in list(self._unbound):
            assert self._router is not None
            try:
                self._router.bind(endpoint)
                self._unbound.remove(endpoint)
            except zmq.ZMQError as refused:
                self.report.log_rarely("warning", f"not yet at {endpoint}: {why(refused)}")

    def wake(self) -> None:
        self._bell.ring()

    def lend(self, block: Array) -> None:
        self._loans.lend(block)

    def shortcut(self, address: str) -> bool:
        if address in self._shortcuts:
            return True
        name = beside(address)
        if name is None or not is_ours(name):
            return False
        self._shortcuts.add(address)
        if (link := self._dealers.get(address)) is not None:
            link.disconnect(address)
            link.connect(self._endpoint(address))
        return True

    def seen(self, peer: Peer) -> Seen:
        return self._seen.get(peer, NOBODY) if self._curve is None else self._curve.seen(peer)

    def expect(self, address: str, role: Role) -> None:
        self._expected.add(address)
        if self._curve is not None:
            self._curve.expect(address, role)

    def trust(self, peer: Peer, key: str) -> None:
        if self._curve is not None and self._curve.trust(peer, key, self.report):
            self._redial(cast(str, peer))

    def trouble(self, address: str) -> str:
        handshake = self._troubles.get(address)
        if handshake is None and (lost := unresolved(address)):
            return lost
        if self._curve is not None:
            return self._curve.advice(address, handshake)
        return "" if handshake is None else handshake.advice()

    def _endpoint(self, address: str) -> str:
        """Where an address is reached."""
        return f"ipc://@{beside(address)}" if address in self._shortcuts else address

    def forget(self, peer: Peer) -> None:
        if isinstance(peer, str):
            self._shortcuts.discard(peer)
            self._troubles.pop(peer, None)
            self._failing.pop(peer, None)
            self._hang_up(peer)
            if self._lanes is not None:
                self._lanes.forget(peer)
            if self._curve is not None:
                self._curve.forget(peer)

    def _hang_up(self, address: str) -> bool:
        """Close the socket of an address; whether there was one."""
        if (link := self._dealers.pop(address, None)) is None:
            return False
        self._poller.unregister(link)
        if (monitor := self._monitors.pop(link, None)) is not None:
            monitor.close()
        del self._addresses[link]
        link.close(0)
        return True

    def close(self, linger: float) -> None:
        for monitor in self._monitors.values():
            monitor.close()
        self._monitors.clear()
        for link in [*self._dealers.values(), *([self._router] if self._router else [])]:
            link.close(int(linger * 1000))
        self._dealers.clear()
        self._addresses.clear()
        self._loans.clear()
        self._router = None
        if self._lanes is not None:
            self._lanes.close(linger)
        if self._curve is not None:
            self._curve.door.close()
        self._context.term()
