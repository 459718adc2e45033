"""Every mode over a network that loses, repeats, reorders and delays: each push counts once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulation import Simulation, blobs, make_job, one_hot

from dualshard.common.job import Job
from dualshard.common.memory import FaultPlan

BAD = FaultPlan(drop=0.2, duplicate=0.2, reorder=0.2, jitter=0.01)
FAULTS = ("drop", "duplicate", "reorder")
SAMPLES, EPOCHS, WORKERS = 192, 2, 2
MODES: dict[str, dict[str, Any]] = {
    "async": {"train__mode": "async"},
    "ssp": {"train__mode": "ssp", "train__staleness": 1},
    "bsp": {"train__mode": "bsp", "optimizer__lr": float(WORKERS)},
    "local": {"train__mode": "local", "train__n_push": 2, "outer__lr": float(WORKERS)},
    "local, no quorum": {"train__mode": "local", "train__n_push": 2, "train__quorum": 0.0},
    "easgd": {"train__mode": "easgd", "train__n_push": 2},
}
"""Settings under which, but for easgd, `Tally` counts each sample once an epoch: a mean over the
workers moves the parameters by the rate, which is their number then."""


def job_of(tmp_path: Path, mode: str, **settings: Any) -> Job:
    patient = {"job__lease": "60s", "job__start_timeout": "1h", "job__epochs": EPOCHS}
    more = {"worker__count": WORKERS, "dataserver__count": 2, "dataserver__portion": 1}
    return make_job(one_hot(tmp_path, SAMPLES), **{**patient, **more, **MODES[mode], **settings})


def train(job: Job, seed: int = 0, plan: FaultPlan | None = BAD) -> Simulation:
    """Run a job whose network is bad until training is over."""
    sim = Simulation(job, seed=seed, plan=plan)
    sim.run_until(lambda: sim.controller.cluster.phase == "finishing", 5_000)
    sim.network.plan = FaultPlan()
    sim.run()
    sim.check()
    return sim


def check_faults(sim: Simulation) -> None:
    """Each fault was applied, to pushes and to their answers too, and had to be dealt with."""
    for fault in FAULTS:
        assert sim.network.counts[fault] > 0.1 * sim.network.counts["sent"], fault
        for what in (" Push REQUEST", " Shard REPLY"):
            assert any(f" {fault} " in line and what in line for line in sim.network.trace)
    assert sum(server.courier.counters.repeats for server in sim.servers()) > 20
    assert sum(server.counters["repeats"] for server in sim.servers()) > 5
    assert sum(worker.courier.counters.retries for worker in sim.workers()) > 20


def check_counts(sim: Simulation) -> None:
    """Each minibatch is in each shard once, by the servers' count and by the workers'."""
    batches = EPOCHS * SAMPLES // 16
    for server in sim.servers():
        assert server.store is not None
        for held in server.store.shards.values():
            assert held.minibatches == batches
    rows = sim.epochs()
    assert [row["samples"] for row in rows] == [SAMPLES] * EPOCHS
    assert sum(row["pushes"] for row in rows) == sim.pushes()
    assert all(row["late"] == 0 for row in rows)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("mode", MODES)
def test_each_push_is_applied_once(tmp_path: Path, mode: str, seed: int) -> None:
    sim = train(job_of(tmp_path, mode), seed)
    check_faults(sim)
    check_counts(sim)
    assert sim.model is not None
    if mode != "easgd":
        np.testing.assert_array_equal(sim.model, np.full(SAMPLES, EPOCHS, np.float32))
    else:
        assert 0 < sim.model.min() <= sim.model.max() <= EPOCHS


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("mode", ["ssp", "bsp", "local", "easgd"])
def test_each_fault_alone(tmp_path: Path, mode: str, fault: str) -> None:
    # With 0.3 lost one heartbeat in two has no answer: of most seeds no lease runs out.
    sim = train(job_of(tmp_path, mode), seed=1, plan=FaultPlan(**{fault: 0.3}))
    assert sim.network.counts[fault] > 50
    assert all(sim.network.counts[other] == 0 for other in FAULTS if other != fault)
    check_counts(sim)


@pytest.mark.parametrize("mode", ["ssp", "bsp", "local", "easgd"])
def test_slow_answers_are_asked_for_again_and_nothing_is_done_twice(
    tmp_path: Path, mode: str
) -> None:
    """Messages take longer than a request's first pause: everything is sent twice or more."""
    sim = train(job_of(tmp_path, mode), plan=FaultPlan(delay=1.2, jitter=0.5))
    assert sum(worker.courier.counters.retries for worker in sim.workers()) > sim.pushes()
    check_counts(sim)


def test_a_step_with_backup_workers_drops_what_is_late_once(tmp_path: Path) -> None:
    job = job_of(tmp_path, "bsp", train__quorum=0.5, worker__count=4)
    sim = train(job, seed=3)
    check_faults(sim)
    late = sum(server.counters["late"] for server in sim.servers())
    rows = sim.epochs()
    assert late > 0
    # Whoever's answer was lost hears of fresh values alone, and takes its push for one in time.
    assert 0 < sum(row["late"] for row in rows) <= late
    assert sum(row["late"] + row["pushes"] for row in rows) == sim.pushes() + late
    batches = EPOCHS * SAMPLES // 16
    assert sim.pushes() + late == batches * sim.shards()
    minibatches = [held.minibatches for s in sim.servers() for held in s.store.shards.values()]  # type: ignore[union-attr]
    assert sum(minibatches) == sim.pushes()
    assert sim.model is not None
    assert sim.model.max() <= EPOCHS * 4


@pytest.mark.parametrize("mode", MODES)
def test_one_seed_replays_one_history(tmp_path: Path, mode: str) -> None:
    settings = {
        "model__ref": "mlp",
        "model__args": {"hidden": [8]},
        "job__lease": "60s",
        "worker__count": 3,
        "dataserver__count": 2,
        **MODES[mode],
        "optimizer__lr": 0.05,
        "outer__lr": 0.9,
    }
    job = make_job(blobs(tmp_path), **settings)
    first, again, other = train(job, 5), train(job, 5), train(job, 6)
    assert first.network.trace == again.network.trace
    assert first.rows == again.rows
    assert first.clock.now() == again.clock.now()
    assert first.model is not None
    np.testing.assert_array_equal(first.model, again.model)
    assert first.network.trace != other.network.trace
