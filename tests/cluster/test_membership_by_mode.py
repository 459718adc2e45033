"""Workers come late, die while others wait for them, or are let in after a warm start."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulation import Simulation, blobs, make_job, one_hot

from dualshard.common.types import Role

MODES: dict[str, dict[str, Any]] = {
    "async": {"train__mode": "async"},
    "ssp": {"train__mode": "ssp", "train__staleness": 1},
    "bsp": {"train__mode": "bsp"},
    "bsp, a quorum": {"train__mode": "bsp", "train__quorum": 0.6},
    "local": {"train__mode": "local", "train__n_push": 4},
    "easgd": {"train__mode": "easgd", "train__n_push": 4, "outer__lr": 0.9},
    "replicas": {
        "train__mode": "admm",
        "partition__coupling": "replicas",
        "train__n_push": 4,
        "admm__quorum": 1.0,
    },
}
NET = {
    "model__ref": "mlp",
    "model__args": {"hidden": [8]},
    "optimizer__lr": 0.2,
    "worker__count": 3,
    "dataserver__portion": 2,
}
SAMPLES = 480


def start(tmp_path: Path, mode: str, **settings: Any) -> Simulation:
    job = make_job(blobs(tmp_path, SAMPLES), **{**NET, **MODES[mode], **settings})
    return Simulation(job)


def waiting(sim: Simulation) -> set[int]:
    """Incarnations of the workers that some shard keeps waiting."""
    stores = [server.store for server in sim.servers() if server.store is not None]
    return {who[0] for s in stores for held in s.shards.values() for who in held.clock.waiting}


def check_complete(sim: Simulation, epochs: int) -> None:
    assert [row["samples"] for row in sim.epochs()] == [SAMPLES] * epochs
    assert sim.evaluations()[-1]["accuracy"] > 0.9


@pytest.mark.parametrize("mode", MODES)
def test_one_that_dies_in_the_middle_is_waited_for_until_its_lease_ends(
    tmp_path: Path, mode: str
) -> None:
    sim = start(tmp_path, mode, job__epochs=6)
    sim.run_until(lambda: len(sim.epochs()) == 1)
    sim.run_until(lambda: sim.workers()[1].state_word() == "training")
    sim.kill("worker-1")
    killed_at = sim.clock.now()
    held = mode in ("ssp", "bsp", "local", "replicas")
    if held:
        sim.run_until(lambda: sim.clock.now() > killed_at + 3)
        assert waiting(sim) == {300, 302}, "both others wait for the dead one"
        pushes = sim.pushes()
        sim.run_until(lambda: sim.clock.now() > killed_at + 3.5)
        assert sim.pushes() == pushes
    sim.run()
    sim.check()
    assert any(text.startswith("lost worker-1 ") for text in sim.events())
    assert sim.clock.now() < killed_at + 10
    check_complete(sim, 6)


@pytest.mark.parametrize("mode", ["ssp", "bsp", "local"])
def test_two_of_three_may_die_one_after_the_other(tmp_path: Path, mode: str) -> None:
    sim = start(tmp_path, mode, job__epochs=4)
    sim.run_until(lambda: len(sim.epochs()) == 1)
    sim.kill("worker-2")
    sim.at(sim.clock.now() + 2, lambda: sim.kill("worker-0"))
    sim.run()
    sim.check()
    check_complete(sim, 4)


@pytest.mark.parametrize("mode", MODES)
def test_one_that_takes_the_place_of_a_dead_one_takes_part(tmp_path: Path, mode: str) -> None:
    sim = start(tmp_path, mode, job__epochs=8)
    sim.run_until(lambda: len(sim.epochs()) == 1)
    sim.kill("worker-1")
    sim.run_until(lambda: "worker-1" in sim.controller.roster.missing())
    fresh = sim.add(Role.WORKER, 1, life=1)
    sim.run()
    sim.check()
    check_complete(sim, 8)
    assert fresh.node.report()["steps"] > 20
    assert sim.workers()[1].counters["refused_pushes"] == 0


def test_nothing_of_a_late_comer_is_lost_in_a_full_step(tmp_path: Path) -> None:
    """Bulk synchronous with all: whoever joins pulls first, and then steps wait for it."""
    settings = {"train__mode": "bsp", "worker__count": 2, "dataserver__portion": 1}
    sim = Simulation(make_job(one_hot(tmp_path, 640), **settings, job__epochs=4))
    sim.run_until(lambda: len(sim.epochs()) == 1)
    sim.kill("worker-1")
    sim.run_until(lambda: "worker-1" in sim.controller.roster.missing())
    sim.run_until(lambda: sim.pushes() > 0 and not waiting(sim))
    sim.add(Role.WORKER, 1, life=1)
    sim.run()
    sim.check()
    assert sum(server.counters["late"] for server in sim.servers()) == 0
    assert [row["late"] for row in sim.epochs()] == [0] * 4


@pytest.mark.parametrize("mode", MODES)
def test_after_a_warm_start_the_others_come_in_without_waiting(tmp_path: Path, mode: str) -> None:
    sim = start(tmp_path, mode, job__warm_start=8, job__epochs=4)
    sim.run()
    sim.check()
    check_complete(sim, 4)
    assert min(worker.counters["steps"] for worker in sim.workers()) > 10


@pytest.mark.parametrize("mode", MODES)
def test_a_server_that_hears_late_of_the_end_of_the_warm_start_answers_all(
    tmp_path: Path, mode: str
) -> None:
    """It misses the notice, and learns by its next heartbeat: pushes of the others come before."""
    sim = start(tmp_path, mode, job__warm_start=8, job__epochs=4)
    sim.run_until(lambda: sim.workers()[0].counters["steps"] >= 7)
    sim.cut("controller-0", "paramserver-1")
    sim.run_until(lambda: sim.workers()[1].counters["steps"] > 0)
    assert sim.servers()[1].cluster.active == 0, "it has not heard"
    sim.run_until(lambda: sim.servers()[1].counters["wrong_owner"] > 0)
    sim.network.heal()
    sim.run()
    sim.check()
    check_complete(sim, 4)
    assert sim.workers()[1].counters["rerouted"] > 0


def test_ssp_lets_the_first_go_on_when_the_warm_start_ends(tmp_path: Path) -> None:
    """The others begin beside it, not where it began."""
    sim = start(tmp_path, "ssp", job__warm_start=12, job__epochs=2)
    sim.run_until(lambda: sim.workers()[1].counters["steps"] > 0)
    first = sim.workers()[0].counters["steps"]
    sim.run_until(lambda: sim.workers()[1].counters["steps"] >= 4)
    assert sim.workers()[0].counters["steps"] >= first + 2
    sim.run()
    sim.check()
    np.testing.assert_array_equal([row["samples"] for row in sim.epochs()], SAMPLES)
