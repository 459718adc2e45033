"""Workers come and go within an epoch: what one has not trained on is for the others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulation import Simulation, make_job, one_hot

from dualshard.common.memory import FaultPlan
from dualshard.common.node import Failed
from dualshard.common.types import Role
from dualshard.worker import retiring

SAMPLES, WORKERS = 310, 3
MODES: dict[str, dict[str, Any]] = {
    "async": {},
    "async, 3 steps": {"train__n_push": 3, "train__n_fetch": 6},
    "ssp": {"train__mode": "ssp", "train__staleness": 1},
    "bsp": {"train__mode": "bsp", "optimizer__lr": 1.0},
    "local, no quorum": {"train__mode": "local", "train__n_push": 2, "train__quorum": 0.0},
    "easgd": {"train__mode": "easgd", "train__n_push": 2},
}


def job_of(tmp_path: Path, **settings: Any) -> Any:
    data = one_hot(tmp_path, SAMPLES)
    return make_job(data, worker__count=WORKERS, dataserver__count=2, **settings)


def done(sim: Simulation) -> int:
    return len(sim.controller.ledger.done) if sim.controller.ledger is not None else 0


def ask_to_end(sim: Simulation, name: str) -> None:
    """As SIGTERM does."""
    sim.actors[name].loop.post(Failed(143, "stopped by SIGTERM", asked=True))


def check_end(sim: Simulation, *left: str) -> None:
    """All roles have ended, these because they were asked to."""
    for actor in sim.actors.values():
        if not actor.killed:
            assert actor.ended.status == (143 if actor.name in left else 0), actor.ended
    for server in sim.dataservers():
        assert server.report()["leases"] == 0


@pytest.mark.parametrize("mode", MODES)
def test_a_worker_that_is_asked_to_end_hands_back_what_is_left(tmp_path: Path, mode: str) -> None:
    sim = Simulation(job_of(tmp_path, **MODES[mode]))
    sim.run_until(lambda: done(sim) >= 3)
    ask_to_end(sim, "worker-1")
    sim.run()
    check_end(sim, "worker-1")
    first, second = sim.epochs()
    assert (first["samples"], second["samples"]) == (SAMPLES, SAMPLES)
    for row in (first, second):
        assert (row["reissued"], row["repeated"], row["late"]) == (0, 0, 0)
    goodbye = "stopped by SIGTERM; it has handed back what it had not trained on"
    assert f"lost worker-1 on memory (pid 301): {goodbye}" in sim.events()
    assert sim.model is not None
    if "async" in mode or mode == "ssp":
        np.testing.assert_array_equal(sim.model, np.full(SAMPLES, 2.0, np.float32))


@pytest.mark.parametrize("seed", range(4))
def test_over_a_bad_network_too(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retiring, "PATIENCE", 600.0)
    plan = FaultPlan(drop=0.1, duplicate=0.2, reorder=0.2, jitter=0.01)
    patient = {"job__lease": "60s", "job__start_timeout": "1h"}
    sim = Simulation(job_of(tmp_path, **patient), seed=seed, plan=plan)
    sim.run_until(lambda: done(sim) >= 2 + seed)
    ask_to_end(sim, "worker-2")
    sim.run_until(lambda: sim.controller.cluster.phase == "finishing", 5_000)
    sim.network.plan = FaultPlan()
    sim.run()
    check_end(sim, "worker-2")
    assert sim.model is not None
    np.testing.assert_array_equal(sim.model, np.full(SAMPLES, 2.0, np.float32))


def test_one_that_cannot_say_goodbye_is_gone_after_a_while(tmp_path: Path) -> None:
    """Cut off from a parameter server it waits for its push, but not for ever."""
    sim = Simulation(job_of(tmp_path, job__lease="30s"))
    sim.run_until(lambda: done(sim) >= 3)
    sim.cut("worker-1", "paramserver-0")
    ask_to_end(sim, "worker-1")
    began = sim.clock.now()
    sim.run_until(lambda: not sim.actors["worker-1"].running)
    assert 5.0 <= sim.clock.now() - began < 6.0
    sim.run()
    check_end(sim, "worker-1")
    assert sim.model is not None
    assert sim.model.min() >= 2.0


def test_the_second_word_is_the_last(tmp_path: Path) -> None:
    sim = Simulation(job_of(tmp_path))
    sim.run_until(lambda: done(sim) >= 3)
    sim.cut("worker-1", "paramserver-0")
    ask_to_end(sim, "worker-1")
    ask_to_end(sim, "worker-1")
    began = sim.clock.now()
    sim.run_until(lambda: not sim.actors["worker-1"].running)
    assert sim.clock.now() - began < 0.1


def test_all_but_one_may_leave_at_once(tmp_path: Path) -> None:
    for mode in ("async", "bsp"):
        sim = Simulation(job_of(tmp_path, **MODES[mode]))
        sim.run_until(lambda sim=sim: done(sim) >= 3)  # type: ignore[misc]
        ask_to_end(sim, "worker-0")
        ask_to_end(sim, "worker-2")
        sim.run()
        check_end(sim, "worker-0", "worker-2")
        assert [row["samples"] for row in sim.epochs()] == [SAMPLES, SAMPLES]
        assert [row["reissued"] for row in sim.epochs()] == [0, 0]


@pytest.mark.parametrize("mode", ["async", "ssp", "bsp"])
def test_from_one_worker_to_four_to_two_with_a_kill(tmp_path: Path, mode: str) -> None:
    """Within one epoch; nothing is lost, and repeats are at most what the killed one held."""
    settings = {**MODES[mode], "worker__count": 4, "worker__at_least": 1, "job__epochs": 1}
    late = frozenset(f"worker-{rank}" for rank in (1, 2, 3))
    data = one_hot(tmp_path, 1000)
    sim = Simulation(make_job(data, dataserver__count=2, **settings), absent=late)
    sim.run_until(lambda: done(sim) >= 2)
    for rank in (1, 2, 3):
        sim.add(Role.WORKER, rank)
    sim.run_until(lambda: all(worker.counters["steps"] > 0 for worker in sim.workers()))
    assert len(sim.workers()) == 4
    at = done(sim)
    ask_to_end(sim, "worker-0")
    sim.run_until(lambda: done(sim) >= at + 2)
    sim.kill("worker-2")
    sim.run()
    check_end(sim, "worker-0")
    (row,) = sim.epochs()
    assert row["samples"] == 1000
    assert row["repeated"] == 0
    held = row["samples_reissued"]
    assert 0 < held <= 16 * 2 * 2 * sim.controller.ledger.stretch.size  # type: ignore[union-attr]
    assert sim.model is not None
    if mode != "bsp":
        assert sim.model.min() >= 1.0
        assert 0 <= sim.model.sum() - 1000 <= held


@pytest.mark.parametrize("mode", ["async", "ssp", "easgd"])
def test_a_straggler_is_not_waited_for_with_backups(tmp_path: Path, mode: str) -> None:
    """What it holds is done by the others; what it has done of it is done twice, at most."""
    ended = {}
    for backup in (False, True):
        job = job_of(tmp_path, **MODES[mode], job__epochs=1, dataserver__backup=backup)
        sim = Simulation(job, compute=lambda rank: 3.0 if rank == 1 else 0.01)
        sim.run()
        check_end(sim)
        (row,) = sim.epochs()
        ended[backup] = row["seconds"]
        assert (row["reissued"] > 0) is backup
        assert row["dropped"] == 0
        assert row["samples"] >= SAMPLES
        if backup:
            assert any(event.startswith("served again: ") for event in sim.events())
            assert row["samples_reissued"] <= 4 * job.data.batch_size * row["reissued"]
    if mode == "async":
        assert ended[True] < 0.5 * ended[False]
