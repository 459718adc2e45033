"""A whole cluster in one thread: the real states of all roles on `memory` and a manual clock.

Time stands still while anybody has something to do, and then jumps to the next event: an arrival,
a timer, the end of a computation, or what has been put on the agenda. What a role's process does in
threads is done inline here, at the beginning of the time that it takes. The same job, seed and
agenda replay the same history.

`bench straggler` measures simulated seconds with it; the tests of clusters stand on it.
"""

import heapq
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..common import modes, partition
from ..common.clock import ManualClock
from ..common.delivery import Courier
from ..common.errors import DualshardError
from ..common.job import Job
from ..common.loop import Loop
from ..common.memory import FaultPlan, Network
from ..common.messages import Shelf
from ..common.node import Action, Failed, Node
from ..common.session import Session, Welcomed, own_versions
from ..common.telemetry import Telemetry
from ..common.types import Float32, Role
from ..dataserver.events import LookUp, Opened, Prepare
from ..dataserver.process import Store
from ..dataserver.shelves import Shelves
from ..dataserver.state import DataServer
from ..paramserver.checkpoint import (
    FOLDER,
    Checkpoint,
    discard,
    next_number,
    open_checkpoint,
    seal,
)
from ..paramserver.controller.admission import Record
from ..paramserver.controller.checkpoints import Discard, GoesOn, Place, Seal, Sealed
from ..paramserver.controller.resuming import Resumed, check_fits
from ..paramserver.controller.state import Controller, Saved, SaveModel
from ..paramserver.disk import Disk, DiskAction
from ..paramserver.saving import FileClosed
from ..paramserver.state import ParameterServer
from ..worker.boundary.events import Ahead, Back, Forward
from ..worker.events import (
    Build,
    Built,
    Compute,
    Computed,
    ComputePart,
    Measure,
    Measured,
    Partly,
)
from ..worker.feeding import CREDITS
from ..worker.parts.stepper import PartStepper
from ..worker.shelf import Slots, room
from ..worker.state import Worker
from ..worker.step import Stepper
from ..worker.threads import step
from .actors import Actor, Peaks, SlowTransport

CONTROLLER = "tcp://10.0.0.1:7077"
LINGER = 1.0
"""Seconds that an ended role's last messages have to arrive, as in `runtime`."""
AFTER = 1e-6
"""Timers fire after their moment, not at it: time jumps to a microsecond past each event."""
TURNS_LIMIT = 10_000
"""Turns without any time passing; more mean that roles keep each other busy for ever."""


class Simulation:
    """A cluster for one job.

    Arguments:
        seed, plan: of the network's faults.
        compute: seconds of one minibatch on a worker of this rank.
        pace: seconds that a role (by name, `paramserver-0`) takes for one message.
        absent: names of roles that never start.
        shelved: data servers write portions to the workers' memory.
        early: a lane tells of each part of its gradient while it computes, at even distances.
        watch: note `peaks` (slower).
        run: the run directory, for jobs with checkpoints; a job with `job.resume` goes on from
            what it, or another one, holds.
        rows: metrics.jsonl so far, of a job that goes on.
        writing: seconds that a server takes to write one shard.
    """

    worker: type[Session] = Worker
    """What workers are."""

    def __init__(
        self,
        job: Job,
        *,
        seed: int = 0,
        plan: FaultPlan | None = None,
        compute: Callable[[int], float] = lambda rank: 0.01,
        pace: dict[str, float] | None = None,
        absent: frozenset[str] = frozenset(),
        shelved: bool = True,
        early: bool = False,
        watch: bool = False,
        run: Path | None = None,
        rows: list[dict[str, Any]] | None = None,
        writing: float = 0.0,
    ) -> None:
        self.folder, self._writing = run, writing
        self._earlier_rows = list(rows or [])
        self.resumed: Resumed | None = None
        if job.job.resume:
            job = self._goes_on_from(job)
        self.job = job
        self.clock = ManualClock()
        self.network = Network(self.clock, seed, plan)
        self.actors: dict[str, Actor] = {}
        self.rows: list[dict[str, Any]] = []
        self.model: Float32 | None = None
        self.steppers: dict[str, Stepper] = {}
        self.parts: dict[str, PartStepper] = {}
        self.stores: dict[str, Store] = {}
        self.disks: dict[str, Disk] = {}
        self.full: set[str] = set()
        """Names of roles whose disk is full."""
        self.peaks = Peaks()
        self.opening: dict[str, float] = {}
        """Seconds that a data server, by name, takes to open its data."""
        self._compute, self._pace, self._watch = compute, pace or {}, watch
        self._early, self._shelved = early, shelved
        self._shelves: dict[int, Float32] = {}
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self._agreed = 0
        counts = {
            Role.PARAMSERVER: job.paramserver.count,
            Role.DATASERVER: job.dataserver.count,
            Role.WORKER: job.worker.count,
        }
        if "controller-0" not in absent:
            self.start_controller()
        for role, count in counts.items():
            for rank in range(count):
                if f"{role}-{rank}" not in absent:
                    self.add(role, rank)

    # Building.

    def start_controller(self) -> None:
        """Start the controller."""
        place = None
        if self.folder is not None:
            (self.folder / FOLDER).mkdir(parents=True, exist_ok=True)
            (self.folder / "job.toml").touch()
            place = Place(str(self.folder / FOLDER), next_number(self.folder))
        node = Controller(Courier(1), self.job, CONTROLLER, own_versions(), place, self.resumed)
        actor = self._install("controller-0", node, 1, CONTROLLER, self._controller_does)
        actor.loop.begin(node.start(self.clock.now()))

    def _goes_on_from(self, job: Job) -> Job:
        """As the controller's process does: the job with the checkpoint itself as `job.resume`."""
        found = open_checkpoint(Path(job.job.resume), "job.resume")
        check_fits(job, found.manifest)
        self.resumed = Resumed(found.manifest, self._earlier_rows)
        return replace(job, job=replace(job.job, resume=str(found.path)))

    def add(self, role: Role, rank: int, *, life: int = 0, wanted: int | None = None) -> Actor:
        """Start one more role, under the name `role-rank`; `life` counts its restarts."""
        kinds: dict[Role, tuple[type[Session], int, Callable[[Actor, Action], None]]] = {
            Role.PARAMSERVER: (ParameterServer, 100, self._paramserver_does),
            Role.DATASERVER: (DataServer, 200, self._dataserver_does),
            Role.WORKER: (self.worker, 300, self._worker_does),
        }
        kind, base, perform = kinds[role]
        number = base + rank + 1000 * life
        address = f"tcp://10.0.0.2:{number}"
        more: dict[str, Any] = {}
        if role is Role.DATASERVER:
            more["shelves"] = Shelves(lambda offered: self._shelves[offered.pid])
        node = kind(
            Courier(number),
            **more,
            controller=CONTROLLER,
            address=address,
            host="memory",
            pid=number,
            versions=own_versions(),
            rank=rank if wanted is None else wanted,
            start_timeout=self.job.job.start_timeout,
        )
        actor = self._install(f"{role}-{rank}", node, number, address, perform)
        actor.loop.begin(node.start(self.clock.now()))
        return actor

    def _install(
        self,
        name: str,
        node: Node,
        number: int,
        address: str,
        perform: Callable[[Actor, Action], None],
    ) -> Actor:
        endpoint = self.network.transport(number, address)
        slow = SlowTransport(endpoint, self.clock, self._pace[name]) if name in self._pace else None
        transport: Any = slow or endpoint
        telemetry = Telemetry(name, self.clock)
        loop = Loop(node, transport, self.clock, telemetry, lambda action: perform(actor, action))
        actor = Actor(name, node, loop, endpoint)
        self.actors[name] = actor
        return actor

    # What each role's process does with its actions.

    def _work(self, actor: Actor, work: Callable[[], object], seconds: float = 0.0) -> None:
        """Run `work` now and post what it returns `seconds` later, as `loop.Background` would."""
        try:
            event = work()
        except DualshardError as error:
            event = Failed(error.exit_status, str(error))
        if seconds:
            self.at(self.clock.now() + seconds, lambda: _post_to(actor, event))
        else:
            actor.loop.post(event)

    def _controller_does(self, actor: Actor, action: Action) -> None:
        if isinstance(action, Record):
            self.rows.extend(action.rows)
        elif isinstance(action, Seal):
            self._work(actor, lambda: self._seal(actor, action))
        elif isinstance(action, Discard):
            discard(Path(action.directory))
        elif not isinstance(action, GoesOn):
            assert isinstance(action, SaveModel)
            self.model = action.vector.copy()
            actor.loop.post(Saved())

    def _seal(self, actor: Actor, action: Seal) -> Sealed:
        if actor.name in self.full:
            return Sealed("No space left on device")
        seal(Path(action.directory), action.manifest, action.keep)
        return Sealed()

    def _paramserver_does(self, actor: Actor, action: Action) -> None:
        if isinstance(action, DiskAction):
            disk = self.disks.setdefault(actor.name, Disk())
            if actor.name in self.full:
                actor.loop.post(FileClosed(problem="No space left on device"))
            else:
                self._work(actor, lambda: disk.perform(action), self._writing)
            return
        assert isinstance(action, Welcomed)
        assert isinstance(actor.node, ParameterServer)
        actor.node.configure(Job.from_dict(action.job))

    def _dataserver_does(self, actor: Actor, action: Action) -> None:
        if isinstance(action, Prepare | LookUp):
            self._work(actor, lambda: self.stores[actor.name].perform(action))
        else:
            assert isinstance(action, Welcomed)
            assert isinstance(actor.node, DataServer)
            job = Job.from_dict(action.job)
            actor.node.configure(job)
            seconds = self.opening.get(actor.name, 0.0)
            self._work(actor, lambda: self._open(actor.name, job), seconds)

    def _open(self, name: str, job: Job) -> Opened:
        self.stores[name] = Store(job)
        return Opened(self.stores[name].facts)

    def _worker_does(self, actor: Actor, action: Action) -> None:
        assert isinstance(actor.node, Worker)
        if isinstance(action, Compute):
            seconds = self._compute(actor.node.rank) * len(action.batches)
            if self._early and action.announce:
                self._tell_early(actor, action, seconds)
            else:
                self._work(actor, lambda: step(self.steppers[actor.name], action), seconds)
        elif isinstance(action, ComputePart):
            seconds = self._compute(actor.node.rank) * self._minibatches(action)
            self._work(actor, lambda: self._compute_part(actor.name, action), seconds)
        elif isinstance(action, Measure):
            self._work(actor, lambda: self._measure(actor.name, action))
        elif isinstance(action, Build):
            self._work(actor, lambda: self._build(actor.name, action))
        else:
            assert isinstance(action, Welcomed)
            actor.node.configure(Job.from_dict(action.job))

    def _minibatches(self, action: ComputePart) -> float:
        """How many minibatches' time an action takes; going forward is a third of a step."""
        part, job = action.action, self.job
        if isinstance(part, Ahead | Back):
            return (1 / 3 if isinstance(part, Ahead) else 2 / 3) / job.partition.micro_batches
        batches = -(-len(part.rows.inputs) // part.rows.batch)
        return batches * (1 / 3 if isinstance(part, Forward) else job.admm.passes)

    def _compute_part(self, name: str, action: ComputePart) -> object:
        return self.parts[name].perform(action.action, action.progress)

    def _tell_early(self, actor: Actor, action: Compute, seconds: float) -> None:
        """A step whose gradient appears part by part: before its moment a part holds NaN."""
        stepper, events = self.steppers[actor.name], list[Partly]()
        lane, gradient = action.lane, stepper.gradients[action.lane]
        computed = step(
            stepper, action, lambda begin, factors: events.append(Partly(lane, begin, factors))
        )
        # Of the last part the end of the step tells.
        events = [event for event in events if event.begin]
        final = gradient.copy()
        gradient.fill(np.nan)

        def show(begin: int, event: Partly | Computed) -> None:
            if actor.running:
                gradient[begin:] = final[begin:]
                actor.loop.post(event)

        parts: list[Partly | Computed] = [*events, computed]
        for place, event in enumerate(parts, 1):
            begin = event.begin if isinstance(event, Partly) else 0
            moment = self.clock.now() + seconds * place / len(parts)
            self.at(moment, partial(show, begin, event))

    def _build(self, name: str, action: Build) -> Built:
        assert action.cluster.data is not None
        node = self.actors[name].node
        assert isinstance(node, Worker)
        if partition.is_cut(self.job):
            part = partition.place(self.job, node.rank)[1]
            made = self.parts[name] = PartStepper(self.job, action.cluster.data, part)
            return replace(made.built(), slots=self._slots(node) if self._shelved else None)
        stepper = self.steppers[name] = Stepper(self.job, action.cluster.data)
        # Shards are small here, and so is what is worth telling.
        granule = self.job.paramserver.shard_bytes // 4
        for model in stepper._models if self._early else ():
            model.on_ready = partial(model.on_ready, granule=granule)  # type: ignore[method-assign]
        return replace(stepper.built(), slots=self._slots(node) if self._shelved else None)

    def _slots(self, worker: Worker) -> Slots:
        """Memory for portions, as a worker's process shares it."""
        assert worker.cluster.data is not None
        count, elements = room(self.job, worker.cluster.data, CREDITS)
        memory = self._shelves[worker.courier.incarnation] = np.full(
            (count, elements), np.nan, np.float32
        )
        return Slots(memory, Shelf("memory", worker.courier.incarnation, 0, count, 4 * elements))

    def _measure(self, name: str, action: Measure) -> Measured:
        stepper = self.parts.get(name) or self.steppers[name]
        return Measured(*stepper.evaluate(action.vector, action.portions))

    # Time.

    def at(self, moment: float, what: Callable[[], object]) -> None:
        """Put something on the agenda."""
        self._agreed += 1
        heapq.heappush(self._agenda, (moment, self._agreed, what))

    def run(self, limit: float = 3600.0) -> None:
        """Until every role has ended."""
        self.run_until(lambda: not any(actor.running for actor in self.actors.values()), limit)

    def run_until(self, condition: Callable[[], bool], limit: float = 3600.0) -> None:
        """Until `condition` holds; fails after `limit` seconds of simulated time."""
        deadline = self.clock.now() + limit
        while True:
            self._settle()
            if condition():
                return
            moment = self._next_event()
            assert moment < float("inf"), f"nothing will ever happen again: {self.describe()}"
            assert moment <= deadline, f"not within {limit:g} s: {self.describe()}"
            self.clock.advance_to(moment + AFTER)
            self.network.deliver()
            while self._agenda and self._agenda[0][0] <= self.clock.now():
                heapq.heappop(self._agenda)[2]()

    def _settle(self) -> None:
        """Turn all loops until nobody has anything to do at this moment."""
        busy, turns = True, 0
        while busy:
            busy = False
            for actor in list(self.actors.values()):
                if actor.running:
                    if self._watch:
                        self.peaks.look(actor)
                    busy |= actor.loop.turn(0.0)
                elif not actor.killed and not actor.closed:
                    actor.closed = True
                    self.at(self.clock.now() + LINGER, partial(actor.endpoint.close, 0))
            turns += 1
            assert turns < TURNS_LIMIT, f"time stands still: {self.describe()}"

    def _next_event(self) -> float:
        moments = [actor.wake_at() for actor in self.actors.values() if actor.running]
        if self._agenda:
            moments.append(self._agenda[0][0])
        return min([*moments, self.network.next_delivery()])

    # Faults.

    def kill(self, name: str) -> None:
        """SIGKILL: nothing of this role happens any more; messages to it are lost."""
        self.actors[name].killed = True
        self.network.remove(self.actors[name].endpoint)

    def cut(self, one: str, other: str) -> None:
        """Lose everything between two roles until `network.heal()`."""
        self.network.cut(self.actors[one].endpoint, self.actors[other].endpoint)

    # Looking at it.

    @property
    def controller(self) -> Controller:
        node = self.actors["controller-0"].node
        assert isinstance(node, Controller)
        return node

    def of(self, role: Role) -> list[Actor]:
        """The actors of a role that were not killed."""
        return [a for n, a in self.actors.items() if n.startswith(f"{role}-") and not a.killed]

    def servers(self) -> list[ParameterServer]:
        """The parameter servers' states."""
        return [a.node for a in self.of(Role.PARAMSERVER) if isinstance(a.node, ParameterServer)]

    def dataservers(self) -> list[DataServer]:
        """The data servers' states."""
        return [a.node for a in self.of(Role.DATASERVER) if isinstance(a.node, DataServer)]

    def workers(self) -> list[Worker]:
        """The workers' states."""
        return [a.node for a in self.of(Role.WORKER) if isinstance(a.node, Worker)]

    def pushes(self) -> int:
        """Pushes that all servers have applied."""
        return sum(server.counters["pushes"] for server in self.servers())

    def epochs(self) -> list[dict[str, Any]]:
        """The rows of finished epochs."""
        return [row for row in self.rows if row["kind"] == "epoch"]

    def evaluations(self) -> list[dict[str, Any]]:
        """The rows of evaluations."""
        return [row for row in self.rows if row["kind"] == "evaluation"]

    def checkpoints(self) -> list[dict[str, Any]]:
        """The rows of complete checkpoints."""
        return [row for row in self.rows if row["kind"] == "checkpoint"]

    def checkpoint(self) -> Checkpoint:
        """The latest complete one."""
        assert self.folder is not None
        return open_checkpoint(self.folder, "RUN")

    def events(self) -> list[str]:
        """What was told to the user."""
        return [row["text"] for row in self.rows if row["kind"] == "event"]

    def shards(self) -> int:
        """How many shards the parameters have."""
        job = self.job.paramserver
        return self.controller.cluster.shards(job.shard_bytes, job.buckets).count

    def describe(self) -> str:
        """Where everybody stands, for a failing test."""
        lines = [f"{self.clock.now():.6f} s, {dict(self.network.counts)}"]
        for name, actor in self.actors.items():
            how = "killed" if actor.killed else actor.loop.ended or "runs"
            waits = [type(r.message).__name__ for r in actor.node.courier.open_requests()]
            lines.append(f"{name}: {how}; open {waits[:8]}; wakes at {actor.wake_at():.3f}")
        return "\n".join([*lines, *self.events()[-8:], *self.network.trace[-5:]])

    def check(self, *, statuses: int = 0, leases: bool = True) -> None:
        """What must hold at the end of every run.

        Every role has ended with the status; each shard's version is the number of pushes that
        its server applied and counted; with `leases`, nobody holds a portion any more.
        """
        for actor in self.actors.values():
            if not actor.killed:
                assert actor.ended.status == statuses, f"{actor.name}: {actor.ended}"
        for server in self.servers():
            if server.store is not None:
                versions = sum(held.version for held in server.store.shards.values())
                versions -= sum(map(self._resumed_version, server.store.shards))
                if modes.closes_steps(self.job):
                    assert versions <= server.counters["pushes"]
                else:
                    assert versions == server.counters["pushes"]
                held = server.store.shards.values()
                assert not any(one.parts or one.clock.waiting for one in held)
        if leases:
            assert [dataserver.report()["leases"] for dataserver in self.dataservers()] == [
                0 for _ in self.dataservers()
            ]
            rings = [worker._ring for worker in self.workers()]
            assert [ring.held for ring in rings if ring is not None] == [0] * len(rings)

    def _resumed_version(self, shard: int) -> int:
        """What a shard's version was in the checkpoint: the highest of those of which it is put
        together, where the net was cut otherwise."""
        if self.resumed is None:
            return 0
        job, manifest = self.job.paramserver, self.resumed.manifest
        shards = self.controller.cluster.shards(job.shard_bytes, job.buckets)
        begin, end = shards.span(shard)
        spans = (
            (entry, manifest.shards.span(entry.shard)) for f in manifest.files for entry in f.shards
        )
        return max(entry.version for entry, (first, last) in spans if first < end and begin < last)


def _post_to(actor: Actor, event: object) -> None:
    if actor.running:
        actor.loop.post(event)
