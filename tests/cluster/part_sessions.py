"""Workers of a cut net as far as servers, controller and neighbours see them: they join, start and
pull the shards of their part, pass portions up and push; what they compute is as simple as `Tally`.

Each part adds its slice of the sum of a portion's inputs to the servers' parameters. With one-hot
inputs parameter i counts how often sample i was trained on, whatever part it lies in.
"""

from typing import Any

import numpy as np
from simulation import CONTROLLER, Simulation

from dualshard.bench.actors import Actor
from dualshard.common.cluster import Cluster
from dualshard.common.delivery import Courier, Open, Peer
from dualshard.common.job import Job
from dualshard.common.messages import (
    Ack,
    Activations,
    Describe,
    Done,
    Envelope,
    Evaluate,
    Evaluated,
    Fetch,
    Message,
    Portion,
    Pull,
    Push,
    Shard,
    Start,
    Targets,
)
from dualshard.common.node import Action
from dualshard.common.partition import parts, place
from dualshard.common.session import Welcomed, own_versions
from dualshard.common.types import Float32, Member, Role
from dualshard.worker.exchange import Replica
from dualshard.worker.routing import ShardClient

NOTHING = np.empty(0, np.float32)


class PartWorker(ShardClient):
    """One part of a net of two: the lower one fetches, both push.

    Arguments:
        starts: where the parts begin.
    """

    def __init__(self, courier: Courier, *, starts: tuple[int, ...], **session: Any) -> None:
        super().__init__(courier, **session)
        self._starts = starts
        self._portion: tuple[str, Portion] | None = None  # whence it came
        self._round = 0
        self._above: Member | None = None
        self._below: Member | None = None
        self._rounds: list[Activations] = []
        self._unpushed: set[int] = set()
        self._described = self._pulled = self._fetching = False
        self.sent = self.repeated_rounds = 0
        self.requests |= {
            Activations: self._on_activations,
            Targets: self._on_targets,
            Evaluate: self._on_evaluate,
        }
        self.replies |= {
            Activations: lambda request, reply: None,
            Targets: lambda request, reply: None,
            Done: lambda request, reply: None,
            Describe: self._on_described,
            Start: lambda request, reply: None,
            Pull: self._on_pulled,
            Push: self._on_pushed,
            Fetch: self._on_fetched,
        }

    @property
    def part(self) -> int:
        assert self.job is not None
        return place(self.job, self.rank)[1]

    def state_word(self) -> str:
        return "training"

    def viewed(self, old: Cluster, new: Cluster) -> None:
        if old.data is None and new.data is not None:
            size = new.data.sample_shape[0]
            self.tell(Describe([["sum", False, False, size]], "", list(self._starts)))
        above, below = (self._neighbour(1), self._neighbour(-1))
        if below != self._below:
            self._rounds.clear()
        changed, self._above, self._below = above != self._above, above, below
        if changed and self._portion is not None:
            self.repeated_rounds += above is not None
            self._send_up()
        self.go_on()

    def _neighbour(self, step: int) -> Member | None:
        assert self.job is not None
        if not 0 <= self.part + step < parts(self.job):
            return None
        members = self.cluster.of_role(Role.WORKER)
        return next((member for member in members if member.rank == self.rank + step), None)

    def _on_described(self, request: Open, reply: Message) -> None:
        self._described = True
        self.go_on()

    def go_on(self) -> None:
        assert self.job is not None
        if not self._described or not self.cluster.table.owners:
            return
        if self.replica is None:
            self._hold(self.job)
        assert self.replica is not None
        if self.cluster.phase != "training":
            return
        if not self._pulled:
            self._pulled = True
            for shard in self.replica.numbers:
                self.ask_owner(Pull(self.cluster.table.epoch, shard), None)
        if self.replica.missing or self._unpushed:
            return
        if self._rounds:
            self._push(self._rounds[0].values.reshape(self._rounds[0].shape))
        elif self.part == 0 and self._portion is None and not self._fetching:
            self._fetch(-1)

    def _hold(self, job: Job) -> None:
        shards = self.cluster.shards(job.paramserver.shard_bytes, job.paramserver.buckets)
        numbers, (begin, end) = shards.of_part(self.part), shards.elements_of_part(self.part)
        self.replica = Replica(np.zeros(end - begin, np.float32), shards, numbers, begin)
        if self.cluster.phase == "preparing" and not job.job.resume:
            for shard in numbers:
                values = self.replica.view(self.replica.vector, shard)
                self.ask_owner(Start(self.cluster.table.epoch, shard, values), None)

    def _on_pulled(self, request: Open, reply: Message) -> None:
        if not self.wrong_owner(request, reply):
            self._take(reply)
            self.go_on()

    def _take(self, reply: Message) -> None:
        assert isinstance(reply, Shard)
        assert self.replica is not None
        self.replica.take(reply.shard, reply.version, reply.encoding, reply.values)

    # Data and neighbours.

    def _fetch(self, drained: int) -> None:
        self._fetching = True
        server = self.cluster.of_role(Role.DATASERVER)[0].address
        self.ask(server, Fetch(False, 0, drained))

    def _on_fetched(self, request: Open, reply: Message) -> None:
        assert isinstance(reply, Portion)
        assert isinstance(request.peer, str)
        self._fetching = False
        if reply.portion < 0:
            self._fetch(reply.leg)
            return
        self._portion = request.peer, reply
        self._round += 1
        self._send_up()

    def _send_up(self) -> None:
        assert self._portion is not None
        if self._above is None:
            return
        portion, inputs = self._portion[1], self._portion[1].inputs
        where = portion.leg, portion.epoch, portion.begin, 0, 0, len(inputs), 0, 1, 0.0
        values = np.ascontiguousarray(inputs, np.float32).ravel()
        self.sent += 1
        self.ask(
            self._above.address,
            Activations(self._round, *where, "f32", list(inputs.shape), values, NOTHING),
        )

    def _on_activations(self, peer: Peer, envelope: Envelope) -> None:
        assert isinstance(envelope.message, Activations)
        self.answer(peer, envelope, Ack())
        self._rounds.append(envelope.message)
        self.go_on()

    def _on_targets(self, peer: Peer, envelope: Envelope) -> None:
        assert isinstance(envelope.message, Targets)
        self.answer(peer, envelope, Ack())
        if self._portion is not None and envelope.message.round == self._round:
            self._push(self._portion[1].inputs)

    # Servers.

    def _push(self, inputs: Float32) -> None:
        assert self.replica is not None
        begin = self.replica.begin
        led = -inputs.sum(axis=0)[begin : begin + self.replica.vector.size].astype(np.float32)
        self._unpushed = set(self.replica.numbers)
        for shard in self.replica.numbers:
            gradient, version = self.replica.view(led, shard), self.replica.versions[shard]
            head = self.cluster.table.epoch, [shard], [version], self.cluster.leg, 0, 1, 0.0, False
            push = Push(*head, "f32", "f32", [], gradient, NOTHING, NOTHING)
            self.ask_owner(push, None)

    def _on_pushed(self, request: Open, reply: Message) -> None:
        if self.wrong_owner(request, reply):
            return
        assert isinstance(reply, Shard)
        self._take(reply)
        self._unpushed.discard(reply.shard)
        if not self._unpushed:
            self._pushed()

    def _pushed(self) -> None:
        if self.part == 0 and self._portion is not None:
            (source, portion), self._portion = self._portion, None
            n = float(len(portion.inputs))
            measures = {"samples": n, "steps": 1.0, "loss": n, "accuracy": n, "pushes": 1.0}
            self.ask(source, Done(portion.leg, portion.portion, measures))
        elif self._rounds:
            number = self._rounds.pop(0).round
            if self._below is not None:
                targets = Targets(number, 0.01, "f32", [0], NOTHING, NOTHING)
                self.ask(self._below.address, targets)
        self.go_on()

    def _on_evaluate(self, peer: Peer, envelope: Envelope) -> None:
        assert isinstance(envelope.message, Evaluate)
        self.answer(peer, envelope, Evaluated(envelope.message.number, 1, {"loss": 1.0}))


class CutSimulation(Simulation):
    """A simulated cluster whose workers are `PartWorker`s.

    Arguments:
        starts: where the parts begin.
    """

    def __init__(self, job: Job, starts: tuple[int, ...], **settings: Any) -> None:
        self.starts = starts
        super().__init__(job, **settings)

    def add(self, role: Role, rank: int, *, life: int = 0, wanted: int | None = None) -> Actor:
        if role is not Role.WORKER:
            return super().add(role, rank, life=life, wanted=wanted)
        number = 300 + rank + 1000 * life
        node = PartWorker(
            Courier(number),
            starts=self.starts,
            controller=CONTROLLER,
            address=f"tcp://10.0.0.2:{number}",
            host="memory",
            pid=number,
            versions=own_versions(),
            rank=rank if wanted is None else wanted,
            start_timeout=self.job.job.start_timeout,
        )
        where = f"worker-{rank}", node, number, node.address
        actor = self._install(*where, self._part_does)
        actor.loop.begin(node.start(self.clock.now()))
        return actor

    def _part_does(self, actor: Actor, action: Action) -> None:
        assert isinstance(action, Welcomed)
        assert isinstance(actor.node, PartWorker)
        actor.node.job = Job.from_dict(action.job)

    def part(self, name: str) -> PartWorker:
        """The newest worker of this name."""
        node = self.actors[name].node
        assert isinstance(node, PartWorker)
        return node
