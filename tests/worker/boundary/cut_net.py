"""The parts of a cut net, joined by the courier and the network in memory under a manual clock.

Nothing is computed in earnest: an input is (number of the sample, 0), each part adds 1 to the
second column, and targets or gradients come back with the number in the first column. So each part
can say which samples it was told about, and whether they are those that it sent up.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from dualshard.common.clock import ManualClock
from dualshard.common.delivery import Courier, Open, Peer, Send
from dualshard.common.job import Job
from dualshard.common.loop import Loop
from dualshard.common.memory import FaultPlan, Network
from dualshard.common.messages import Activations, AskSamples, Message, Portion, Refused, Samples
from dualshard.common.node import Action, Node
from dualshard.common.partition import has_head
from dualshard.common.telemetry import Telemetry
from dualshard.common.types import Float32, Member, Role
from dualshard.worker.batches import Minibatch, Ring
from dualshard.worker.boundary.early import Early
from dualshard.worker.boundary.events import (
    Ahead,
    Back,
    Backed,
    Forward,
    Forwarded,
    Known,
    Train,
    Trained,
)
from dualshard.worker.boundary.linked import KINDS, Linked
from dualshard.worker.boundary.making import make_boundary

BATCH = 4
TURNS_LIMIT = 200_000
PLAN = FaultPlan(drop=0.1, duplicate=0.1, reorder=0.2, reorder_delay=3.0, jitter=0.01)


def job_of(parts: int, coupling: str = "activations", **more: Any) -> Job:
    """A small job; more settings are written `admm__wait=False`."""
    values: dict[str, Any] = {
        "train__mode": "admm",
        "partition__coupling": coupling,
        "partition__parts": parts,
        "worker__count": parts,
        "data__batch_size": BATCH,
        "admm__macro_batch": 3 * BATCH,
        **more,
    }
    tables: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, name = key.split("__")
        tables.setdefault(section, {})[name] = value
    return Job.from_dict(tables)


class Part(Node):
    """A worker's state, as far as a boundary sees it."""

    def __init__(self, net: "CutNet", rank: int, incarnation: int) -> None:
        super().__init__(Courier(incarnation))
        self.net, self.rank = net, rank
        self.early = Early(self)
        self.requests |= dict.fromkeys(KINDS, self.early.hold)
        self.boundary: Linked | None = None
        self.free, self.killed = True, False
        self.failure = ""
        self.learnt_since_push = 0
        self.pushing = False
        self.settled = False
        self.trained: list[tuple[int, ...]] = []
        """Numbers of the samples of each training, or of each step of backprop, in order."""
        self.log: list[object] = []
        self.steps = 0
        self._sum: list[int] = []
        self._slots: dict[int, Float32] = {}

    def configure(self) -> None:
        """The job has come."""
        boundary = make_boundary(self, self.net.job, self.rank, self.early)
        assert isinstance(boundary, Linked)
        self.boundary = boundary
        self.requests |= boundary.requests
        self.replies |= boundary.replies

    def fail(self, status: int, reason: str) -> None:
        self.failure = reason

    def refused(self, request: Open, reply: Refused) -> None:
        assert self.boundary is not None
        assert self.boundary.refused(request, reply)

    def happened(self, event: object) -> None:
        assert callable(event)
        event()
        self.go_on()

    def ask(self, peer: Peer, message: Message, tag: Any = None, *rest: Any) -> None:  # type: ignore[override]
        self.net.asked(self, message)
        super().ask(peer, message, tag)

    def receive(self, peer: Peer, envelope: Any, now: float) -> list[Action]:
        super_actions = super().receive(peer, envelope, now)
        self.net.received(self, envelope)
        self.go_on()
        return super_actions + self.take()

    # What a worker does around its boundary.

    def go_on(self) -> None:
        boundary, net = self.boundary, self.net
        if boundary is None or self.failure:
            return
        for ask in boundary.unknown():
            net.ask_samples(self, ask)
        if boundary.bottom:
            while net.supply and boundary.wants():
                boundary.feed(net.hand_out())
        if self.free and not self.pushing and (action := boundary.next()) is not None:
            self.free = False
            self.log.append(action)
            event = self.compute(action)
            net.later(net.seconds(self.rank), lambda: net.post(self, lambda: self._done(event)))
        over = boundary.bottom and not net.supply and boundary.idle
        if over or boundary.settling:
            if self.learnt_since_push and boundary.idle and not self.pushing:
                self.pushing = True
                net.later(0.02, lambda: net.post(self, self._pushed))
            settled = boundary.settle(not self.learnt_since_push)
            self.settled = settled if boundary.bottom else self.settled or settled
            if settled and boundary.bottom:
                for name, value in boundary.take_measures().items():
                    net.measures[name] += value

    def _pushed(self) -> None:
        self.pushing, self.learnt_since_push = False, 0

    def _done(self, event: Forwarded | Trained | Backed) -> None:
        assert self.boundary is not None
        self.free = True
        learnt = self.boundary.happened(event)
        if learnt is None:
            return
        self.learnt_since_push += learnt.count
        self.steps += learnt.steps
        assert bool(learnt.batches) == self.boundary.bottom
        assert not learnt.batches or len(learnt.batches) == learnt.count
        for batch in learnt.batches:
            self.net.learnt[batch.key] += 1
        if not self.boundary.bottom:
            assert not learnt.measures
        for name, value in learnt.measures.items():
            self.net.measures[name] += value

    # What is computed.

    def compute(self, action: Any) -> Forwarded | Trained | Backed:
        if isinstance(action, Forward | Ahead):
            outputs = action.rows.inputs + np.float32([0, 1])
            if isinstance(action, Ahead):
                self._slots[action.slot] = outputs
            return Forwarded(action.round, self.net.spoil(self, outputs))
        if isinstance(action, Train):
            return self._train(action)
        return self._back(action)

    def _train(self, action: Train) -> Trained:
        inputs = action.rows.inputs
        self._check_known(inputs, action.known)
        assert set(inputs[:, 1]) == {self.rank}
        if action.targets.size:
            np.testing.assert_array_equal(action.targets[:, 0], inputs[:, 0])
        self.trained.append(numbers(inputs))
        targets = inputs.astype(np.float32) if self.rank else np.empty(0, np.float32)
        copies = {}
        if self.net.job.partition.coupling == "weights":
            # A copy says whose it is, and how often that part had trained.
            for boundary in (self.rank - 1, self.rank):
                if 0 <= boundary < self.net.parts - 1:
                    copies[boundary] = np.float32([self.rank, len(self.trained), 0])
        metrics = {"loss": 2.0, "accuracy": 0.5} if has_head(self.net.job, self.rank) else {}
        steps = -(-len(inputs) // BATCH)
        return Trained(action.round, steps, targets, 0.01, copies, metrics, 0.1, 0.2, 0.3)

    def _back(self, action: Back) -> Backed:
        if action.rows is not None:
            inputs = action.rows.inputs
            self._check_known(inputs, action.known)
            assert action.known is not None
            metrics = {"loss": 2.0, "accuracy": 0.5}
        else:
            inputs = self._slots[action.slot] - np.float32([0, 1])
            np.testing.assert_array_equal(action.gradient[:, 0], inputs[:, 0])
            metrics = {}
        assert set(inputs[:, 1]) == {self.rank}
        self._sum = list(numbers(inputs)) + ([] if action.first else self._sum)
        if action.last:
            self.trained.append(tuple(sorted(self._sum)))
            assert action.rows is None or action.total == len(self._sum)
        gradient = inputs.astype(np.float32) if self.rank else np.empty(0, np.float32)
        return Backed(action.round, gradient, metrics, int(action.last))

    def _check_known(self, inputs: Float32, known: Known | None) -> None:
        if known is None:
            return
        np.testing.assert_array_equal(known.indices, inputs[:, 0])
        wants_labels = has_head(self.net.job, self.rank)
        np.testing.assert_array_equal(known.labels, inputs[:, 0] % 10 if wants_labels else [])


class CutNet:
    """One replica of a cut net, data servers and controller played by the test.

    Arguments:
        portions: as many as there are, of `size` samples each, the last one of one less.
        compute: seconds that each action takes on the part of this rank.
        answering: seconds until a data server has answered.
    """

    def __init__(
        self,
        job: Job,
        *,
        portions: int = 6,
        size: int = 3 * BATCH,
        seed: int = 0,
        plan: FaultPlan | None = None,
        compute: Callable[[int], float] = lambda rank: 0.01,
        answering: float = 0.005,
    ) -> None:
        self.job, self.parts, self.seconds = job, job.partition.count, compute
        self.clock = ManualClock()
        self.network = Network(self.clock, seed, plan)
        self._random = np.random.default_rng((seed, 7))
        self._answering = answering
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self._agreed = 0
        self.learnt: Counter[tuple[int, int, int]] = Counter()
        self.measures: defaultdict[str, float] = defaultdict(float)
        self.most_open = [0] * self.parts
        self._open: list[set[int]] = [set() for _ in range(self.parts)]
        self._lives = [0] * self.parts
        self.spoiler: Callable[[Part, Float32], Float32] = lambda part, outputs: outputs
        self._order = np.random.default_rng(seed).permutation(portions * size - 1)
        self._sizes = [size] * (portions - 1) + [size - 1]
        self._begins = [size * number for number in range(portions)]
        self._ring = Ring(BATCH)
        self.supply = list(range(portions))
        self._held: dict[int, list[Minibatch]] = {}
        self.expected = {
            (0, number, batch)
            for number in range(portions)
            for batch in range(-(-self._sizes[number] // BATCH))
        }
        self.actors: list[tuple[Part, Loop, Any]] = []
        self._members: list[Member | None] = [None] * self.parts
        for rank in range(self.parts):
            self.actors.append(self._make(rank))
        self.announce()

    # Parts that come and go.

    def _make(self, rank: int) -> tuple[Part, Loop, Any]:
        self._lives[rank] += 1
        incarnation = 100 * self._lives[rank] + rank
        address = f"tcp://10.0.0.{rank}:{self._lives[rank]}"
        part = Part(self, rank, incarnation)
        endpoint = self.network.transport(incarnation, address)
        telemetry = Telemetry(f"worker-{rank}", self.clock)
        loop = Loop(part, endpoint, self.clock, telemetry, lambda action: None)
        self._members[rank] = Member(Role.WORKER, rank, incarnation, address, "here", incarnation)
        self.later(self._random.random() * 0.2, lambda: self.post(part, part.configure))
        return part, loop, endpoint

    def part(self, rank: int) -> Part:
        return self.actors[rank][0]

    def kill(self, rank: int) -> None:
        """A part dies; its neighbours hear of it some time later, each at its own."""
        part, _, endpoint = self.actors[rank]
        part.killed = True
        self.network.remove(endpoint)
        self._members[rank] = None
        self._open[rank].clear()
        if rank == 0:  # its leases are served again
            self._give_back()
        self.announce()

    def _give_back(self) -> None:
        for number, batches in self._held.items():
            if any(not self.learnt[batch.key] for batch in batches):
                self.supply.append(number)
        self._held.clear()

    def replace(self, rank: int) -> Part:
        """A new life takes a dead part's place."""
        self.actors[rank] = self._make(rank)
        self.announce()
        return self.actors[rank][0]

    def announce(self) -> None:
        """The view changes, and reaches each part in its own time."""
        members = [None, *self._members, None]
        for rank in range(self.parts):
            below, above = members[rank], members[rank + 2]
            part = self.part(rank) if rank < len(self.actors) else None
            if part is not None:
                moment = self._random.random() * 0.3
                self.later(moment, self._view_of(part, self._version(), below, above))

    def _version(self) -> int:
        self._agreed += 1
        return self._agreed

    def _view_of(
        self, part: Part, version: int, below: Member | None, above: Member | None
    ) -> Callable[[], None]:
        def meet() -> None:
            if part.boundary is None:
                self.later(0.05, lambda: self.post(part, meet))
                return
            if version < getattr(part, "view", -1):
                return
            part.view = version  # type: ignore[attr-defined]
            for old in (part.boundary._below, part.boundary._above):
                if old is not None and old not in (below, above):
                    part.courier.forget(old.address)
                    if old.rank > part.rank:
                        self._open[part.rank].clear()
            part.boundary.meet(below, above)

        return lambda: self.post(part, meet)

    # Data.

    def hand_out(self) -> list[Minibatch]:
        """All minibatches of the next portion."""
        number = self.supply.pop(0)
        begin, size = self._begins[number], self._sizes[number]
        ids = self._order[begin : begin + size].astype(np.float32)
        inputs = np.stack([ids, np.zeros_like(ids)], axis=1)
        labels = np.empty(0, np.int64)
        portion = Portion(0, number, False, inputs, ids.astype(np.int64) % 10, 0, begin)
        self._ring.add("data", portion)
        batches = list(iter(self._ring.take, None))
        assert not labels.size
        self._held[number] = batches  # type: ignore[assignment]
        return batches  # type: ignore[return-value]

    def ask_samples(self, part: Part, ask: AskSamples) -> None:
        """A data server answers in its time."""
        size = self._sizes[self._begins.index(ask.begin)]
        indices = self._order[ask.begin : ask.begin + size].astype(np.int64)
        labels = indices % 10 if ask.labels else np.empty(0, np.int64)
        key = (ask.epoch, ask.begin)

        def know() -> None:
            assert part.boundary is not None
            part.boundary.know(key, Samples(indices, labels))

        self.later(self._answering, lambda: self.post(part, know))

    def spoil(self, part: Part, outputs: Float32) -> Float32:
        return self.spoiler(part, outputs)

    # Who owes whom how much, seen from outside.

    def asked(self, part: Part, message: Message) -> None:
        if isinstance(message, Activations):
            self._open[part.rank].add(message.round)
            self.most_open[part.rank] = max(self.most_open[part.rank], len(self._open[part.rank]))

    def received(self, part: Part, envelope: Any) -> None:
        above = self._members[part.rank + 1] if part.rank + 1 < self.parts else None
        if above is not None and envelope.source == above.incarnation:
            self._open[part.rank].discard(getattr(envelope.message, "round", None))

    # Time.

    def later(self, seconds: float, what: Callable[[], object]) -> None:
        self._number = getattr(self, "_number", 0) + 1
        heapq.heappush(self._agenda, (self.clock.now() + seconds, self._number, what))

    def post(self, part: Part, event: Callable[[], object]) -> None:
        if not part.killed:
            loop = next((loop for other, loop, _ in self.actors if other is part), None)
            if loop is None:  # it is just being made
                self.later(0.0, lambda: self.post(part, event))
            else:
                loop.post(event)

    def run(self, until: Callable[[], bool] | None = None, seconds: float = 1e4) -> None:
        """Let time pass until something holds; by default until all is learnt and settled."""
        done = until or self.over
        end = self.clock.now() + seconds
        for _ in range(TURNS_LIMIT):
            self.network.deliver()
            while self._agenda and self._agenda[0][0] <= self.clock.now():
                heapq.heappop(self._agenda)[2]()
            if any([loop.turn(0.0) for part, loop, _ in self.actors if not part.killed]):
                if done():
                    return
                continue
            if done():
                return
            moments = [self.network.next_delivery()]
            moments += [part.wake_at() for part, _, _ in self.actors if not part.killed]
            moments += [self._agenda[0][0]] if self._agenda else []
            moment = min(moments)
            assert moment < end, f"nothing happens any more: {self.state()}"
            self.clock.advance_to(moment + 1e-6)
        raise AssertionError(f"no end: {self.state()}")

    def state(self) -> str:
        return str(
            [(p.rank, p.failure, p.boundary and vars(p.boundary)) for p, _, _ in self.actors]
        )

    def over(self) -> bool:
        """Whether everything is learnt and settled."""
        return (
            set(self.learnt) == self.expected
            and self.part(0).settled
            and not any(part.courier.open_requests() for part, _, _ in self.actors)
        )

    # Invariants.

    def counted(self, name: str) -> int:
        """A counter, over all parts that live."""
        return sum(p.boundary.counters[name] for p, _, _ in self.actors if p.boundary is not None)

    def check(self, *, killed: bool = False) -> None:
        """What holds at the end of every test.

        Arguments:
            killed: a part has died: the parts above the bottom may have learnt more than once.
        """
        assert self.learnt == dict.fromkeys(self.expected, 1)
        everything = Counter(range(sum(self._sizes)))
        for part, _, _ in self.actors:
            boundary = part.boundary
            assert boundary is not None
            assert not part.failure
            assert boundary.idle
            assert not getattr(boundary, "_orphans", None)
            assert not boundary.settling
            assert not part.learnt_since_push
            assert not part.courier.open_requests()
            assert not part.early._held
            assert self.most_open[part.rank] <= self.credit()
            times = Counter(number for numbers_of in part.trained for number in numbers_of)
            if not killed:
                assert times == everything
        assert self.counted("boundary_malformed") == self.counted("boundary_crowded") == 0

    def credit(self) -> int:
        """Rounds that a part may have sent up without an answer."""
        coupling, admm = self.job.partition.coupling, self.job.admm
        if coupling == "backprop":
            return self.job.partition.micro_batches
        return admm.ahead if coupling == "weights" or not admm.wait else 1


def numbers(inputs: Float32) -> tuple[int, ...]:
    """Which samples these are."""
    return tuple(int(number) for number in inputs[:, 0])


def sends(actions: list[Action]) -> list[Message]:
    """What is said in some actions."""
    return [action.envelope.message for action in actions if isinstance(action, Send)]
