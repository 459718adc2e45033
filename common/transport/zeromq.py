"""ZeroMQ's sockets as a `Transport`; what keys change stands in `curve`.

A peer that we connect to is named by its address (`tcp://host:port`); a peer that connected to us
is named by the routing id it chose (its incarnation). Frames of arrays are sent without copying:
their buffers are lent until the reply returns. An array frame that came in goes out again as
ZeroMQ's own message, and memory that stays where it is can be made known once (`lend`): pyzmq
otherwise wakes a thread of its own for each buffer that it has sent.
"""

import contextlib
import ipaddress
import math
import os
import socket
import struct
from collections.abc import Sequence
from typing import cast

import numpy as np
import zmq

from ..clock import SystemClock
from ..delivery import SENDERS_LIMIT, Peer, routing_id
from ..errors import UserError
from ..keys import KeyRing
from ..types import Array, Role
from ..wire import Frame, Frames, MalformedFrame
from .addresses import advertised, check_address
from .contract import NOBODY, Report, Seen, Unheard
from .curve import Curve, metadata
from .lanes import Lanes
from .monitor import Handshake, Monitor

FRAME_LIMIT = 1 << 30
"""Bytes of one frame; a longer one makes ZeroMQ drop the connection before it is allocated."""
QUEUE_LIMIT = 10_000
"""Messages queued per peer by ZeroMQ; credit keeps real queues far below it."""
COPY_BELOW = 1 << 19
"""Bytes below which a copy is cheaper than lending a buffer to ZeroMQ, which costs about 90 µs: the
thread that pyzmq wakes to give it back. (Processor time of echoes of 64, 128, 256, 512, 1024 KiB
with a copy: 0.51, 0.58, 0.83, 0.92, 1.08 of that with a loan.)"""
READY_FROM = 1 << 15
"""Bytes from which a message of ZeroMQ's that exists already is cheaper than a copy."""
BURST = 64
"""Messages taken from one socket before the others have their turn."""
LOOK_EVERY = 0.5
"""Seconds between two looks at handshakes and at the files of keys."""
CONTROL = 0xC1
"""How a message begins that is the transport's own: no msgpack begins like this."""

# Plain numbers: each use of one of pyzmq's enumerations costs a microsecond.
_NOBLOCK, _SNDMORE = int(zmq.NOBLOCK), int(zmq.SNDMORE)
_MORE = _NOBLOCK | _SNDMORE
_CONTROL = bytes([CONTROL])
_EVENTS, _POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)


class ZmqTransport:
    """ZeroMQ: one ROUTER socket for those who connect to us, one DEALER socket an address.

    Arguments:
        keys: what a connection must show, either way; None: connections have no keys.
        lanes: whether with keys large messages travel sealed beside CURVE (see `lanes`), which is
            faster and hides as much.

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
        self._context.set(zmq.MAX_SOCKETS, 4096)
        self.report: Report = Unheard()
        self._clock = SystemClock()
        self._look_at = 0.0
        self._monitors: dict[zmq.Socket[bytes], Monitor] = {}
        self._troubles: dict[str, Handshake] = {}
        self._name = routing_id(incarnation)
        self._dealers: dict[str, zmq.Socket[bytes]] = {}
        self._addresses: dict[zmq.Socket[bytes], str] = {}
        self._shortcuts: set[str] = set()
        self._seen: dict[Peer, Seen] = {}
        self._lent: dict[int, Array] = {}
        self._lent_frames: dict[tuple[int, int], zmq.Frame] = {}
        self._poller = zmq.Poller()
        self._bell = _Bell()
        self._poller.register(self._bell.descriptor, zmq.POLLIN)
        self._router: zmq.Socket[bytes] | None = None
        self.address = ""
        self._endpoints: list[str] = []
        self._unbound: list[str] = []
        self._curve: Curve | None = None
        self._lanes: Lanes | None = None
        try:
            if keys is not None:
                self._curve = Curve(self._context, keys)
                self._poller.register(self._curve.door.socket, zmq.POLLIN)
                if lanes:
                    self._lanes = self._make_lanes(self._curve, bind)
            if bind:
                self._bind(bind, advertise)
        except BaseException:
            self.close(0)
            raise

    def _bind(self, bind: str, advertise: str) -> None:
        check_address(bind, "--bind", 0)
        router = self._context.socket(zmq.ROUTER)
        self._router = router
        _configure(router)
        router.set(zmq.ROUTER_MANDATORY, 1)
        if self._curve is None:
            router.set(zmq.ROUTER_HANDOVER, 1)
        else:
            self._curve.protect(router)
            self._monitors[router] = Monitor(self._context, router)
        try:
            router.bind(f"tcp://{bind}")
        except zmq.ZMQError as refused:
            raise UserError(
                "--bind",
                bind,
                "an address of this machine that is free",
                f"{_why(refused)}: choose another with --bind HOST:PORT "
                "(port 0 takes any free one)",
            ) from None
        bound = cast(bytes, router.get(zmq.LAST_ENDPOINT)).decode().rstrip("\0")
        self._endpoints.append(bound)
        host, _, port = bound.removeprefix("tcp://").rpartition(":")
        if host == "0.0.0.0":  # noqa: S104 (a comparison; nothing is bound here)
            host = socket.gethostname()
        if advertise:
            host, port = advertised(advertise, port)
        self.address = f"tcp://{host}:{port}"
        if (name := _beside(bound)) is not None:
            with contextlib.suppress(zmq.ZMQError):  # then nobody finds it, and all use tcp
                router.bind(f"ipc://@{name}")
                self._endpoints.append(f"ipc://@{name}")
        self._poller.register(router, zmq.POLLIN)

    def _make_lanes(self, curve: Curve, bind: str) -> Lanes:
        return Lanes(
            self._context,
            self._poller,
            self._name,
            bind,
            own_key=lambda: curve.ring.own.public,
            key_of=lambda peer: curve.seen(peer).key,
            tell=self.send,
            count=lambda counter: self.report.count(counter),
            clock=self._clock,
        )

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
            last = len(frames) - 1
            for index, frame in enumerate(frames):
                flags, size = _NOBLOCK if index == last else _MORE, len(frame)
                if size < READY_FROM:
                    link.send(frame, flags)
                elif (ready := self._ready(frame)) is not None:
                    link.send(ready, flags, copy=False)
                else:
                    link.send(frame, flags, copy=size < COPY_BELOW)
        except zmq.ZMQError as failed:
            if failed.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                return False
            raise
        return True

    def _ready(self, frame: Frame) -> zmq.Frame | None:
        """The message of ZeroMQ's that these bytes came in, or that was made for lent memory."""
        owner: object = frame.obj if isinstance(frame, memoryview) else None
        if isinstance(owner, zmq.Frame):
            return owner if len(owner) == len(frame) else None
        if not isinstance(owner, np.ndarray) or id(owner.base) not in self._lent:
            return None
        place = (owner.__array_interface__["data"][0], len(frame))
        ready = self._lent_frames.get(place)
        if ready is None:
            ready = self._lent_frames[place] = zmq.Frame(frame, copy=False)
        return ready

    def _dealer(self, address: str) -> "zmq.Socket[bytes]":
        link = self._dealers.get(address)
        if link is None:
            link = self._context.socket(zmq.DEALER)
            _configure(link)
            if self._curve is None:
                link.set(zmq.ROUTING_ID, self._name)
            elif not self._curve.introduce(link, address):
                link.close(0)
                raise zmq.ZMQError(zmq.EHOSTUNREACH)
            link.set(zmq.RECONNECT_IVL, 50)
            link.set(zmq.RECONNECT_IVL_MAX, 1000)
            try:
                link.connect(self._endpoint(address))
            except zmq.ZMQError as refused:
                link.close(0)
                raise UserError(
                    "--controller",
                    address.removeprefix("tcp://"),
                    "HOST:PORT",
                    f"{_why(refused)}: give the address that the role printed",
                ) from None
            self._dealers[address] = link
            self._addresses[link] = address
            self._monitors[link] = Monitor(self._context, link)
            self._poller.register(link, zmq.POLLIN)
        return link

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
                self._take(self._curve, peer, first, frames, messages)
            else:
                if peer not in self._seen:
                    self._see(peer, first)
                messages.append((peer, frames))
            if (
                not cast(int, link.get(_EVENTS)) & _POLLIN
            ):  # costs half of the exception that would come
                return

    def _take(
        self,
        curve: Curve,
        peer: Peer,
        first: zmq.Frame,
        frames: Frames,
        messages: list[tuple[Peer, Frames]],
    ) -> None:
        """One message of a connection with keys, if it may come in."""
        if isinstance(peer, bytes):
            name = curve.admit(peer, first, frames, self.report)
            if name is None:
                return
            peer, frames = name, [bytes(frames[1]), *frames[2:]]
        if frames[0][:1] == _CONTROL:
            self._control(peer, frames)
        else:
            messages.append((peer, frames))

    def _control(self, peer: Peer, frames: Frames) -> None:
        """A message of the peer's transport to ours (see `CONTROL`); `send` takes them, too."""
        if self._lanes is None:
            return
        try:
            self._lanes.control(peer, frames)
        except MalformedFrame:
            self.report.count("malformed_frames")

    def _see(self, peer: Peer, first: zmq.Frame) -> None:
        """Note where somebody without keys comes from."""
        if len(self._seen) >= SENDERS_LIMIT:
            del self._seen[next(iter(self._seen))]
        self._seen[peer] = Seen(address=metadata(first, "Peer-Address"))

    def _look(self) -> None:
        """What has become of handshakes, and of the files of keys."""
        for address, link in list(self._dealers.items()):
            failures: list[Handshake] = []
            for handshake in self._monitors[link].take():
                if handshake.outcome == "succeeded":
                    failures.clear()
                    self._troubles.pop(address, None)
                else:
                    failures.append(handshake)
            if failures:
                self._failed(address, failures[-1])
        if self._curve is None:
            return
        if self._router is not None:
            for handshake in self._monitors[self._router].take():
                if handshake.outcome in ("failed", "unfinished"):
                    self.report.count(f"{handshake.outcome}_handshakes")
        fresh, gone = self._curve.reload(self.report)
        if fresh:
            self._renew(self._curve)
        for address in gone:
            self._redial(address)
        self._bind_again()

    def _failed(self, address: str, handshake: Handshake) -> None:
        """A handshake with whoever listens there has failed. ZeroMQ tries again only where the
        other side broke off."""
        self._troubles[address] = handshake
        another = self._curve is not None and self._curve.try_next(address)
        if another or handshake.outcome != "unfinished":
            self._redial(address)
        if not another:
            place = address.removeprefix("tcp://")
            self.report.log_rarely("warning", f"no connection to {place}: {self.trouble(address)}")

    def _redial(self, address: str) -> None:
        """Connect again, with our pair and the key to be met as they are now."""
        if self._hang_up(address):
            with contextlib.suppress(zmq.ZMQError):  # nobody may be met there now
                self._dealer(address)

    def _renew(self, curve: Curve) -> None:
        """Our pair has changed. A socket keeps its pair once it is bound, and its connections end
        with that: clients come back, and delivery repeats what was on its way."""
        if self._router is not None:
            curve.protect(self._router)
            for endpoint in self._endpoints:
                self._router.unbind(endpoint)
            self._unbound = list(self._endpoints)
        for address in list(self._dealers):
            self._redial(address)

    def _bind_again(self) -> None:
        """Listen again where we did; ZeroMQ may not yet have let go of the place."""
        for endpoint in list(self._unbound):
            assert self._router is not None
            with contextlib.suppress(zmq.ZMQError):
                self._router.bind(endpoint)
                self._unbound.remove(endpoint)

    def wake(self) -> None:
        self._bell.ring()

    def lend(self, block: Array) -> None:
        while isinstance(block.base, np.ndarray):  # slices know the first array, not their parent
            block = block.base
        self._lent[id(block)] = block

    def shortcut(self, address: str) -> bool:
        if address in self._shortcuts:
            return True
        name = _beside(address)
        if name is None or not _is_ours(name):
            return False
        self._shortcuts.add(address)
        if (link := self._dealers.get(address)) is not None:
            link.disconnect(address)
            link.connect(self._endpoint(address))
        return True

    def seen(self, peer: Peer) -> Seen:
        return self._seen.get(peer, NOBODY) if self._curve is None else self._curve.seen(peer)

    def expect(self, address: str, role: Role) -> None:
        if self._curve is not None:
            self._curve.expect(address, role)

    def trust(self, peer: Peer, key: str) -> None:
        if self._curve is not None:
            self._curve.trust(peer, key)

    def trouble(self, address: str) -> str:
        handshake = self._troubles.get(address)
        if self._curve is not None:
            return self._curve.advice(address, handshake)
        if handshake is not None and handshake.mismatch:
            return "it takes only connections with keys: give --keys DIR, see `dualshard keygen`"
        return ""

    def _endpoint(self, address: str) -> str:
        """Where an address is reached."""
        return f"ipc://@{_beside(address)}" if address in self._shortcuts else address

    def forget(self, peer: Peer) -> None:
        if isinstance(peer, str):
            self._shortcuts.discard(peer)
            self._troubles.pop(peer, None)
            self._hang_up(peer)
            if self._lanes is not None:
                self._lanes.forget(peer)
            if self._curve is not None:
                self._curve.forget(peer)

    def _hang_up(self, address: str) -> bool:
        """Close the socket of an address; whether there was one."""
        link = self._dealers.pop(address, None)
        if link is None:
            return False
        self._poller.unregister(link)
        self._monitors.pop(link).close()
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
        self._lent.clear()
        self._lent_frames.clear()
        self._router = None
        if self._lanes is not None:
            self._lanes.close(linger)
        if self._curve is not None:
            self._curve.door.close()
        self._context.term()


class _Bell:
    """Ends a waiting poll, from any thread or signal handler. Its descriptor is closed when nobody
    can ring any more, so that a late ring never reaches a file that has got its number."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def ring(self) -> None:
        os.eventfd_write(self.descriptor, 1)

    def silence(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.descriptor)

    def __del__(self) -> None:
        os.close(self.descriptor)


def _why(refused: zmq.ZMQError) -> str:
    """The system's words for an error, without the address that pyzmq adds to them."""
    return zmq.strerror(refused.errno) if refused.errno else str(refused)


def _configure(link: "zmq.Socket[bytes]") -> None:
    link.set(zmq.SNDHWM, QUEUE_LIMIT)
    link.set(zmq.RCVHWM, QUEUE_LIMIT)
    link.set(zmq.MAXMSGSIZE, FRAME_LIMIT)
    link.set(zmq.LINGER, 0)
    link.set(zmq.TCP_KEEPALIVE, 1)
    link.set(zmq.IPV6, 0)


def _beside(address: str) -> str | None:
    """The name of the Unix socket beside a loopback address; None for any other.

    It stands in the abstract namespace (unix(7)): no file, gone with its socket, and seen by the
    same network namespace as the address. It protects as much as loopback tcp, not more: any
    process of this machine may connect. Who listens is checked by `_is_ours`.
    """
    place = address.removeprefix("tcp://")
    with contextlib.suppress(ValueError):  # not a number: a name may lead anywhere
        if ipaddress.IPv4Address(place.rpartition(":")[0]).is_loopback:
            return f"dualshard-{place}"
    return None


def _is_ours(name: str) -> bool:
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
