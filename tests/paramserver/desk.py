"""A controller, and the roles as far as their messages go; tests say what these say."""

from collections.abc import Sequence
from typing import Any

from dualshard.common.delivery import Courier, Send, routing_id
from dualshard.common.job import Job
from dualshard.common.messages import Ack, DataFacts, Describe, Envelope, Form, Join, Message, Ready
from dualshard.common.node import Action, Exit
from dualshard.paramserver.controller.state import Controller

FACTS = DataFacts(100, 20, 10, [8, 8], 17)
LAYOUT = [["weight", True, False, 64, 10], ["bias", False, False, 10]]
SERVER, DATA, ONE, TWO = 11, 21, 31, 32


class Desk:
    """A controller, and the roles as far as their messages go."""

    def __init__(self, **settings: dict[str, Any]) -> None:
        tables = {"paramserver": {"count": 1}, "worker": {"count": 2}, **settings}
        self.now = 100.0
        job = Job.from_dict(tables)
        self.controller = Controller(Courier(1), job, "tcp://here:1", {"protocol": "1"})
        self.actions: list[Action] = []
        self._sequences: dict[int, int] = {}
        self.actions += self.controller.start(self.now)

    def say(self, source: int, message: Message) -> Message:
        """A role asks something; the answer."""
        sequence = self._sequences[source] = self._sequences.get(source, 0) + 1
        envelope = Envelope(source, Form.REQUEST, sequence, sequence, message)
        self.actions = self.controller.receive(routing_id(source), envelope, self.now)
        replies = [
            action.envelope.message
            for action in self.actions
            if isinstance(action, Send) and action.envelope.form is Form.REPLY
        ]
        assert len(replies) == 1
        return replies[0]

    def sent(self, kind: type[Message]) -> dict[bytes, Message]:
        """What the last step sent of one kind, by receiver."""
        sends = (action for action in self.actions if isinstance(action, Send))
        return {s.peer: s.envelope.message for s in sends if type(s.envelope.message) is kind}  # type: ignore[misc]

    def join(self, source: int, role: str, rank: int = -1) -> Message:
        versions = {"protocol": "1"}
        return self.say(source, Join(role, rank, f"tcp://there:{source}", "host", source, versions))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.actions = self.controller.tick(self.now)

    def prepare(self, workers: Sequence[int] = (ONE, TWO), starts: Sequence[int] = ()) -> None:
        """Everyone joins, and training begins; of a cut net the parts begin at `starts`."""
        self.join(SERVER, "paramserver")
        self.join(DATA, "dataserver")
        for worker in workers:
            self.join(worker, "worker")
        describe = Describe(LAYOUT, "", list(starts))
        described = ((worker, describe) for worker in workers)
        for source, message in ((DATA, FACTS), *described, (SERVER, Ready(1))):
            assert isinstance(self.say(source, message), Ack)

    def events(self) -> list[str]:
        """What people were told."""
        return [event["text"] for event in self.controller.board.events]

    @property
    def phase(self) -> str:
        return self.controller.cluster.phase

    def exit(self) -> Exit | None:
        return next((a for a in self.actions if isinstance(a, Exit)), None)
