"""Whom data servers feed where the net is cut: bottom parts, and what they tell the parts above.

The parts' own computing is left out: a bottom part is done with a portion as soon as all data
servers have told it what it holds.
"""

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from simulation import Simulation, make_job, write_npz

from dualshard.common import partition
from dualshard.common.cluster import Cluster
from dualshard.common.delivery import Courier, Open, Peer
from dualshard.common.job import Job
from dualshard.common.memory import FaultPlan
from dualshard.common.messages import (
    AskSamples,
    Describe,
    Envelope,
    Evaluate,
    Evaluated,
    Fetch,
    Message,
    Samples,
    Shelf,
    Start,
)
from dualshard.common.node import Action
from dualshard.common.session import Welcomed
from dualshard.common.types import Array, Role
from dualshard.worker.batches import Minibatch
from dualshard.worker.exchange import Replica
from dualshard.worker.feeding import Feeding
from dualshard.worker.shelf import Slots

SAMPLES, BATCH, MACRO = 330, 16, 32
ELEMENTS = 100
"""Parameters of a part."""
Place = tuple[int, int]
"""Epoch, and where a portion begins in its order."""


class Feeder(Feeding):
    """A worker that takes whole portions, asks every data server for the samples of each, and is
    done with it."""

    taken: ClassVar[list[tuple[int, Place, list[Minibatch], Array]]] = []
    told: ClassVar[dict[tuple[int, Place], Samples]] = {}
    fetches: ClassVar[Counter[int]] = Counter()
    """Portions of the training split that were asked for, by rank."""

    def __init__(self, courier: Courier, **session: object) -> None:
        super().__init__(courier, **session)
        self._waiting: dict[Place, list[Minibatch]] = {}
        self._described = False
        self.slots: Slots | None = None
        self.requests[Evaluate] = self._on_evaluate_nothing
        self.replies |= {
            AskSamples: self._on_told,
            Describe: lambda request, reply: None,
            Start: self.wrong_owner,
        }

    def viewed(self, old: Cluster, new: Cluster) -> None:
        assert self.job is not None
        parts = partition.parts(self.job)
        if not self._described and new.data is not None:
            self._described = True
            starts = [ELEMENTS * part for part in range(parts)]
            self.tell(Describe([["w", True, False, ELEMENTS * parts]], "", starts))
        if self.replica is None and new.table.owners:
            section, (replica, part) = self.job.paramserver, partition.place(self.job, self.rank)
            shards = new.shards(section.shard_bytes, section.buckets)
            numbers, vector = shards.of_part(part), np.zeros(ELEMENTS, np.float32)
            self.replica = Replica(vector, shards, numbers, ELEMENTS * part)
            self.offer_shelf(self.slots)
            for shard in numbers if replica == 0 else ():
                begin, end = shards.span(shard)
                values = np.zeros(end - begin, np.float32)
                self.ask_owner(Start(new.table.epoch, shard, values), None)
        self.go_on()

    def ask(self, peer: Peer, message: Message, *more: Any, **others: Any) -> None:
        if isinstance(message, Fetch) and not message.test:
            self.fetches[self.rank] += 1
        super().ask(peer, message, *more, **others)

    def go_on(self) -> None:
        if self.cluster.phase != "training" or self.replica is None:
            return
        while batches := self._ring.take_portion():
            portion = batches[0].lease.portion
            place = portion.epoch, portion.begin
            inputs = np.concatenate([batch.inputs for batch in batches])
            self.taken.append((self.rank, place, batches, inputs))
            for address in self.data_servers():
                self.ask(address, AskSamples(*place, labels=True))
            self._waiting[place] = batches
        self.ask_for_data()

    def _on_told(self, request: Open, reply: Message) -> None:
        asked = request.message
        assert isinstance(asked, AskSamples)
        assert isinstance(reply, Samples)
        server = self.data_servers().index(str(request.peer))
        place = asked.epoch, asked.begin
        self.told[server, place] = reply
        if all((number, place) in self.told for number in range(len(self.data_servers()))):
            for batch in self._waiting.pop(place):
                self.applied(batch)
            self.go_on()

    def _on_evaluate_nothing(self, peer: Peer, envelope: Envelope) -> None:
        assert isinstance(envelope.message, Evaluate)
        self.answer(peer, envelope, Evaluated(envelope.message.number, 1, {"accuracy": 0.0}))


class Fed(Simulation):
    """A cluster of feeders, whose shelves are always there."""

    worker = Feeder

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        Feeder.taken, Feeder.told, Feeder.fetches = [], {}, Counter()
        super().__init__(*arguments, **settings)

    def _worker_does(self, actor: Any, action: Action) -> None:
        if isinstance(action, Welcomed):
            job = Job.from_dict(action.job)
            actor.node.configure(job)
            number, memory = actor.node.courier.incarnation, np.empty((99, 2 * MACRO), np.float32)
            self._shelves[number] = memory
            actor.node.slots = Slots(memory, Shelf("memory", number, 0, 99, 8 * MACRO))

    def feeders(self) -> list[Feeder]:
        return [actor.node for actor in self.of(Role.WORKER) if isinstance(actor.node, Feeder)]


def cut_job(folder: Path, **settings: Any) -> Job:
    """Two replicas of a net of two parts; inputs (1, number of the sample)."""
    numbers = np.arange(SAMPLES)
    inputs = np.stack([np.ones(SAMPLES), numbers], axis=1).astype(np.float32)
    values: dict[str, Any] = {
        "train__mode": "admm",
        "admm__macro_batch": MACRO,
        "data__batch_size": BATCH,
        "worker__count": 4,
        "dataserver__count": 2,
        **settings,
    }
    return make_job(write_npz(folder / "numbered.npz", inputs, numbers % 3), **values)


def check_fed(sim: Fed, job: Job) -> None:
    """Each sample came once an epoch, to bottom parts alone; all servers tell the same of it."""
    takers = {rank for rank in range(job.worker.count) if partition.takes_data(job, rank)}
    assert {rank for rank, *_ in Feeder.taken} <= Feeder.fetches.keys() == takers
    for epoch in range(job.job.epochs):
        of_epoch = [inputs for _, place, _, inputs in Feeder.taken if place[0] == epoch]
        numbers = np.concatenate(of_epoch)[:, 1].astype(np.int64)
        np.testing.assert_array_equal(np.sort(numbers), np.arange(SAMPLES))
    for _, place, _, inputs in Feeder.taken:
        for server in range(job.dataserver.count):
            samples = Feeder.told[server, place]
            np.testing.assert_array_equal(samples.indices, inputs[:, 1])
            np.testing.assert_array_equal(samples.labels, inputs[:, 1] % 3)
    for feeder in sim.feeders():
        assert not feeder.undrained() or feeder.rank in takers
        assert feeder._ring.held == 0


def labels_came() -> set[bool]:
    """Whether portions had labels."""
    return {len(batch.labels) > 0 for _, _, batches, _ in Feeder.taken for batch in batches}


@pytest.mark.parametrize(
    ("coupling", "head", "labels"),
    [("activations", True, False), ("backprop", True, False), ("weights", True, True),
     ("weights", False, False)],
)  # fmt: skip
def test_only_bottom_parts_fetch_and_with_labels_only_where_they_have_a_head(
    tmp_path: Path, coupling: str, head: bool, labels: bool
) -> None:
    job = cut_job(tmp_path, partition__coupling=coupling, admm__head=head)
    sim = Fed(job)
    sim.run()
    sim.check()
    check_fed(sim, job)
    assert {rank for rank, *_ in Feeder.taken} == {0, 2}
    assert labels_came() == {labels}
    assert sum(server.counters["shelved"] for server in sim.dataservers()) == len(Feeder.taken)


def test_a_portion_is_a_macro_batch_and_a_stretch_is_fair_to_replicas(tmp_path: Path) -> None:
    job = cut_job(tmp_path, job__checkpoint_every=0.15)
    sim = Fed(job, run=tmp_path / "run")
    ends = set()
    for server in sim.dataservers():
        begin = server.begin
        server.begin = lambda serve, begin=begin: (  # type: ignore[method-assign,misc]
            ends.add((serve.begin, serve.end)),
            begin(serve),
        )[1]
    sim.run()
    sim.check()
    check_fed(sim, job)
    sizes = Counter(len(inputs) for *_, inputs in Feeder.taken)
    assert sizes[MACRO] == sum(sizes.values()) - sizes[SAMPLES % MACRO]
    # 0.15 epochs are 49.5 samples: a portion for each replica, and not for each of four workers.
    assert ends == {(begin, min(begin + 2 * MACRO, SAMPLES)) for begin, _ in ends}
    assert {begin for begin, _ in ends} == set(range(0, SAMPLES, 2 * MACRO))


@pytest.mark.parametrize("seed", range(3))
def test_questions_and_answers_that_are_lost_or_come_twice(tmp_path: Path, seed: int) -> None:
    job = cut_job(tmp_path, job__start_timeout="1h", partition__coupling="activations")
    bad = FaultPlan(drop=0.2, duplicate=0.2, reorder=0.2, jitter=0.01)
    sim = Fed(job, seed=seed, plan=bad)
    sim.run()
    sim.check()
    check_fed(sim, job)
    for fate in ("drop", "duplicate", "reorder"):
        for what in ("AskSamples REQUEST", "Samples REPLY", "Fetch REQUEST", "Done REQUEST"):
            assert any(f" {fate} " in line and what in line for line in sim.network.trace)
    # Answers are not kept for those who ask again: some were looked up a second time.
    asked = len(Feeder.taken) * job.dataserver.count
    assert sum(server.counters["looked_up"] for server in sim.dataservers()) > asked


def test_parts_above_ask_for_no_portion(tmp_path: Path) -> None:
    job = cut_job(tmp_path, partition__parts=3, worker__count=3, partition__coupling="backprop")
    sim = Fed(job)
    sim.run()
    sim.check()
    check_fed(sim, job)
    assert Feeder.fetches.keys() == {0}
