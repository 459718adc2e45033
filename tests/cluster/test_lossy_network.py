"""A network that loses, repeats and reorders a fifth of all messages changes nothing but time.

Heartbeats come so often, and patience lasts so long, that no role is given up for dead: that is
another story. Once training is over the network is well again, for the goodbyes.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulation import Simulation, blobs, make_job, one_hot

from dualshard.common.job import Job
from dualshard.common.memory import FaultPlan
from dualshard.worker import feeding

BAD = FaultPlan(drop=0.2, duplicate=0.2, reorder=0.2, jitter=0.01)
PATIENT = {"job__lease": "60s", "job__start_timeout": "1h"}
FAULTS = ("drop", "duplicate", "reorder")


def train(job: Job, *, seed: int = 0, plan: FaultPlan | None = BAD, **options: Any) -> Simulation:
    """Run a job whose network is bad until training is over."""
    sim = Simulation(job, seed=seed, plan=plan, **options)
    sim.run_until(lambda: sim.controller.cluster.phase == "finishing", 5_000)
    sim.network.plan = FaultPlan()
    sim.run()
    sim.check()
    return sim


def check_faults(sim: Simulation) -> None:
    """Each fault was applied, counted, and written down; and delivery had to deal with it."""
    sent = sim.network.counts["sent"]
    for fault in FAULTS:
        assert sim.network.counts[fault] > 0.1 * sent, fault
        written = sum(line.split()[1] == fault for line in sim.network.trace)
        assert written == sim.network.counts[fault]
    counters = [actor.node.courier.counters for actor in sim.actors.values()]
    assert sum(counter.retries for counter in counters) > 0.05 * sent
    assert sum(counter.repeats for counter in counters) > 0.05 * sent


@pytest.mark.parametrize("rule", ["sgd", "rmsprop"])
def test_one_worker_trains_to_the_same_bits(
    tmp_path: Path, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With one credit the portions come in order; with two they may overtake each other.
    monkeypatch.setattr(feeding, "CREDITS", 1)
    job = make_job(
        blobs(tmp_path),
        **PATIENT,
        model__ref="mlp",
        model__args={"hidden": [8]},
        optimizer__rule=rule,
        optimizer__lr=0.01,
        worker__count=1,
        train__staleness_scaling=0.5,
    )
    clean, lossy = train(job, plan=None), train(job, seed=3)
    check_faults(lossy)
    assert clean.model is not None
    np.testing.assert_array_equal(lossy.model, clean.model)
    assert lossy.pushes() == clean.pushes() == 2 * 13 * lossy.shards()
    assert [row["loss"] for row in lossy.epochs()] == [row["loss"] for row in clean.epochs()]


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_several_workers_apply_each_sample_once(tmp_path: Path, seed: int) -> None:
    job = make_job(
        one_hot(tmp_path, 300), **PATIENT, worker__count=3, worker__threads=2, dataserver__count=2
    )
    clean, lossy = train(job, plan=None), train(job, seed=seed)
    check_faults(lossy)
    assert clean.model is not None
    np.testing.assert_array_equal(clean.model, np.full(300, 2.0, np.float32))
    np.testing.assert_array_equal(lossy.model, clean.model)
    assert lossy.pushes() == clean.pushes() == 2 * 19 * lossy.shards()
    assert [row["samples"] for row in lossy.epochs()] == [300, 300]
    assert sum(server.counters["resent"] for server in lossy.dataservers()) > 0
    assert lossy.clock.now() > clean.clock.now()


def test_one_seed_replays_one_history(tmp_path: Path) -> None:
    job = make_job(one_hot(tmp_path, 100), **PATIENT, worker__count=2, dataserver__count=2)
    first, again, other = train(job, seed=5), train(job, seed=5), train(job, seed=6)
    assert first.network.trace == again.network.trace
    assert first.rows == again.rows
    assert first.clock.now() == again.clock.now()
    assert first.network.trace != other.network.trace


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_alone(tmp_path: Path, fault: str) -> None:
    job = make_job(one_hot(tmp_path, 100), **PATIENT, worker__count=2)
    sim = train(job, plan=FaultPlan(**{fault: 0.3}))
    assert sim.network.counts[fault] > 50
    assert all(sim.network.counts[other] == 0 for other in FAULTS if other != fault)
    np.testing.assert_array_equal(sim.model, np.full(100, 2.0, np.float32))


def test_an_epoch_that_ends_early_loses_no_credit(tmp_path: Path) -> None:
    """Portions whose answers were lost when their epoch ended come back to the workers as empty
    ones: nobody waits for ever."""
    job = make_job(
        one_hot(tmp_path, 300), **PATIENT, worker__count=4, job__epochs=6, job__epoch_quorum=0.5
    )
    sim = Simulation(job, seed=1, plan=BAD)
    sim.run_until(lambda: sim.controller.cluster.phase == "finishing", 5_000)
    sim.network.plan = FaultPlan()
    sim.run()
    sim.check(leases=False)
    rows = sim.epochs()
    assert len(rows) == 6
    assert sum(row["dropped"] for row in rows) > 0
    assert sim.model is not None
    assert sim.model.max() <= 6.0
