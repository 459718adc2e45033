"""Exactly-once delivery over a network that loses, repeats and reorders. Pure: `now` is handed in.

Every request has (sender, incarnation, sequence). The sender repeats it, with growing pauses,
until the reply is there or its deadline has passed; the receiver remembers what it has answered
in a window per sender and sends the same reply again instead of doing the work twice. Replies to
pushes are too big to be kept: the receiver regenerates them (`Arrival.REPEAT`).

The number of open requests is the credit: nobody sends a request without having room for it, so
every window and every queue is bounded by what its sender may have open.
"""

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from .messages import Envelope, Form, Message

Peer = str | bytes
"""Whom a transport can reach: an address that we connect to, or the routing id of one who
connected to us (its incarnation, see `routing_id`)."""

WINDOW_LIMIT = 4096
"""Requests remembered per sender; more open ones than this are dropped until some are answered."""
SENDERS_LIMIT = 4096
"""Senders remembered; beyond it the one heard of least recently is forgotten."""


def routing_id(incarnation: int) -> bytes:
    """The name under which a role's connections are known to those it connects to."""
    return b"\x01" + incarnation.to_bytes(8, "big")


@dataclass(frozen=True, slots=True)
class Send:
    """Action: hand this envelope to the transport."""

    peer: Peer
    envelope: Envelope


class Arrival(Enum):
    """What an incoming envelope is, once duplicates have been sorted out."""

    NOTICE = "notice"
    REQUEST = "request"
    REPEAT = "repeat"
    REPLY = "reply"
    STALE = "stale"


@dataclass(slots=True)
class Open:
    """A request that has no reply yet. Its buffers are lent to the transport until then."""

    peer: Peer
    envelope: Envelope
    tag: Any
    asked_at: float
    deadline: float
    repeat_at: float
    pause: float
    grows: bool
    tries: int = 1

    @property
    def message(self) -> Message:
        """What was asked."""
        return self.envelope.message


@dataclass(slots=True)
class _Window:
    """What one sender has been answered: sequence -> reply, None while the answer is pending or
    when it is to be regenerated."""

    floor: int = 1
    answers: dict[int, Message | None] = field(default_factory=dict)


@dataclass(slots=True)
class Counters:
    """What happened on the way; every number is a count since the start."""

    requests: int = 0
    retries: int = 0
    repeats: int = 0
    expired: int = 0
    overflows: int = 0


class Courier:
    """The sending and the receiving half of exactly-once delivery of one role.

    Not thread-safe: it belongs to the loop.

    Arguments:
        incarnation: this life of this role.
        first_pause: seconds until a request is first repeated; doubles up to `longest_pause`.
    """

    def __init__(
        self, incarnation: int, *, first_pause: float = 2.0, longest_pause: float = 10.0
    ) -> None:
        self.incarnation = incarnation
        self.counters = Counters()
        self._first_pause, self._longest_pause = first_pause, longest_pause
        self._next: dict[Peer, int] = {}
        self._open: dict[Peer, dict[int, Open]] = {}  # by sequence, which only grows
        self._windows: OrderedDict[int, _Window] = OrderedDict()
        self._wake_at = float("inf")

    # The asking side.

    def ask(
        self,
        peer: Peer,
        message: Message,
        now: float,
        tag: Any = None,
        patience: float = 1e18,
        pause: float | None = None,
    ) -> Send:
        """Open a request; `tag` comes back with its reply. It is given up after `patience` seconds
        and repeated after growing pauses, or every `pause` seconds where that is given."""
        sequence = self._next.get(peer, 1)
        self._next[peer] = sequence + 1
        waiting = self._open.setdefault(peer, {})
        floor = next(iter(waiting), sequence)
        envelope = Envelope(self.incarnation, Form.REQUEST, sequence, floor, message)
        first = self._first_pause if pause is None else pause
        waiting[sequence] = Open(
            peer, envelope, tag, now, now + patience, now + first, first, pause is None
        )
        self._wake_at = min(self._wake_at, now + first, now + patience)
        self.counters.requests += 1
        return Send(peer, envelope)

    def notify(self, peer: Peer, message: Message) -> Send:
        """A notice: sent once, never repeated."""
        return Send(peer, Envelope(self.incarnation, Form.NOTICE, 0, 0, message))

    def due(self, now: float) -> tuple[list[Send], list[Open]]:
        """Requests to repeat at `now`, and those whose deadline has passed (closed by this)."""
        sends, expired = [], []
        for waiting in self._open.values():
            for sequence, request in list(waiting.items()):
                if now >= request.deadline:
                    expired.append(waiting.pop(sequence))
                elif now >= request.repeat_at:
                    request.tries += 1
                    if request.grows:
                        request.pause = min(2 * request.pause, self._longest_pause)
                    request.repeat_at = now + request.pause
                    # The floor has moved on: without it a full window could never be cleared.
                    again = replace(request.envelope, floor=next(iter(waiting)))
                    sends.append(Send(request.peer, again))
        moments = (
            min(request.repeat_at, request.deadline)
            for waiting in self._open.values()
            for request in waiting.values()
        )
        self._wake_at = min(moments, default=float("inf"))
        self.counters.retries += len(sends)
        self.counters.expired += len(expired)
        return sends, expired

    def wake_at(self) -> float:
        """When `due` may next have something to say, never too late; infinity if nothing is open.

        Kept as a lower bound, so that a turn of the loop costs the same however much is open.
        """
        return self._wake_at

    def open_requests(self, peer: Peer | None = None) -> list[Open]:
        """Requests without a reply, to one peer or to all, oldest first."""
        peers = self._open if peer is None else [peer]
        return [request for key in peers for request in self._open.get(key, {}).values()]

    def forget(self, peer: Peer) -> list[Open]:
        """Close all requests to a peer that is gone; returns them."""
        return list(self._open.pop(peer, {}).values())

    def withdraw(self, request: Open) -> None:
        """Close one request without a reply; a reply that still comes is stale."""
        self._open.get(request.peer, {}).pop(request.envelope.sequence, None)

    # The answering side.

    def receive(self, peer: Peer, envelope: Envelope) -> tuple[Arrival, Open | None, Send | None]:
        """Sort out one envelope.

        Returns:
            what it is; the request that it answers (for a reply); and a remembered reply to send
            again (for a repeat that needs nobody's attention, which is then `STALE`).
        """
        if envelope.form is Form.NOTICE:
            return Arrival.NOTICE, None, None
        if envelope.form is Form.REPLY:
            request = self._open.get(peer, {}).pop(envelope.sequence, None)
            return (Arrival.REPLY, request, None) if request else (Arrival.STALE, None, None)
        return self._receive_request(peer, envelope)

    def _receive_request(
        self, peer: Peer, envelope: Envelope
    ) -> tuple[Arrival, Open | None, Send | None]:
        window = self._window(envelope.source)
        if envelope.floor > window.floor:
            window.floor = envelope.floor
            for old in [key for key in window.answers if key < window.floor]:
                del window.answers[old]
        sequence = envelope.sequence
        if sequence < window.floor:
            self.counters.repeats += 1
            return Arrival.STALE, None, None
        if sequence in window.answers:
            self.counters.repeats += 1
            remembered = window.answers[sequence]
            if remembered is not None:
                return Arrival.STALE, None, self._reply(peer, sequence, remembered)
            return Arrival.REPEAT, None, None
        if len(window.answers) >= WINDOW_LIMIT:
            self.counters.overflows += 1
            return Arrival.STALE, None, None
        window.answers[sequence] = None
        return Arrival.REQUEST, None, None

    def answer(
        self, peer: Peer, request: Envelope, message: Message, *, remember: bool = True
    ) -> Send:
        """The reply to a request. With `remember` a repeat gets it again without being seen;
        without, the repeat comes back as `Arrival.REPEAT` to be answered afresh."""
        if remember:
            window = self._window(request.source)
            if request.sequence in window.answers:
                window.answers[request.sequence] = message
        return self._reply(peer, request.sequence, message)

    def _reply(self, peer: Peer, sequence: int, message: Message) -> Send:
        return Send(peer, Envelope(self.incarnation, Form.REPLY, sequence, 0, message))

    def _window(self, source: int) -> _Window:
        window = self._windows.get(source)
        if window is None:
            window = self._windows[source] = _Window()
            if len(self._windows) > SENDERS_LIMIT:
                self._windows.popitem(last=False)
        else:
            self._windows.move_to_end(source)
        return window

    def remembered(self) -> int:
        """Answers held for repeats, over all senders (tests assert that it stays bounded)."""
        return sum(len(window.answers) for window in self._windows.values())
