"""Jobs on cut nets for the cluster tests, and a cluster that notes what its parts learn from."""

from collections import defaultdict
from collections.abc import Collection
from functools import cache
from typing import Any

import numpy as np
from simulation import Simulation

from dualshard.common import partition
from dualshard.common.job import Job
from dualshard.common.memory import FaultPlan
from dualshard.common.node import Action
from dualshard.common.types import Float32, Role
from dualshard.dataserver.source import open_source
from dualshard.worker.boundary.events import Ahead, Back, Rows, Train
from dualshard.worker.events import ComputePart

SAMPLES = 1438
"""Of the training split of the digits inside scikit-learn."""
EPOCHS = 3
WIDTHS = (32, 24, 16)
"""Of the hidden layers, behind which nets are cut."""
PATIENT = {"job__lease": "60s", "job__start_timeout": "1h"}
"""For a network so bad that heartbeats are lost in a row: nobody is given up for dead."""


def cut_job(parts: int = 2, **settings: Any) -> Job:
    """A small net on digits, cut behind its first hidden layers; settings as in `make_job`."""
    values: dict[str, Any] = {
        "data__batch_size": 16,
        "model__ref": "mlp",
        "model__args": {"hidden": list(WIDTHS)},
        "optimizer__rule": "adam",
        "optimizer__lr": 0.01,
        "optimizer__schedule": "linear",
        "train__mode": "admm",
        "admm__macro_batch": 64,
        "partition__cuts": [f"relu{cut}" for cut in range(1, parts)],
        "worker__count": parts,
        "paramserver__count": 2,
        "paramserver__shard_bytes": 1024,
        "job__epochs": EPOCHS,
        **settings,
    }
    tables: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, name = key.split("__")
        tables.setdefault(section, {})[name] = value
    return Job.from_dict(tables)


@cache
def _numbers() -> dict[bytes, int]:
    """The number of each image of the training split: no two are the same."""
    job = Job.from_dict({})
    train = open_source(job.data, job.job.seed).train
    images, _ = train.read(np.arange(len(train)))
    return {image.tobytes(): number for number, image in enumerate(images)}


class CutNet(Simulation):
    """Notes which samples parts learn from: `learnt`, by rank and epoch, in their order.

    Those of the lowest parts are known by their pixels, those of parts above by what data servers
    have told; of middle parts in coupling backprop nothing is known.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self.learnt: dict[tuple[int, int], list[int]] = defaultdict(list)
        self._ahead: dict[tuple[str, int], Rows] = {}
        super().__init__(*arguments, **settings)

    def _worker_does(self, actor: Any, action: Action) -> None:
        if isinstance(action, ComputePart):
            self._note(actor, action.action)
        super()._worker_does(actor, action)

    def _note(self, actor: Any, action: Any) -> None:
        if isinstance(action, Ahead):
            self._ahead[actor.name, action.round] = action.rows
        if not isinstance(action, Back | Train):
            return
        rank, rows = actor.node.rank, action.rows or self._ahead[actor.name, action.round]
        learnt = self.learnt[rank, rows.seeds[0]]
        if action.known is not None:
            learnt += action.known.indices.tolist()
        elif not partition.place(self.job, rank)[1]:
            learnt += [_numbers()[image.tobytes()] for image in rows.inputs]

    def check_learnt(self, *, parts: Collection[int] | None = None) -> None:
        """Every part (or these) of some replica has learnt from each sample once an epoch."""
        count = partition.parts(self.job)
        ends = {0, count - 1} if self.job.partition.coupling == "backprop" else range(count)
        for epoch in range(self.job.job.epochs):
            for part in ends if parts is None else parts:
                ranks = range(part, self.job.worker.count, count)
                learnt = [one for rank in ranks for one in self.learnt[rank, epoch]]
                assert sorted(learnt) == list(range(SAMPLES)), (epoch, part)
        check_rows(self)


def check_rows(sim: Simulation) -> None:
    """The controller's words for it."""
    rows = sim.epochs()
    assert [row["samples"] for row in rows] == [SAMPLES] * len(rows)
    for row in rows:
        assert (row["repeated"], row["dropped"], row["samples_repeated"]) == (0, 0, 0)


def trained(job: Job, **options: Any) -> CutNet:
    """The job run to its end, undisturbed."""
    sim = CutNet(job, **options)
    sim.run()
    sim.check()
    sim.check_learnt()
    return sim


def through(job: Job, plan: FaultPlan, seed: int) -> CutNet:
    """The job run to its end over a network that is bad until training is over."""
    sim = CutNet(job, plan=plan, seed=seed)
    sim.run_until(lambda: sim.controller.cluster.phase == "finishing", 5_000)
    sim.network.plan = FaultPlan()
    sim.run()
    sim.check()
    return sim


def model_of(sim: Simulation) -> Float32:
    """The final model."""
    assert sim.model is not None
    return sim.model


def accuracy_of(sim: Simulation) -> float:
    """What the glued net gets right in the end."""
    accuracy: float = sim.evaluations()[-1]["accuracy"]
    return accuracy


def replace_worker(sim: Simulation, rank: int) -> None:
    """A new worker takes a place, once the controller has noticed that it is free."""
    sim.run_until(lambda: f"worker-{rank}" in sim.controller.roster.missing())
    sim.add(Role.WORKER, rank, life=1)
