"""A worker's evaluations: the servers' parameters, measured on the test split meanwhile. Pure."""

from collections import deque

from ..common.delivery import Courier, Open, Peer
from ..common.messages import Envelope, Evaluate, Evaluated, Fetch, Portion, Pull, Shard
from ..common.types import Member, Role
from .evaluation import Evaluation, HeldOut
from .events import Measure, Measured
from .exchanging import Exchanger


class Evaluating(Exchanger):
    """Answers `Evaluate`, one after the other."""

    def __init__(self, courier: Courier, **session: object) -> None:
        super().__init__(courier, **session)
        self._tests = HeldOut()
        self._evaluations: deque[Evaluation] = deque()
        self.requests[Evaluate] = self._on_evaluate

    def happened(self, event: object) -> None:
        if not isinstance(event, Measured):
            super().happened(event)
            return
        evaluation = self._evaluations.popleft()
        request = evaluation.request
        assert isinstance(request.message, Evaluate)
        reply = Evaluated(request.message.number, event.samples, event.metrics)
        self.answer(evaluation.peer, request, reply)
        self._evaluate()

    def tests_came(self, portion: Portion) -> None:
        """A portion of the test split is here."""
        self._tests.add(portion)
        self._evaluate()

    def lost(self, member: Member, request: Open) -> None:
        super().lost(member, request)
        if isinstance(request.message, Fetch) and request.message.test:
            self._evaluate()

    def _on_evaluate(self, peer: Peer, envelope: Envelope) -> None:
        if self.replica is None:
            self.refuse(peer, envelope, "early", "this worker has no parameters yet")
            return
        self._evaluations.append(Evaluation(peer, envelope, self.replica.shards))
        self._evaluate()

    def measured(self, request: Open, reply: Shard) -> None:
        """A shard has come that was pulled for an evaluation."""
        request.tag.add(reply.shard, reply.values)
        self._evaluate()

    def _evaluate(self) -> None:
        """Bring the evaluation at the head of the queue one step further."""
        if not self._evaluations or self._evaluations[0].running:
            return
        evaluation = self._evaluations[0]
        for shard in evaluation.next():
            self.ask_owner(Pull(self.cluster.table.epoch, shard), evaluation)
        if not self._tests.complete:
            self._ask_for_tests()
        elif evaluation.complete:
            evaluation.running = True
            self.do(Measure(evaluation.vector, self._tests.portions))

    def _ask_for_tests(self) -> None:
        wanted = Fetch(True, len(self._tests.portions))
        if any(request.message == wanted for request in self.courier.open_requests()):
            return
        servers = self.cluster.of_role(Role.DATASERVER)
        if servers:
            self.ask(servers[0].address, wanted)
