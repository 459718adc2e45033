"""What a worker of a cut net drives: the contract of the state machines in this folder. Pure.

A boundary decides what its part computes next and what it tells the parts below and above; it owns
the queues between them. Messages go through the worker's own `Node`, which delivers each of them
exactly once. After any call there may be something new for `next`. Not thread-safe: it belongs to
the loop.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ...common.delivery import Open, Peer
from ...common.messages import AskSamples, Envelope, Message, Refused, Samples
from ...common.types import Member
from ..batches import Minibatch
from .events import Ahead, Back, Backed, Forward, Forwarded, Train, Trained

Action = Forward | Train | Ahead | Back
Event = Forwarded | Trained | Backed
Key = tuple[int, int]
"""A portion: its epoch, and where it begins in the order of that."""


class Host(Protocol):
    """What a boundary needs of the state that it belongs to (a `Session`)."""

    def ask(self, peer: Peer, message: Message, tag: Any = None) -> None: ...
    def answer(self, peer: Peer, request: Envelope, message: Message) -> None: ...
    def refuse(self, peer: Peer, request: Envelope, code: str, detail: str) -> None: ...
    def note(self, level: str, text: str) -> None: ...
    def fail(self, status: int, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a part has learnt with an event: `count` minibatches of `leg`, in `steps` steps.

    In the bottom part they are `batches`, and `measures` are sums over them of all parts (see
    `measures`); the other parts send theirs down, and say nothing here.
    """

    leg: int
    count: int
    steps: int
    batches: list[Minibatch] = field(default_factory=list)
    measures: dict[str, float] = field(default_factory=dict)


class Boundary(ABC):
    """One part's end of the boundaries below and above it.

    Attributes:
        requests, replies: handlers for the worker's tables; messages that come before there is a
            boundary are kept by an `Early`.
        counters: what went wrong, for the heartbeat; names begin with `boundary_`.
        takes: shape of one sample of the part's inputs, where it is known; what comes from below in
            another one is refused.
    """

    requests: dict[type[Message], Callable[[Peer, Envelope], None]]
    replies: dict[type[Message], Callable[[Open, Message], None]]
    counters: Counter[str]
    takes: tuple[int, ...] | None

    @abstractmethod
    def meet(self, below: Member | None, above: Member | None) -> None:
        """A new view: who holds the neighbouring parts. Another incarnation is a new neighbour."""

    @abstractmethod
    def wants(self) -> bool:
        """Whether the bottom part would begin one more portion now."""

    @abstractmethod
    def feed(self, batches: list[Minibatch]) -> None:
        """Minibatches of one portion, in order, for the bottom part."""

    @abstractmethod
    def next(self) -> Action | None:
        """What to compute now, None if nothing can be; its event is to follow in `happened`. Only
        to be called while nothing is computed and no exchange with the servers is under way."""

    @abstractmethod
    def happened(self, event: Event) -> Learnt | None:
        """The last action of `next` has been computed."""

    @abstractmethod
    def unknown(self) -> list[AskSamples]:
        """What is to be asked of data servers; each is told once."""

    @abstractmethod
    def know(self, key: Key, samples: Samples) -> None:
        """A data server's answer to `AskSamples` of this epoch and begin."""

    @abstractmethod
    def forget_asked(self, key: Key) -> None:
        """A question will not be answered (its server is gone): `unknown` tells it once more."""

    @property
    @abstractmethod
    def idle(self) -> bool:
        """Whether nothing is queued, computed or under way in either direction."""

    @property
    @abstractmethod
    def settling(self) -> bool:
        """Whether the part below wants all that was learnt to be with the servers."""

    @abstractmethod
    def settle(self, pushed: bool) -> bool:
        """Settle this part and those above it; to be called whenever something has changed: by the
        bottom part when it has run out of data, by the others while `settling`.

        Arguments:
            pushed: the servers have all that this part has learnt.
        Returns:
            whether it is settled, all the way up, and the part below has been told.
        """

    @abstractmethod
    def add(self, measures: Mapping[str, float]) -> None:
        """Sums of the worker's own, to travel down to the bottom part as the others do."""

    @abstractmethod
    def take_measures(self) -> dict[str, float]:
        """Sums of the parts above that came too late for `Learnt`; for the bottom part, once it is
        settled."""

    @abstractmethod
    def refused(self, request: Open, reply: Refused) -> bool:
        """A request was refused. False if it is none of the boundary's."""
