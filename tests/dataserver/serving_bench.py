"""A data server's state with its controller and workers played by the test, message by message."""

from typing import Any

import numpy as np

from dualshard.common.cluster import EMPTY, Cluster, make_view
from dualshard.common.delivery import Courier, Send, routing_id
from dualshard.common.messages import (
    Ack,
    DataFacts,
    Done,
    Envelope,
    Fetch,
    Form,
    Message,
    Progress,
    Serve,
    Welcome,
)
from dualshard.common.node import Action
from dualshard.common.types import Member, Role
from dualshard.dataserver.events import LookUp, Opened, Prepare, Prepared
from dualshard.dataserver.state import DataServer

BOSS, ONE, TWO = 1, 31, 32
CONTROLLER = "tcp://here:1"
FACTS = DataFacts(300, 20, 10, [2], 10)


class Bench:
    """A data server that has joined, its controller and its workers."""

    def __init__(self, *, opened: bool = True) -> None:
        self.state = DataServer(
            Courier(21),
            controller=CONTROLLER,
            address="tcp://there:21",
            host="host",
            pid=21,
            versions={},
        )
        self.now = 0.0
        self.actions: list[Action] = []
        self.prepared: list[Prepare] = []
        self.wondered: list[LookUp] = []
        self.slow = False
        self._sequences: dict[int, int] = {}
        self.keep(self.state.start(self.now))
        self.reply_to_last(Welcome(0, {}, 5.0))
        self.view(members=[ONE, TWO])
        if opened:
            self.post(Opened(FACTS))

    def keep(self, actions: list[Action]) -> None:
        """Remember the actions, and read every portion that is wanted at once, if not `slow`."""
        self.actions += actions
        for action in actions:
            if isinstance(action, LookUp):
                self.wondered.append(action)
            if isinstance(action, Prepare):
                self.prepared.append(action)
                if not self.slow:
                    self.read(action)

    def read(self, wanted: Prepare) -> None:
        """A portion is read; its values say of which one it is."""
        value = 1000 * wanted.leg + wanted.portion
        arrays = np.full((2, 2), value, np.float32), np.zeros(2, np.int64)
        self.post(Prepared(wanted, False, arrays, minibatches=wanted.minibatches))

    def post(self, event: object) -> None:
        self.keep(self.state.local(event, self.now))

    def reply_to_last(self, message: Message) -> None:
        asked = [a for a in self.actions if isinstance(a, Send) and a.envelope.form is Form.REQUEST]
        envelope = Envelope(BOSS, Form.REPLY, asked[-1].envelope.sequence, 0, message)
        self.keep(self.state.receive(CONTROLLER, envelope, self.now))

    def view(self, members: list[int], **changes: Any) -> None:
        """A new view in which these workers are members."""
        rows = tuple(
            Member(Role.WORKER, rank, incarnation, "", "host", incarnation)
            for rank, incarnation in enumerate(members)
        )
        number = self.state.cluster.number + 1
        values = {**vars(EMPTY), "number": number, "members": rows, "phase": "training", **changes}
        envelope = Envelope(BOSS, Form.NOTICE, 0, 0, make_view(Cluster(**values)))
        self.keep(self.state.receive(CONTROLLER, envelope, self.now))

    def say(
        self, source: int, message: Message, *, sequence: int = 0, floor: int = 0
    ) -> list[Message]:
        """A request; what was sent to its sender. With `sequence` it is a repeat."""
        number = sequence or self._sequences.get(source, 0) + 1
        self._sequences[source] = max(number, self._sequences.get(source, 0))
        before = len(self.actions)
        envelope = Envelope(source, Form.REQUEST, number, floor or 1, message)
        self.keep(self.state.receive(routing_id(source), envelope, self.now))
        return self.replies(source, before)

    def replies(self, source: int, since: int = 0) -> list[Message]:
        """What a peer has been answered."""
        sends = [a for a in self.actions[since:] if isinstance(a, Send)]
        return [s.envelope.message for s in sends if s.peer == routing_id(source)]

    def serve(self, leg: int, *portions: int, end: int = 0, begin: int = 50) -> None:
        """Leg L is the part of epoch L + 5 from position `begin` on."""
        assert self.say(BOSS, Serve(leg, leg + 5, begin, list(portions), end)) == [Ack()]

    def fetch(self, source: int) -> int | None:
        """A credit; the portion that came for it at once."""
        answers = self.say(source, Fetch(False, 0))
        assert len(answers) <= 1
        return answers[0].portion if answers else None  # type: ignore[attr-defined]

    def done(self, source: int, leg: int, portion: int, **measures: float) -> None:
        assert self.say(source, Done(leg, portion, measures)) == [Ack()]

    def reports(self) -> list[Progress]:
        """The reports to the controller, each acknowledged when it is seen."""
        found = []
        for action in list(self.actions):
            if isinstance(action, Send) and isinstance(action.envelope.message, Progress):
                found.append(action.envelope.message)
        self.actions = [
            a
            for a in self.actions
            if not (isinstance(a, Send) and isinstance(a.envelope.message, Progress))
        ]
        return found

    def acknowledge(self) -> None:
        """The controller has its last report."""
        sends = [a for a in self.actions if isinstance(a, Send)]
        sequence = [s for s in sends if isinstance(s.envelope.message, Progress)][
            -1
        ].envelope.sequence
        envelope = Envelope(BOSS, Form.REPLY, sequence, 0, Ack())
        self.keep(self.state.receive(CONTROLLER, envelope, self.now))
