"""A boundary whose neighbours are played by the test, message by message."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dualshard.common.delivery import Open, Peer
from dualshard.common.job import Job
from dualshard.common.messages import Activations, Envelope, Form, Message, Refused, Samples
from dualshard.common.types import Float32, Member, Role
from dualshard.worker.boundary.events import (
    Ahead,
    Back,
    Backed,
    Forward,
    Forwarded,
    Train,
    Trained,
)
from dualshard.worker.boundary.linked import Linked
from dualshard.worker.boundary.making import make_boundary

BELOW = Member(Role.WORKER, 0, 10, "tcp://below:1", "m", 1)
ABOVE = Member(Role.WORKER, 2, 12, "tcp://above:1", "m", 1)


@dataclass
class Host:
    """Notes all that a boundary does."""

    asked: list[tuple[Peer, Message, Any]] = field(default_factory=list)
    answered: list[tuple[int, Message]] = field(default_factory=list)
    refusals: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[tuple[int, str]] = field(default_factory=list)

    def ask(self, peer: Peer, message: Message, tag: Any = None) -> None:
        self.asked.append((peer, message, tag))

    def answer(self, peer: Peer, request: Envelope, message: Message) -> None:
        self.answered.append((request.sequence, message))

    def refuse(self, peer: Peer, request: Envelope, code: str, detail: str) -> None:
        self.refusals.append((code, detail))

    def note(self, level: str, text: str) -> None:
        self.notes.append(text)

    def fail(self, status: int, reason: str) -> None:
        self.failures.append((status, reason))


class Lone:
    """The part of this rank, with the neighbours that it has."""

    def __init__(self, job: Job, rank: int) -> None:
        self.host = Host()
        boundary = make_boundary(self.host, job, rank)
        assert isinstance(boundary, Linked)
        self.boundary = boundary
        below = None if boundary.bottom else BELOW
        self.boundary.meet(below, None if boundary.top else ABOVE)
        self._sequence = 0

    def hear(self, message: Message, source: int = BELOW.incarnation) -> None:
        """A request comes in."""
        self._sequence += 1
        envelope = Envelope(source, Form.REQUEST, self._sequence, 1, message)
        self.boundary.requests[type(message)](b"peer", envelope)

    def compute(self) -> bool:
        """Let the next action be computed, by somebody who is always content."""
        boundary = self.boundary
        for ask in boundary.unknown():
            labels = np.zeros(100 if ask.labels else 0, np.int64)
            boundary.know((ask.epoch, ask.begin), Samples(np.arange(100), labels))
        action = boundary.next()
        if isinstance(action, Forward | Ahead):
            outputs = np.ones((len(action.rows.inputs), 3), np.float32)
            boundary.happened(Forwarded(action.round, outputs))
        elif isinstance(action, Train):
            copies = dict.fromkeys((boundary.part - 1, boundary.part), np.ones(3, np.float32))
            targets = np.ones(action.rows.inputs.shape, np.float32)
            boundary.happened(Trained(action.round, 1, targets, 0.1, copies))
        elif isinstance(action, Back):
            boundary.happened(Backed(action.round, np.ones((1, 2), np.float32), {}, 1))
        return action is not None

    def refuse(self, number: int, code: str, detail: str) -> bool:
        """The part is told that its request of this number was refused."""
        peer, message, tag = self.host.asked[number]
        envelope = Envelope(1, Form.REQUEST, 1, 1, message)
        request = Open(peer, envelope, tag, 0.0, 9.0, 1.0, 1.0, True)
        return self.boundary.refused(request, Refused(code, detail))


def activations(rows: Float32 | None = None, **fields: Any) -> Activations:
    """A round of one minibatch of four samples, or what is said instead."""
    array = np.ones((4, 2), np.float32) if rows is None else rows
    good = Activations(
        round=1,
        leg=0,
        epoch=0,
        begin=0,
        first=0,
        minibatch=0,
        batch=4,
        piece=0,
        pieces=1,
        dual=0.0,
        encoding="f32",
        shape=list(array.shape),
        values=array.reshape(-1),
        extra=np.empty(0, np.float32),
    )
    return replace(good, **fields)
