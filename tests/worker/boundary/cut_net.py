"""One replica of a cut net: its parts, joined by the courier and the network in memory under a
manual clock; the test plays data servers and controller. What is checked at the end is seen from
outside: what was said, what was computed, and what is left.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from fake_part import Part

from dualshard.common.clock import ManualClock
from dualshard.common.job import Job
from dualshard.common.loop import Loop
from dualshard.common.memory import FaultPlan, MemoryTransport, Network
from dualshard.common.messages import Activations, AskSamples, Envelope, Message, Portion, Samples
from dualshard.common.telemetry import Telemetry
from dualshard.common.types import Float32, Member, Role
from dualshard.worker.batches import Lease, Minibatch
from dualshard.worker.boundary.boundary import Learnt

BATCH = 4
TURNS_LIMIT = 200_000
FAULTS = FaultPlan(drop=0.1, duplicate=0.1, reorder=0.2, reorder_delay=3.0, jitter=0.01)
HEARING = 0.3
"""Seconds until a change of the view has reached everyone."""


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


@dataclass(eq=False)
class Actor:
    """One life of a part."""

    part: Part
    loop: Loop
    endpoint: MemoryTransport
    member: Member


class CutNet:
    """All parts from the beginning to the end of one epoch.

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
        self.spoiler: Callable[[Part, Float32], Float32] = lambda part, outputs: outputs
        self._random, self._answering = np.random.default_rng((seed, 7)), answering
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self._numbered = 0
        # Data.
        order = np.random.default_rng(seed).permutation(portions * size - 1)
        self._portions = [order[begin : begin + size] for begin in range(0, len(order), size)]
        self._size, self.samples = size, len(order)
        self.expected = {
            (0, number, batch)
            for number, ids in enumerate(self._portions)
            for batch in range(-(-len(ids) // BATCH))
        }
        self.supply = list(range(portions))
        self._held: set[int] = set()
        # What is seen.
        self.learnt: Counter[tuple[int, int, int]] = Counter()
        self.measures: defaultdict[str, float] = defaultdict(float)
        self.most_open = [0] * self.parts
        self._open: list[set[int]] = [set() for _ in range(self.parts)]
        self._dead: list[Part] = []
        self._above: dict[Part, Member | None] = {}
        self.gone: list[Member] = []
        # Parts.
        self._lives: Counter[int] = Counter()
        self._actors: dict[int, Actor] = {}
        for rank in range(self.parts):
            self._actors[rank] = self._make(rank)
        self.announce()

    # Parts that come and go.

    def part(self, rank: int) -> Part:
        """Who holds a part now."""
        return self._actors[rank].part

    @property
    def living(self) -> list[Part]:
        """All parts that are not dead."""
        return [actor.part for actor in self._actors.values()]

    def _make(self, rank: int) -> Actor:
        self._lives[rank] += 1
        incarnation = 100 * self._lives[rank] + rank
        address = f"tcp://10.0.0.{rank}:{self._lives[rank]}"
        part = Part(self, rank, incarnation)
        endpoint = self.network.transport(incarnation, address)
        telemetry = Telemetry(f"worker-{rank}", self.clock)
        loop = Loop(part, endpoint, self.clock, telemetry, lambda action: None)
        # The job may come later than the neighbours' first messages.
        self.after(self._random.random() * HEARING, part, part.configure)
        return Actor(part, loop, endpoint, Member(Role.WORKER, rank, incarnation, address, "m", 1))

    def kill(self, rank: int) -> None:
        """A part dies; the others hear of it later, each in its own time."""
        actor = self._actors.pop(rank)
        actor.part.killed = True
        self._dead.append(actor.part)
        self.network.remove(actor.endpoint)
        self._open[rank].clear()
        if rank == 0:  # what it has not learnt is served again
            self.supply += sorted(self._held)
            self._held.clear()
        self.gone.append(actor.member)
        self.announce()

    def replace(self, rank: int) -> Part:
        """A new life takes a dead part's place."""
        self._actors[rank] = self._make(rank)
        self.announce()
        return self.part(rank)

    def announce(self) -> None:
        """The view changes."""
        self._numbered += 1
        for rank, actor in self._actors.items():
            near = [self._actors.get(rank - 1), self._actors.get(rank + 1)]
            below, above = (other.member if other else None for other in near)
            view = partial(self._view, actor.part, self._numbered, below, above, list(self.gone))
            self.after(self._random.random() * HEARING, actor.part, view)

    def _view(
        self,
        part: Part,
        number: int,
        below: Member | None,
        above: Member | None,
        gone: list[Member],
    ) -> None:
        again = partial(self._view, part, number, below, above, gone)
        if part.boundary is None:
            self.after(0.05, part, again)
        elif number > part.view:
            part.view = number
            if above != self._above.get(part):
                self._open[part.rank].clear()
                self._above[part] = above
            part.meet(below, above, gone)

    # Data.

    def hand_out(self) -> list[Minibatch]:
        """The minibatches of the next portion that are not learnt."""
        number = self.supply.pop(0)
        self._held.add(number)
        ids = self._portions[number]
        cuts = range(0, len(ids), BATCH)
        left = [n for n in range(len(cuts)) if not self.learnt[0, number, n]]
        rows = np.concatenate([ids[BATCH * n : BATCH * (n + 1)] for n in left])
        inputs = np.stack([rows, np.zeros_like(rows)], axis=1).astype(np.float32)
        partly = [] if len(left) == len(cuts) else left
        begin = number * self._size
        portion = Portion(0, number, False, inputs, np.empty(0, np.int64), 0, begin, partly)
        lease = Lease("data", portion, len(left), left=list(left))
        cut = [inputs[BATCH * i : BATCH * (i + 1)] for i in range(len(left))]
        return [Minibatch(lease, n, own, portion.labels) for n, own in zip(left, cut, strict=True)]

    def answer_samples(self, part: Part, ask: AskSamples) -> None:
        """A data server answers in its time."""
        assert part.boundary is not None
        indices = self._portions[ask.begin // self._size].astype(np.int64)
        labels = indices % 10 if ask.labels else np.empty(0, np.int64)
        know = partial(part.boundary.know, (ask.epoch, ask.begin), Samples(indices, labels))
        self.after(self._answering, part, know)

    # What is seen.

    def has_learnt(self, part: Part, learnt: Learnt) -> None:
        """A part says so."""
        assert bool(learnt.batches) == (part.rank == 0)
        assert part.rank or learnt.count == len(learnt.batches)
        assert part.rank == 0 or not learnt.measures
        self.learnt.update(batch.key for batch in learnt.batches)
        for batch in learnt.batches:
            if all(self.learnt[key] for key in self.expected if key[1] == batch.key[1]):
                self._held.discard(batch.key[1])
        self.measured(learnt.measures)

    def measured(self, measures: dict[str, float]) -> None:
        """Sums that have reached the bottom."""
        for name, value in measures.items():
            self.measures[name] += value

    def said(self, part: Part, message: Message) -> None:
        """A part asks something of a neighbour."""
        if isinstance(message, Activations):
            mine = self._open[part.rank]
            if (
                self.job.partition.coupling == "backprop"
            ):  # a newer minibatch replaces the one before
                mine &= set(range(message.round - message.piece, message.round))
            mine.add(message.round)
            self.most_open[part.rank] = max(self.most_open[part.rank], len(mine))

    def heard(self, part: Part, envelope: Envelope) -> None:
        """A part has got a message."""
        above = self._actors.get(part.rank + 1)
        if above is not None and envelope.source == above.member.incarnation:
            self._open[part.rank].discard(getattr(envelope.message, "round", -1))

    # Time.

    def at(self, moment: float, what: Callable[[], object]) -> None:
        """Do something at a moment."""
        self._numbered += 1
        heapq.heappush(self._agenda, (moment, self._numbered, what))

    def after(self, seconds: float, part: Part, what: Callable[[], None]) -> None:
        """Hand a part something that has happened, in so many seconds, if it still lives."""
        self.at(self.clock.now() + seconds, lambda: self._post(part, what))

    def _post(self, part: Part, what: Callable[[], None]) -> None:
        if not part.killed:
            self._actors[part.rank].loop.post(what)

    def run(self, until: Callable[[], bool] | None = None, seconds: float = 1e4) -> None:
        """Let time pass until something holds; by default until all is learnt and settled."""
        done, end = until or self.over, self.clock.now() + seconds
        for _ in range(TURNS_LIMIT):
            self.network.deliver()
            while self._agenda and self._agenda[0][0] <= self.clock.now():
                heapq.heappop(self._agenda)[2]()
            busy = [actor.loop.turn(0.0) for actor in list(self._actors.values())]
            if done():
                return
            if any(busy):
                continue
            moments = [part.wake_at() for part in self.living]
            agenda = self._agenda[0][0] if self._agenda else float("inf")
            moment = min(self.network.next_delivery(), agenda, *moments)
            assert moment < end, f"nothing happens any more: {self.state()}"
            self.clock.advance_to(moment + 1e-6)
        raise AssertionError(f"no end: {self.state()}")

    def state(self) -> str:
        """All that may say why it stands still."""
        return str([(p.rank, p.failure, p.boundary and vars(p.boundary)) for p in self.living])

    def over(self) -> bool:
        """Whether everything is learnt and settled."""
        return (
            set(self.learnt) == self.expected
            and 0 in self._actors
            and self.part(0).settled
            and not any(part.courier.open_requests() for part in self.living)
        )

    # Invariants.

    @property
    def dead(self) -> set[int]:
        """Incarnations of lives that are over."""
        return {member.incarnation for member in self.gone}

    def counted(self, name: str) -> int:
        """A counter of the boundaries, over all lives."""
        lives = [part for part in (*self.living, *self._dead) if part.boundary is not None]
        return sum(part.boundary.counters[name] for part in lives if part.boundary)

    def trained(self, rank: int) -> Counter[int]:
        """How often each sample has been trained on by a part, over all its lives."""
        lives = [part for part in (*self.living, *self._dead) if part.rank == rank]
        return Counter(n for part in lives for numbers in part.trained for n in numbers)

    def check(self, *, killed: bool = False) -> None:
        """What holds at the end of every test.

        Arguments:
            killed: a part has died: what was under way may have been trained on more than once.
        """
        assert self.learnt == dict.fromkeys(self.expected, 1)
        for part in self.living:
            boundary = part.boundary
            assert boundary is not None
            assert (part.failure, part.unpushed) == ("", 0)
            # One that has died may have spoken before the view named it.
            assert {held.source for _, _, held in part.early._held} <= self.dead
            assert boundary.idle
            assert not boundary.settling
            assert not part.courier.open_requests()
            assert self.most_open[part.rank] <= self.credit
            if not killed:
                assert self.trained(part.rank) == Counter(range(self.samples))
        wrong = [f"boundary_{code}" for code in ("malformed", "crowded", "nonfinite", "stranger")]
        assert not any(self.counted(name) for name in wrong)

    @property
    def credit(self) -> int:
        """Rounds that a part may have sent up without an answer."""
        coupling, admm = self.job.partition.coupling, self.job.admm
        if coupling == "backprop":
            return self.job.partition.micro_batches
        return admm.ahead if coupling == "weights" or not admm.wait else 1
