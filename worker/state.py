"""A worker's state: events in, actions out. No socket, thread or clock.

It follows the view, asks for data by credit, hands minibatches to its lanes (compute threads),
and exchanges gradients for parameters with the servers: Downpour SGD (Dean et al., NIPS 2012,
algorithm 7.1 of its appendix). With n_push = n_fetch = 1 each lane computes, pushes, takes the
fresh shards from the replies, and goes on; otherwise it steps locally between two exchanges.
"""

from collections import deque

import numpy as np

from ..common.cluster import Cluster
from ..common.delivery import Courier, Open, Peer
from ..common.job import Job
from ..common.messages import (
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
    Pushed,
    Refused,
    Shard,
    Start,
)
from ..common.types import Float32, Member, Role
from .batches import Ring
from .evaluation import Evaluation, HeldOut
from .events import Build, Built, Compute, Computed, Measure, Measured
from .exchange import Lane, Replica
from .routing import ShardClient

CREDITS = 2
"""Portions asked for or held, per data server: one is trained on while the next one comes."""
NOTHING: Float32 = np.empty(0, np.float32)


class Worker(ShardClient):
    """One worker process: its lanes over one shared vector."""

    role = Role.WORKER

    def __init__(self, courier: Courier, **session: object) -> None:
        super().__init__(courier, **session)
        self.lanes: list[Lane] = []
        self._ring: Ring | None = None
        self._built: Built | None = None
        self._building = False
        self._described = False
        self._started: set[int] = set()
        self._pulled = False
        self._wants_data = True
        self._tests = HeldOut()
        self._evaluations: deque[Evaluation] = deque()
        self.requests[Evaluate] = self._on_evaluate
        self.replies |= {
            Describe: self._on_described,
            Start: self._on_started,
            Pull: self._on_pulled,
            Push: self._on_pushed,
            Fetch: self._on_portion,
            Done: lambda request, reply: None,
        }

    def configure(self, job: Job) -> None:
        """The job has come with the welcome."""
        self.job = job
        self._ring = Ring(job.data.batch_size)

    def state_word(self) -> str:
        if self._building:
            return "building the model"
        if self.cluster.phase != "training" or self.replica is None:
            return self.cluster.phase
        if not self._active():
            return "waiting for the warm start"
        return "training" if any(not lane.free for lane in self.lanes) else "idle"

    def report(self) -> dict[str, float]:
        return dict(self.counters)

    # Following the view.

    def viewed(self, old: Cluster, new: Cluster) -> None:
        if new.data is not None and self._built is None and not self._building:
            self._building = True
            self.do(Build(new))
        self._wants_data = True
        self._set_up()
        if self._ring is not None and new.epoch != old.epoch:
            self.counters["dropped_portions"] += self._ring.drop_before(new.epoch)
        self.go_on()

    def happened(self, event: object) -> None:
        if isinstance(event, Built):
            self._building = False
            self._built = event
            self.tell(Describe(event.layout))
        elif isinstance(event, Computed):
            self._computed(event)
        elif isinstance(event, Measured):
            evaluation = self._evaluations.popleft()
            request = evaluation.request
            assert isinstance(request.message, Evaluate)
            reply = Evaluated(request.message.number, event.samples, event.metrics)
            self.answer(evaluation.peer, request, reply)
            self._evaluate()

    def _on_described(self, request: Open, reply: Message) -> None:
        self._described = True
        self._set_up()

    def _set_up(self) -> None:
        """Once model and table are known: make the replica; the first worker starts the shards."""
        if (
            self._built is None
            or self.job is None
            or not self.cluster.table.owners
            or not self._described
        ):
            return
        if self.replica is None:
            paramserver = self.job.paramserver
            shards = self.cluster.shards(paramserver.shard_bytes, paramserver.buckets)
            self.replica = Replica(self._built.vector, shards)
            self.lanes = [Lane(n, gradient) for n, gradient in enumerate(self._built.gradients)]
        self.share_memory(self._built.segment)
        first = self.cluster.of_role(Role.WORKER)[0].rank == self.rank
        # A job that goes on from a checkpoint has its values there.
        if self.cluster.phase == "preparing" and first and not self.job.job.resume:
            for shard in range(self.replica.shards.count):
                if shard not in self._started:
                    self._started.add(shard)
                    values = self.replica.view(self._built.vector, shard)
                    self.ask_owner(Start(self.cluster.table.epoch, shard, values), None)

    def _on_started(self, request: Open, reply: Message) -> None:
        self.wrong_owner(request, reply)

    def _active(self) -> bool:
        return self.cluster.phase == "training" and self.cluster.active in (-1, self.rank)

    # Data by credit.

    def go_on(self) -> None:
        """Do whatever can be done now: take part, ask for data, compute."""
        if not self._active() or self.replica is None or self.leaving is not None:
            return
        if not self._pulled:
            self._pulled = True
            for shard in range(self.replica.shards.count):
                self.ask_owner(Pull(self.cluster.table.epoch, shard), None)
        if self.replica.missing or self.attaching:
            return
        if self._wants_data:
            self._ask_for_data()
        for lane in self.lanes:
            if lane.free:
                self._next_step(lane)

    def _ask_for_data(self) -> None:
        assert self._ring is not None
        self._wants_data = False
        for member in self.cluster.of_role(Role.DATASERVER):
            waiting = sum(
                isinstance(request.message, Fetch) and not request.message.test
                for request in self.courier.open_requests(member.address)
            )
            for _ in range(waiting + self._ring.held_from(member.address), CREDITS):
                self.ask(member.address, Fetch(False, 0))

    def _on_portion(self, request: Open, reply: Message) -> None:
        assert isinstance(reply, Portion)
        assert isinstance(request.message, Fetch)
        if request.message.test:
            self._tests.add(reply)
            self._evaluate()
            return
        if reply.epoch < self.cluster.epoch:
            self.counters["dropped_portions"] += 1
        elif self._ring is not None:
            assert isinstance(request.peer, str)
            self._ring.add(request.peer, reply)
        self._wants_data = True
        self.go_on()

    # Steps and exchanges.

    def _next_step(self, lane: Lane) -> None:
        """Give a free lane its next minibatch; with none left, push what has accrued."""
        assert self._ring is not None
        assert self.job is not None
        assert self.replica is not None
        batch = self._ring.take()
        if batch is None:
            if lane.batches:
                self._push(lane)
            elif lane.idle_since is None:
                lane.idle_since = self.now
            return
        if lane.idle_since is not None:
            batch.lease.add("wait", self.now - lane.idle_since)
            lane.idle_since = None
        if not lane.batches:
            lane.versions = list(self.replica.versions)
        lane.batches.append(batch)
        lane.computing = True
        train = self.job.train
        alone = train.n_push == 1 and train.n_fetch == 1
        self.do(Compute(lane.number, batch.inputs, batch.labels, len(lane.batches) > 1, not alone))

    def _computed(self, event: Computed) -> None:
        lane = self.lanes[event.lane]
        lane.computing = False
        lane.since_fetch += 1
        batch = lane.batches[-1]
        samples = len(batch.labels)
        batch.lease.add("samples", samples)
        batch.lease.add("steps", 1)
        for name, value in event.metrics.items():
            known = name in ("loss", "accuracy")
            batch.lease.add(name if known else f"model.{name}", value * samples)
        self.counters["steps"] += 1
        self.counters["samples"] += samples
        assert self.job is not None
        if self.counters["steps"] == self.job.job.warm_start:
            self.beat_soon()
        if len(lane.batches) >= self.job.train.n_push:
            self._push(lane)
        elif lane.since_fetch >= self.job.train.n_fetch:
            self._pull(lane)
        else:
            self._next_step(lane)

    def _push(self, lane: Lane) -> None:
        """Push every shard of the lane's mean gradient; take fresh ones back when it is time."""
        assert self.replica is not None
        assert self.job is not None
        count = len(lane.batches)
        if count > 1:
            np.multiply(lane.gradient, np.float32(1.0 / count), out=lane.gradient)
        train = self.job.train
        # A push that comes early, at the end of the data, fetches too: both counts start anew
        # together, else one exchange would become two for the rest of the run.
        fetch = lane.since_fetch >= train.n_fetch or count < train.n_push
        lane.pushing = True
        lane.waiting = set(range(self.replica.shards.count))
        for shard in range(self.replica.shards.count):
            self._push_shard(lane, shard, count, fetch)
        lane.batches[-1].lease.add("bytes_pushed", lane.gradient.nbytes)
        if fetch:
            lane.since_fetch = 0

    def _push_shard(self, lane: Lane, shard: int, count: int, fetch: bool) -> None:
        """One shard of the lane's gradient: in the message, or by the shared lane."""
        assert self.replica is not None
        shared = self.shares_memory(self.owner(shard))
        gradient = NOTHING if shared else self.replica.view(lane.gradient, shard)
        push = Push(
            self.cluster.table.epoch,
            shard,
            lane.versions[shard],
            count,
            fetch,
            lane.number if shared else -1,
            gradient,
        )
        self.ask_owner(push, lane.number)

    def _pull(self, lane: Lane) -> None:
        """Pull every shard between two pushes."""
        assert self.replica is not None
        lane.since_fetch = 0
        lane.waiting = set(range(self.replica.shards.count))
        for shard in range(self.replica.shards.count):
            self.ask_owner(Pull(self.cluster.table.epoch, shard), lane.number)

    def _on_pushed(self, request: Open, reply: Message) -> None:
        if self.wrong_owner(request, reply):
            return
        lane = self.lanes[request.tag]
        assert isinstance(request.message, Push)
        assert isinstance(reply, Shard | Pushed)
        lease = lane.batches[-1].lease
        lease.add("pushes", 1)
        lease.add("staleness", reply.staleness)
        if isinstance(reply, Shard):
            lease.add("bytes_pulled", reply.values.nbytes)
            self._take(reply)
        elif request.message.fetch:
            lease.add("bytes_pulled", self._arrived(reply))
        self._exchanged(lane, request.message.shard)

    def _arrived(self, reply: Pushed) -> int:
        """The server has written the fresh shard into the shared vector; returns its bytes."""
        assert self.replica is not None
        self.replica.versions[reply.shard] = max(self.replica.versions[reply.shard], reply.version)
        begin, end = self.replica.shards.span(reply.shard)
        return 4 * (end - begin)

    def _take(self, reply: Shard) -> None:
        assert self.replica is not None
        if reply.shard < self.replica.shards.count:
            self.replica.take(reply.shard, reply.version, reply.values)

    def _exchanged(self, lane: Lane, shard: int) -> None:
        """One shard of a lane's exchange is settled; after the last one the lane goes on."""
        lane.waiting.discard(shard)
        if lane.waiting:
            return
        if lane.pushing:
            lane.pushing = False
            self._settle(lane)
        self.go_on()

    def _settle(self, lane: Lane) -> None:
        """The lane's gradients are in the servers' parameters: finish the portions they end."""
        assert self._ring is not None
        present = {member.address for member in self.cluster.of_role(Role.DATASERVER)}
        for batch in lane.batches:
            lease = self._ring.applied(batch)
            if lease is not None:
                self._wants_data = True
                if lease.source not in present:
                    continue
                done = Done(lease.portion.epoch, lease.portion.portion, dict(lease.measures))
                self.ask(lease.source, done)
        lane.batches = []

    def _on_pulled(self, request: Open, reply: Message) -> None:
        if self.wrong_owner(request, reply):
            return
        assert isinstance(request.message, Pull)
        assert isinstance(reply, Shard)
        if isinstance(request.tag, Evaluation):
            request.tag.add(reply.shard, reply.values)
            self._evaluate()
            return
        self._take(reply)
        if request.tag is not None:
            self._exchanged(self.lanes[request.tag], request.message.shard)
        else:
            self.go_on()

    def refused(self, request: Open, reply: Refused) -> None:
        """A refused push is dropped; the fresh shard is pulled instead."""
        if isinstance(request.message, Push):
            self.counters["refused_pushes"] += 1
            self.note("warning", f"push refused: {reply.detail}")
            self.ask_owner(Pull(self.cluster.table.epoch, request.message.shard), request.tag)
        elif isinstance(request.message, Describe | Start):
            self.fail(2, reply.detail)
        else:
            super().refused(request, reply)

    def lost(self, member: Member, request: Open) -> None:
        super().lost(member, request)
        if isinstance(request.message, Fetch) and request.message.test:
            self._evaluate()

    # Evaluation beside training.

    def _on_evaluate(self, peer: Peer, envelope: Envelope) -> None:
        if self.replica is None:
            self.refuse(peer, envelope, "early", "this worker has no parameters yet")
            return
        self._evaluations.append(Evaluation(peer, envelope, self.replica.shards))
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
