"""The sockets of sealed lanes: beside a CURVE ROUTER a plain one, a plain DEALER to each peer's.

Whatever comes here is a stranger's until it has been opened: it is dropped and counted before a
byte of it is parsed. The route to a peer is where its last authentic message has come from, so that
nobody takes another's place by a name. See `lane` for how lanes are agreed on, probed and given up;
all of that happens when there is something to send, so nothing here needs a timer.
"""

import contextlib
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import cast

import zmq

from ..clock import Clock
from ..delivery import SENDERS_LIMIT, Peer
from ..sealing import (
    FRAMES_LIMIT,
    HALF,
    LEAST,
    TAG,
    End,
    Replayed,
    Spent,
    Unsealed,
    agree,
    lane_of,
)
from ..wire import HEADER_LIMIT, Frame, Frames, MalformedFrame
from . import lane as rules
from .curve import HANDSHAKE_LIMIT
from .lane import GREETING, Lane, control, parse
from .pool import Pool
from .sockets import configure

LANE_FROM = 1 << 15
"""Bytes of arrays from which a message goes by a lane. (Processor time of echoes of 8, 16, 32, 64,
256 KiB by CURVE: 86, 108, 161, 278, 990 µs; by a lane: 115, 127, 128, 203, 472 µs.)"""
LANE_FRAME_LIMIT = 64 << 20
"""Bytes of one array that a lane carries; a stranger's frame is refused beyond."""
FIRST_LIMIT = HEADER_LIMIT + LEAST
"""Bytes of the first frame of a message."""
QUEUED = 64
"""Messages of one connection that wait to be opened; beyond, the sender's wait."""
BURST = 64
"""Messages taken from one socket before the others have their turn."""

_NOBLOCK = int(zmq.NOBLOCK)
_MORE = _NOBLOCK | int(zmq.SNDMORE)
_EVENTS, _POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)


class Lanes:
    """All lanes of one transport. Not thread-safe.

    Arguments:
        name: this role's own, as peers know it.
        bind: `HOST:PORT` of the CURVE ROUTER; empty if this role only connects.
        own_key: this role's public key as it is now.
        key_of: the public key of a peer, empty as soon as it is not accepted any more.
        tell: sends frames over CURVE to a peer.
        count: told of `sealed_messages` that were sent, `unsealed_messages` and `replayed_messages`
            that were refused, `lanes_agreed` and `lanes_lost`, and `malformed_frames`.
        domain: in which it is decided whose connections are let in; none for everyone's.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        poller: zmq.Poller,
        name: bytes,
        bind: str,
        own_key: Callable[[], str],
        key_of: Callable[[Peer], str],
        tell: Callable[[Peer, Frames], bool],
        count: Callable[[str], None],
        clock: Clock,
        domain: bytes = b"",
    ) -> None:
        self._context, self._poller = context, poller
        self._name, self._bind = name, bind
        self._own_key, self._key_of, self._tell = own_key, key_of, tell
        self._count, self._clock, self._domain = count, clock, domain
        self._router: zmq.Socket[bytes] | None = None
        self._port = 0
        self._links: dict[bytes, zmq.Socket[bytes]] = {}  # of lanes that we asked for
        self._lanes: OrderedDict[Peer, Lane] = OrderedDict()
        self._numbers: dict[bytes, Lane] = {}
        self._halves: dict[Peer, bytes] = {}
        self._pauses: OrderedDict[Peer, tuple[float, float]] = OrderedDict()
        self._pool = Pool()
        self._lent: dict[bytes, deque[tuple[int, zmq.Frame]]] = {}
        self._scratch = memoryview(bytearray(LANE_FROM))

    def __contains__(self, link: "zmq.Socket[bytes]") -> bool:
        """Whether a socket is one of ours, or has just been closed."""
        return link is self._router or link in self._links.values() or link.closed

    # Messages.

    def send(self, peer: Peer, frames: Sequence[Frame]) -> bool:
        """Seal and hand over a message; nothing of it is lent when this returns. False if it is
        small or there is no lane (yet): then it goes by CURVE."""
        sizes = list(map(len, frames[1:]))
        if sum(sizes) < LANE_FROM or max(sizes) > LANE_FRAME_LIMIT or len(frames) > FRAMES_LIMIT:
            return False
        now = self._clock.now()
        lane = self._lanes.get(peer)
        if lane is not None and not (self._valid(lane) and self._alive(lane, now)):
            self._lose(lane)
            lane = None
        if lane is None or not lane.stands:
            self._want(peer, now)
            return False
        if lane.doubtful(now) or not self._put(lane, frames, now):
            return False
        self._count("sealed_messages")
        return True

    def _valid(self, lane: Lane) -> bool:
        """Whether both ends still have the keys with which the lane was agreed on."""
        return lane.keys == (self._own_key(), self._key_of(lane.peer))

    def _alive(self, lane: Lane, now: float) -> bool:
        """Whether to go on with a lane; asks the other end where there is no telling."""
        if lane.to_ask(now):
            self._tell(lane.peer, lane.probe())
        return not lane.lost(now)

    def _put(self, lane: Lane, frames: Sequence[Frame], now: float) -> bool:
        link = self._link_of(lane)
        try:
            sealed = lane.seal(frames, self._room, now)
            if link is self._router:
                link.send(lane.route, _MORE)
            last = len(frames) - 1
            for place, frame in enumerate(sealed):
                flags = _NOBLOCK if place == last else _MORE
                if isinstance(frame, memoryview) and isinstance(frame.obj, zmq.Frame):
                    link.send(frame.obj, flags, copy=False)
                    self._lent[lane.number].append((lane.counter, frame.obj))
                else:
                    link.send(frame, flags)
        except (zmq.Again, Spent):
            return False
        except zmq.ZMQError as failed:
            if failed.errno != zmq.EHOSTUNREACH:
                raise
            self._lose(lane)  # the connection is gone, and who listens cannot make another
            self._tell(lane.peer, control(rules.GONE, lane.number))
            return False
        return True

    def drain(self, link: "zmq.Socket[bytes]", messages: list[tuple[Peer, Frames]]) -> None:
        """Take what is there of a socket that is readable, up to `BURST` messages."""
        for _ in range(BURST):
            if link.closed:  # with its lane, by what came just before
                return
            try:
                route = link.recv(_NOBLOCK) if link is self._router else b""
                frames = _receive(link)
            except zmq.Again:
                return
            if (message := self._open(link, route, frames)) is not None:
                messages.append(message)
            if not link.closed and not cast(int, link.get(_EVENTS)) & _POLLIN:
                return

    def _open(
        self, link: "zmq.Socket[bytes]", route: bytes, frames: Frames
    ) -> tuple[Peer, Frames] | None:
        """A message for the role; None for what is not authentic, or is a greeting."""
        lane, now = self._numbers.get(lane_of(frames[0])), self._clock.now()
        if lane is not None and not self._valid(lane):
            self._lose(lane)
            lane = None
        if lane is None or self._link_of(lane) is not link:
            self._count("unsealed_messages")
            return None
        fresh = not lane.stands
        try:
            opened = lane.open(frames, now)
        except Replayed:
            self._count("replayed_messages")
            return None
        except Unsealed:
            self._count("unsealed_messages")
            return None
        lane.route = route
        self._take_back(lane)
        if fresh:
            self._count("lanes_agreed")
            self._pauses.pop(lane.peer, None)
            if link is self._router:
                self._put(lane, GREETING, now)
        return None if opened == GREETING else (lane.peer, opened)

    # Agreeing.

    def _want(self, peer: Peer, now: float) -> None:
        """Try to agree on a lane, not too often."""
        due, pause = self._pauses.get(peer, (now, rules.FIRST_PAUSE))
        if now < due:
            return
        self._pauses[peer] = now + pause, min(2 * pause, rules.LONGEST_PAUSE)
        while len(self._pauses) > SENDERS_LIMIT:
            self._pauses.popitem(last=False)
        if isinstance(peer, bytes):
            self._tell(peer, control(rules.WANT))
            return
        half = self._halves[peer] = secrets.token_bytes(HALF)
        self._tell(peer, control(rules.HELLO, half))

    def control(self, peer: Peer, frames: Sequence[Frame]) -> None:
        """What a peer says about lanes, over CURVE; what makes no sense here is counted."""
        try:
            self._heed(peer, frames)
        except MalformedFrame:
            self._count("malformed_frames")

    def _heed(self, peer: Peer, frames: Sequence[Frame]) -> None:
        kind, fields = parse(frames)
        now = self._clock.now()
        if kind in (rules.PROBE, rules.GOT, rules.GONE):
            self._told(kind, peer, fields, now)
        elif kind == rules.HELLO and isinstance(peer, bytes):
            self._answer(peer, fields[0], now)
        elif kind == rules.HERE and isinstance(peer, str):
            self._accept(peer, fields, now)
        elif kind == rules.WANT and isinstance(peer, str):
            self._want(peer, now)
        else:
            raise MalformedFrame("said by the wrong end of a lane")

    def _told(self, kind: bytes, peer: Peer, fields: list[bytes], now: float) -> None:
        """About a lane that is there, or was."""
        number = fields[0]
        lane = self._numbers.get(number)
        if lane is None or lane.peer != peer:
            if kind == rules.PROBE:
                self._tell(peer, control(rules.GONE, number))
        elif kind == rules.PROBE:
            self._tell(peer, lane.came())
        elif kind == rules.GOT:
            lane.got(int.from_bytes(fields[1], "big"), now)
            self._take_back(lane)
        else:
            self._lose(lane)
            if isinstance(peer, str):
                self._want(peer, now)

    def _answer(self, peer: bytes, theirs: bytes, now: float) -> None:
        """A peer has said hello."""
        own, key = self._own_key(), self._key_of(peer)
        if not key or not self._listen():
            return
        half = secrets.token_bytes(HALF)
        session = agree(End(peer, key, theirs), End(self._name, own, half))
        lane = Lane(peer, (own, key), session, asks=False, now=now)
        self._install(lane, now)
        port = self._port.to_bytes(rules.PORT, "big")
        self._tell(peer, control(rules.HERE, theirs, half, self._name, port))

    def _accept(self, address: str, fields: list[bytes], now: float) -> None:
        """The answer to our hello."""
        mine, theirs, name, port = fields
        if self._halves.get(address) != mine:
            return  # to an earlier one
        del self._halves[address]
        own, key = self._own_key(), self._key_of(address)
        session = agree(End(self._name, own, mine), End(name, key, theirs))
        lane = Lane(address, (own, key), session, asks=True, now=now)
        host = address.removeprefix("tcp://").rpartition(":")[0]
        link = self._socket(zmq.DEALER)
        try:
            link.connect(f"tcp://{host}:{int.from_bytes(port, 'big')}")
        except zmq.ZMQError:
            link.close(0)
            raise MalformedFrame("no port to connect to") from None
        self._install(lane, now)
        self._links[lane.number] = link
        self._poller.register(link, zmq.POLLIN)
        self._put(lane, GREETING, now)

    def _listen(self) -> bool:
        """Bind at the first hello: at the port behind the one that the user named, if it is free;
        else at any. Whether anybody can be told to come here."""
        if self._router is None and self._bind:
            host, _, port = self._bind.rpartition(":")
            router = self._socket(zmq.ROUTER)
            router.set(zmq.ROUTER_MANDATORY, 1)
            if self._domain:
                router.set(zmq.ZAP_DOMAIN, self._domain)
            for wanted in ([int(port) + 1] if 0 < int(port) < 65535 else []) + [0]:
                with contextlib.suppress(zmq.ZMQError):
                    router.bind(f"tcp://{host}:{wanted}")
                    break
            else:
                router.close(0)
                return False
            bound = cast(bytes, router.get(zmq.LAST_ENDPOINT)).decode().rstrip("\0")
            self._router, self._port = router, int(bound.rpartition(":")[2])
            self._poller.register(router, zmq.POLLIN)
        return self._router is not None

    # Keeping them.

    def _install(self, lane: Lane, now: float) -> None:
        if (old := self._lanes.get(lane.peer)) is not None:
            self._drop(old)
        self._lanes[lane.peer] = self._numbers[lane.number] = lane
        self._lent[lane.number] = deque()
        for other in self._lanes.values():
            if other.silent(now):
                self._let_go(other)
        while len(self._lanes) > SENDERS_LIMIT:
            self._drop(next(iter(self._lanes.values())))

    def _lose(self, lane: Lane) -> None:
        self._count("lanes_lost")
        self._drop(lane)

    def _drop(self, lane: Lane) -> None:
        self._lanes.pop(lane.peer, None)
        self._numbers.pop(lane.number, None)
        self._let_go(lane)
        del self._lent[lane.number]
        if (link := self._links.pop(lane.number, None)) is not None:
            self._poller.unregister(link)
            link.close(0)

    def forget(self, peer: Peer) -> None:
        """The connection to a peer is dropped."""
        self._halves.pop(peer, None)
        self._pauses.pop(peer, None)
        if (lane := self._lanes.get(peer)) is not None:
            self._drop(lane)

    def close(self, linger: float) -> None:
        """Close all sockets, giving queued messages up to `linger` seconds to leave."""
        for link in [*self._links.values(), *([self._router] if self._router else [])]:
            self._poller.unregister(link)
            link.close(int(linger * 1000))
        self._router = None
        self._links.clear()
        self._lanes.clear()
        self._numbers.clear()
        self._lent.clear()

    def _link_of(self, lane: Lane) -> "zmq.Socket[bytes]":
        link = self._links.get(lane.number, self._router)
        assert link is not None
        return link

    def _socket(self, kind: int) -> "zmq.Socket[bytes]":
        link = self._context.socket(kind)
        configure(link)
        link.set(zmq.RCVHWM, QUEUED)
        link.set(zmq.HANDSHAKE_IVL, int(HANDSHAKE_LIMIT * 1000))
        link.set(zmq.MAXMSGSIZE, LANE_FRAME_LIMIT + TAG)
        link.set(zmq.RECONNECT_IVL, 50)
        link.set(zmq.RECONNECT_IVL_MAX, 1000)
        return link

    def _room(self, size: int) -> memoryview:
        """Memory for a sealed array: a frame of the pool; for a small one, and where the pool has
        none, always the same place, of which ZeroMQ makes a copy."""
        if size > len(self._scratch):
            self._scratch = memoryview(bytearray(size))
        room = self._scratch[:size]
        if size >= LANE_FROM and (frame := self._pool.take(room)) is not None:
            return frame.buffer
        return room

    def _let_go(self, lane: Lane) -> None:
        """Nobody will acknowledge what was sent."""
        lent = self._lent[lane.number]
        while lent:
            self._pool.lose(lent.popleft()[1])

    def _take_back(self, lane: Lane) -> None:
        """The frames that the other end has acknowledged can be filled again."""
        lent = self._lent[lane.number]
        while lent and lent[0][0] <= lane.acknowledged:
            self._pool.give(lent.popleft()[1])


def _receive(link: "zmq.Socket[bytes]") -> Frames:
    """One message; of more frames than any has, the first ones."""
    frame = link.recv(_NOBLOCK, copy=False)
    frames: Frames = [frame.bytes if len(frame) <= FIRST_LIMIT else b""]
    while frame.more:
        frame = link.recv(_NOBLOCK, copy=False)
        if len(frames) < FRAMES_LIMIT + 2:
            frames.append(frame.buffer)
    return frames
