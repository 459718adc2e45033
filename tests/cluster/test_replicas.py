"""Consensus between whole nets (mode admm, coupling replicas) on a cluster in memory."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain_loop import Loop
from simulation import MODELS, Simulation, blobs, make_job
from test_checkpoints import killed, model_of, resumed
from watching import Watching

from dualshard.common.job import Job
from dualshard.common.memory import FaultPlan
from dualshard.common.types import Float32, Role
from dualshard.worker.admm.replicas import Consensus
from dualshard.worker.events import Compute

REPLICAS: dict[str, Any] = {
    "train__mode": "admm",
    "partition__coupling": "replicas",
    "train__n_push": 4,
    "admm__quorum": 1.0,
    "admm__rho": 0.5,
    "model__ref": "mlp",
    "model__args": {"hidden": [8]},
    "worker__count": 3,
    "optimizer__lr": 0.1,
    "paramserver__shard_bytes": 64,
    "dataserver__portion": 2,
    "job__epochs": 3,
}
BAD_NETWORK = FaultPlan(drop=0.1, duplicate=0.1, reorder=0.2, delay=0.002, jitter=0.01)


class Replay:
    """The formulas for what each worker has trained on, one after the other, in this process."""

    def __init__(self, sim: Watching) -> None:
        self.sim, self.job, self.loop = sim, sim.job, Loop(sim.job)
        self.z = self.loop.vector
        workers = self.job.worker.count
        self.w = [self.z.copy() for _ in range(workers)]
        self.u = [np.zeros_like(self.z) for _ in range(workers)]
        self.residuals: list[tuple[float, float]] = []

    def run(self) -> Float32:
        """All epochs; z at the end."""
        for epoch in range(self.job.job.epochs):
            batches = self.sim.epoch(epoch)
            streams = {
                rank: iter([b for b in batches if b.worker == f"worker-{rank}"])
                for rank in range(self.job.worker.count)
            }
            while taken := {
                rank: some
                for rank, stream in streams.items()
                if (some := list(islice(stream, self.job.train.n_push)))
            }:
                self._round(taken)
        return self.z

    def _round(self, taken: dict[int, list[Any]]) -> None:
        rho, lr = np.float32(self.job.admm.rho), np.float32(self.job.optimizer.lr)
        for rank, batches in taken.items():
            w, u = self.w[rank], self.u[rank]
            for batch in batches:
                gradient = self.loop.gradient(w, (batch.inputs, batch.labels))
                w -= lr * (gradient + rho * (w - self.z + u))
        # Whoever has nothing left counts as z.
        answers = [
            self.w[rank] + self.u[rank] if rank in taken else self.z
            for rank in range(self.job.worker.count)
        ]
        old, self.z = self.z, np.mean(answers, axis=0, dtype=np.float64).astype(np.float32)
        for rank in taken:
            self.u[rank] += self.w[rank] - self.z
            primal = float(np.sqrt(np.mean((self.w[rank] - self.z) ** 2)))
            self.residuals.append((primal, float(rho * np.sqrt(np.mean((self.z - old) ** 2)))))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_it_equals_the_formulas_in_one_process(tmp_path: Path, workers: int) -> None:
    """Some have more rounds than others in an epoch, and the last ones are short."""
    job = make_job(blobs(tmp_path, 256), **{**REPLICAS, "worker__count": workers})
    sim = Watching(job, compute=lambda rank: 0.01 * (1 + 0.5 * rank))
    sim.run()
    sim.check()
    replay = Replay(sim)
    assert sim.model is not None
    np.testing.assert_allclose(sim.model, replay.run(), atol=2e-6)
    for worker, w, u in zip(sim.workers(), replay.w, replay.u, strict=True):
        assert worker.consensus is not None
        np.testing.assert_allclose(worker.consensus.w, w, atol=2e-6)
        np.testing.assert_allclose(worker.consensus.u, u, atol=4e-6)
    rows = sim.epochs()
    assert [row["samples"] for row in rows] == [256] * 3
    assert all(row["late"] == 0 for row in rows)
    assert sum(row["rounds"] for row in rows) == len(replay.residuals)
    for place, name in enumerate(("primal", "dual")):
        found = sum(row[name] * row["rounds"] for row in rows)
        expected = sum(one[place] for one in replay.residuals)
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert {row["rho"] for row in rows} == {0.5}


def test_one_alone_trains_as_ever_with_a_penalty_since_the_last_round(tmp_path: Path) -> None:
    job = make_job(blobs(tmp_path, 256), **{**REPLICAS, "worker__count": 1})
    sim = Watching(job)
    sim.run()
    sim.check()
    loop, lr = Loop(job), np.float32(0.1)
    w = loop.vector
    for epoch in range(job.job.epochs):
        batches = iter(sim.epoch(epoch))
        while some := list(islice(batches, 4)):
            z = w.copy()
            for batch in some:
                gradient = loop.gradient(w, (batch.inputs, batch.labels))
                w -= lr * (gradient + np.float32(0.5) * (w - z))
    assert sim.model is not None
    np.testing.assert_allclose(sim.model, w, atol=2e-6)
    consensus = sim.workers()[0].consensus
    assert consensus is not None
    np.testing.assert_allclose(consensus.u, 0, atol=1e-6)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("quorum", [0.6, 1.0])
def test_over_a_bad_network_it_is_as_good(tmp_path: Path, quorum: float, seed: int) -> None:
    more = {"admm__quorum": quorum, "job__epochs": 8, "job__lease": "60s"}
    job = make_job(blobs(tmp_path), **{**REPLICAS, **more})
    sim = Simulation(job, seed=seed, plan=BAD_NETWORK)
    sim.run()
    sim.check()
    for fault in ("drop", "duplicate", "reorder"):
        assert sim.network.counts[fault] > 0
    assert [row["samples"] for row in sim.epochs()] == [200] * 8
    assert sim.evaluations()[-1]["accuracy"] > 0.95


def with_a_slow_one(tmp_path: Path, **settings: Any) -> Simulation:
    more = {"worker__count": 4, "dataserver__portion": 1, "admm__rho": 0.1, "optimizer__lr": 0.05}
    job = make_job(blobs(tmp_path, 3200), **{**REPLICAS, **more, **settings})
    sim = Simulation(job, compute=lambda rank: 0.03 if rank == 3 else 0.01)
    sim.run()
    sim.check()
    assert [row["samples"] for row in sim.epochs()] == [3200] * 3
    return sim


def test_rounds_close_without_a_slow_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the replicas is three times slower: twice as fast as with all of them."""
    waiting = with_a_slow_one(tmp_path)
    left_out: list[tuple[int, int]] = []
    leave_out = Consensus.leave_out

    def noted(consensus: Consensus, begin: int, end: int) -> None:
        left_out.append((begin, end))
        leave_out(consensus, begin, end)

    monkeypatch.setattr(Consensus, "leave_out", noted)
    partial = with_a_slow_one(tmp_path, admm__quorum=0.75)
    seconds = [sim.evaluations()[-1]["seconds"] for sim in (waiting, partial)]
    assert seconds[0] > 2 * seconds[1]
    assert all(row["late"] == 0 for row in waiting.epochs())
    slow = partial.workers()[3]
    late = sum(server.counters["late"] for server in partial.servers())
    assert sum(row["late"] for row in partial.epochs()) == late > 0
    assert len(left_out) == late, "multipliers of what is dropped stay as they are"
    assert slow.counters["steps"] > 50
    accuracy = [sim.evaluations()[-1]["accuracy"] for sim in (waiting, partial)]
    assert min(accuracy) > 0.95


class Beginnings(Simulation):
    """Notes for each actor that begins to compute whether its w is z, and its u zero."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self.begun: dict[int, bool] = {}
        super().__init__(*arguments, **settings)

    def _worker_does(self, actor: Any, action: Any) -> None:
        if isinstance(action, Compute) and actor.node.courier.incarnation not in self.begun:
            one, z = actor.node.consensus, actor.node.replica.vector
            same = np.array_equal(one.w, z) and np.array_equal(one.z, z) and not one.u.any()
            self.begun[actor.node.courier.incarnation] = same
        super()._worker_does(actor, action)


@pytest.mark.parametrize("quorum", [0.6, 1.0])
def test_one_that_takes_the_place_of_a_dead_one_begins_at_z(tmp_path: Path, quorum: float) -> None:
    job = make_job(blobs(tmp_path, 480), **{**REPLICAS, "admm__quorum": quorum, "job__epochs": 8})
    sim = Beginnings(job)
    sim.run_until(lambda: len(sim.epochs()) == 1)
    sim.run_until(lambda: sim.workers()[1].state_word() == "training")
    sim.kill("worker-1")
    sim.run_until(lambda: "worker-1" in sim.controller.roster.missing())
    fresh = sim.add(Role.WORKER, 1, life=1)
    sim.run()
    sim.check()
    assert sim.begun == {300: True, 301: True, 302: True, 1301: True}
    assert [row["samples"] for row in sim.epochs()] == [480] * 8
    assert fresh.node.report()["steps"] > 20
    assert sim.workers()[1].counters["refused_pushes"] == 0
    assert sim.evaluations()[-1]["accuracy"] > 0.95


@pytest.mark.parametrize("workers", [1, 3])
def test_a_job_goes_on_from_a_checkpoint(tmp_path: Path, workers: int) -> None:
    """z is in there; each worker begins at it, and multipliers are found again."""
    job = make_job(blobs(tmp_path), **{**REPLICAS, "worker__count": workers, "job__epochs": 8})
    before = killed(job, tmp_path / "run", 3)
    after = resumed(job, before, paramserver__count=1)
    assert [row["epoch"] for row in after.epochs()] == [3, 4, 5, 6, 7]
    assert [row["samples"] for row in after.epochs()] == [200] * 5
    assert after.evaluations()[-1]["accuracy"] > 0.95
    if workers == 1:  # it has no multiplier that could be lost
        whole = Simulation(job)
        whole.run()
        np.testing.assert_allclose(model_of(after), model_of(whole), atol=1e-6)


def test_statistics_of_a_batch_normalised_net_are_averaged(tmp_path: Path) -> None:
    more = {"model__ref": f"{MODELS}:normalised", "model__args": {}, "job__epochs": 12}
    job = make_job(blobs(tmp_path, 400), **{**REPLICAS, **more})
    sim = Simulation(job)
    sim.run()
    sim.check()
    assert sim.evaluations()[-1]["accuracy"] == 1.0
    loop = Loop(job)
    assert sim.model is not None
    views = loop.layout.views(sim.model)
    inputs, _ = loop.data.read(np.arange(loop.samples))
    hidden = inputs @ views["dense1.weight"] + views["dense1.bias"]
    spread = hidden.std(axis=0)
    np.testing.assert_allclose(views["batchnorm1.mean"], hidden.mean(axis=0), atol=spread.max() / 3)
    np.testing.assert_allclose(views["batchnorm1.variance"], spread**2, rtol=0.5)
    for worker in sim.workers():
        assert worker.consensus is not None
        w, u, z = (loop.layout.views(getattr(worker.consensus, name)) for name in "wuz")
        np.testing.assert_array_equal(w["batchnorm1.mean"], z["batchnorm1.mean"])
        assert not u["batchnorm1.variance"].any()
        assert u["dense1.weight"].any()


@pytest.mark.parametrize("shared", [False, True], ids=["by itself", "with copies"])
def test_threads_of_a_worker_step_on_one_w(tmp_path: Path, shared: bool) -> None:
    more = {"worker__threads": 2, "worker__merge_every": 2 if shared else 1, "job__epochs": 8}
    sim = Simulation(make_job(blobs(tmp_path), **{**REPLICAS, **more}))
    sim.run()
    sim.check()
    assert [row["samples"] for row in sim.epochs()] == [200] * 8
    assert sim.evaluations()[-1]["accuracy"] > 0.95


def test_one_whose_parameters_overflow_begins_anew(tmp_path: Path) -> None:
    job = make_job(blobs(tmp_path), **{**REPLICAS, "job__epochs": 8})
    sim = Simulation(job)
    sim.run_until(lambda: len(sim.epochs()) == 1)
    one = sim.workers()[1].consensus
    assert one is not None
    one.w[5] = np.nan
    sim.run()
    sim.check()
    assert sim.workers()[1].counters["refused_pushes"] > 0
    assert np.isfinite(one.w).all()
    assert np.isfinite(sim.model).all()
    assert sum(sim.workers()[k].counters["refused_pushes"] for k in (0, 2)) == 0
    assert sim.workers()[1].counters["refused_pushes"] == sim.shards()
    assert sim.evaluations()[-1]["accuracy"] > 0.95


@pytest.mark.parametrize("name", ["f16", "int8"])
def test_compressed_answers_agree_all_the_same(tmp_path: Path, name: str) -> None:
    more = {"train__compression": name, "train__pull_encoding": "f16", "job__epochs": 8}
    job: Job = make_job(blobs(tmp_path), **{**REPLICAS, **more})
    sim = Simulation(job)
    sim.run()
    sim.check()
    assert sim.evaluations()[-1]["accuracy"] > 0.95
    assert max(row["primal"] for row in sim.epochs()[-2:]) < 0.05


def test_rho_is_the_same_for_one_that_comes_late(tmp_path: Path) -> None:
    more = {"admm__rho": 1e-3, "admm__cap": 0.5, "job__epochs": 8}
    job = make_job(blobs(tmp_path, 480), **{**REPLICAS, **more})
    sim = Simulation(job)
    sim.run_until(lambda: len(sim.epochs()) == 1)
    sim.kill("worker-1")
    sim.run_until(lambda: "worker-1" in sim.controller.roster.missing())
    sim.add(Role.WORKER, 1, life=1)
    sim.run()
    sim.check()
    assert 1e-3 < sim.epochs()[0]["rho"] < 0.5
    assert sim.epochs()[-1]["rho"] == pytest.approx(0.5)
    found = [worker.consensus.rho for worker in sim.workers() if worker.consensus is not None]
    assert found == [0.5] * 3
