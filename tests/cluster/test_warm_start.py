"""Warm start: one worker runs alone first."""

from pathlib import Path

import numpy as np
from simulation import Simulation, make_job, one_hot

OVER = "the warm start is over: all workers train"


def test_one_worker_trains_alone_for_as_many_steps(tmp_path: Path) -> None:
    sim = Simulation(make_job(one_hot(tmp_path, 300), worker__count=3, job__warm_start=7))
    sim.run_until(lambda: OVER in sim.events())
    assert "worker-0 warms up alone for 7 steps" in sim.events()
    steps = [worker.counters["steps"] for worker in sim.workers()]
    assert 7 <= steps[0] <= 8, "the news travels while the next step runs"
    assert steps[1:] == [0, 0]
    assert [worker.state_word() for worker in sim.workers()][1:] == [
        "waiting for the warm start"
    ] * 2
    sim.run()
    sim.check()
    assert min(worker.counters["steps"] for worker in sim.workers()) > 5
    np.testing.assert_array_equal(sim.model, np.full(300, 2.0, np.float32))
    assert sim.events().count(OVER) == 1


def test_another_worker_takes_over_if_it_dies(tmp_path: Path) -> None:
    sim = Simulation(make_job(one_hot(tmp_path, 300), worker__count=2, job__warm_start=10))
    sim.run_until(lambda: sim.workers()[0].counters["steps"] == 4)
    sim.kill("worker-0")
    sim.run()
    sim.check()
    assert sim.model is not None
    assert sim.model.min() >= 2.0
    assert [row["samples"] for row in sim.epochs()] == [300, 300]


def test_a_warm_start_longer_than_the_job_is_no_harm(tmp_path: Path) -> None:
    sim = Simulation(make_job(one_hot(tmp_path, 100), job__warm_start=1_000_000))
    sim.run()
    sim.check()
    assert sim.workers()[1].counters["steps"] == 0
    np.testing.assert_array_equal(sim.model, np.full(100, 2.0, np.float32))
