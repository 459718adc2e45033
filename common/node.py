"""The state machine that every role's state stands on: envelopes in, actions out. Pure.

A `Node` sorts out duplicates (`delivery`), hands each message to the method registered for its
kind, and collects what is to be done as a list of actions for the `loop` to perform. No socket,
thread or clock: `now` comes with every call, in seconds of the role's clock.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .delivery import Arrival, Courier, Open, Peer
from .messages import ANSWERS, NOTICES, Envelope, Form, Message, Refused
from .transport.contract import NOBODY, Seen
from .types import Array

NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Note:
    """Action: write a line to the log. `level` is a name of the logging module."""

    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Exit:
    """Action: the role ends with this status; `reason` is shown when it is not 0."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Local event, of any role: it cannot go on, or, with `asked`, somebody wants it to end."""

    status: int
    reason: str
    asked: bool = False


Action = Any
"""`Send`, `Forget`, `Shortcut`, `Lend`, `Trust`, `Note`, `Exit`, or one of the role's own."""


@dataclass(frozen=True, slots=True)
class Forget:
    """Action: drop the connection to this address."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class Shortcut:
    """Action: reach this address past the network, if it is on this machine; if it is not,
    `NoShortcut` comes back."""

    address: str


@dataclass(frozen=True, slots=True)
class Lend:
    """Action: slices of this array, or of what it is a slice of, will be sent again and again."""

    block: Array


@dataclass(frozen=True, slots=True)
class Trust:
    """Action: whoever listens at this address, or bears this name, is the holder of this key."""

    peer: Peer
    key: str


@dataclass(frozen=True, slots=True)
class NoShortcut:
    """Local event: there is no way to this address but the network."""

    address: str


class Node:
    """Registers handlers, keeps the courier and the outgoing actions.

    Requests are handled by `requests[kind](peer, envelope)`, notices by the same table, replies
    by `replies[kind of the request](request, reply)`; each sees only kinds that `messages` allows
    it. Not thread-safe: it belongs to the loop.
    """

    def __init__(self, courier: Courier) -> None:
        self.courier = courier
        self.counted: Mapping[str, int] = {}
        """What the loop counts beside this state (messages that were dropped, or not sent)."""
        self.seen: Callable[[Peer], Seen] = lambda peer: NOBODY
        """What the loop's transport knows of a peer by itself."""
        self.trouble: Callable[[str], str] = lambda address: ""
        """Why the loop's transport does not reach an address, if it knows."""
        self.now = 0.0
        self.requests: dict[type[Message], Callable[[Peer, Envelope], None]] = {}
        self.replies: dict[type[Message], Callable[[Open, Message], None]] = {}
        self._actions: list[Action] = []

    # What the loop calls.

    def receive(self, peer: Peer, envelope: Envelope, now: float) -> list[Action]:
        """One envelope has arrived."""
        self.now = now
        arrival, request, again = self.courier.receive(peer, envelope)
        if again is not None:
            self.do(again)
        if arrival is Arrival.REQUEST or arrival is Arrival.NOTICE:
            self._handle(peer, envelope)
        elif arrival is Arrival.REPEAT:
            self.repeated(peer, envelope)
        elif arrival is Arrival.REPLY and request is not None:
            self._answered(request, envelope.message)
        return self.take()

    def forbidden(self, peer: Peer, envelope: Envelope, why: str, now: float) -> list[Action]:
        """One envelope has arrived whose sender may not send it."""
        self.now = now
        if envelope.form is Form.REQUEST:  # nothing of it is remembered
            self.do(self.courier.answer(peer, envelope, Refused("forbidden", why), remember=False))
        return self.take()

    def tick(self, now: float) -> list[Action]:
        """`wake_at` has come, or nothing happened for a while."""
        self.now = now
        repeats, expired = self.courier.due(now)
        for send in repeats:
            self.do(send)
        for request in expired:
            self.expired(request)
        self.ticked()
        return self.take()

    def local(self, event: object, now: float) -> list[Action]:
        """Something has happened in this process (a step is done, a batch is read)."""
        self.now = now
        self.happened(event)
        return self.take()

    def wake_at(self) -> float:
        """The moment of the next `tick`."""
        return self.courier.wake_at()

    # What a role fills in.

    def repeated(self, peer: Peer, envelope: Envelope) -> None:
        """A request came again whose reply was not remembered: answer afresh, or do nothing
        while the first answer is still pending."""

    def refused(self, request: Open, reply: Refused) -> None:
        """A request was refused for good."""
        self.note("error", f"{type(request.message).__name__} was refused: {reply.detail}")

    def expired(self, request: Open) -> None:
        """A request's deadline has passed without a reply."""

    def ticked(self) -> None:
        """Timers of the role's own."""

    def happened(self, event: object) -> None:
        """Local events of the role's own."""

    # What a role uses.

    def do(self, action: Action) -> None:
        """Add an action for the loop."""
        self._actions.append(action)

    def take(self) -> list[Action]:
        """The actions collected so far; the list starts anew."""
        actions, self._actions = self._actions, []
        return actions

    def ask(
        self,
        peer: Peer,
        message: Message,
        tag: Any = None,
        patience: float = 1e18,
        pause: float | None = None,
    ) -> None:
        """Send a request (see `Courier.ask`); its reply comes to `replies[type(message)]`."""
        self.do(self.courier.ask(peer, message, self.now, tag, patience, pause))

    def answer(
        self, peer: Peer, request: Envelope, message: Message, *, remember: bool = True
    ) -> None:
        """Reply to a request."""
        self.do(self.courier.answer(peer, request, message, remember=remember))

    def refuse(self, peer: Peer, request: Envelope, code: str, detail: str) -> None:
        """Reply that a request can never succeed."""
        if request.form is Form.REQUEST:
            self.answer(peer, request, Refused(code, detail))

    def note(self, level: str, text: str) -> None:
        """A line for the log."""
        self.do(Note(level, text))

    def _answered(self, request: Open, reply: Message) -> None:
        asked = type(request.message)
        if isinstance(reply, Refused):
            self.refused(request, reply)
        elif isinstance(reply, ANSWERS[asked]):
            self.replies[asked](request, reply)
        else:
            detail = f"{type(reply).__name__} is no answer to {asked.__name__}"
            self.refused(request, Refused("unexpected", detail))

    def _handle(self, peer: Peer, envelope: Envelope) -> None:
        asked = type(envelope.message)
        handler = self.requests.get(asked)
        if handler is not None and asked in (NOTICES if envelope.form is Form.NOTICE else ANSWERS):
            handler(peer, envelope)
            return
        kind = asked.__name__
        self.note("warning", f"{kind} from {envelope.source:016x} is not for this role; refused")
        self.refuse(peer, envelope, "unexpected", f"{kind} is not for this role")
