"""Portions through the workers' memory give what portions through sockets give, faults or not."""

from pathlib import Path

import numpy as np
import pytest
from simulation import Simulation, blobs, make_job, one_hot

from dualshard.common.memory import FaultPlan

BAD = FaultPlan(drop=0.2, duplicate=0.3, reorder=0.3, jitter=0.05)
PATIENT = {"job__lease": "60s", "job__start_timeout": "1h"}


def train(job, *, seed: int = 0, plan: FaultPlan | None = None, shelved: bool = True) -> Simulation:
    sim = Simulation(job, seed=seed, plan=plan, shelved=shelved)
    sim.run_until(lambda: sim.controller.cluster.phase == "finishing", 5_000)
    sim.network.plan = FaultPlan()
    sim.run()
    sim.check()
    return sim


def shelved_portions(sim: Simulation) -> int:
    return sum(server.counters["shelved"] for server in sim.dataservers())


@pytest.mark.parametrize("mode", ["bsp", "local"])
def test_the_same_bits_either_way(tmp_path: Path, mode: str) -> None:
    settings = {"model__ref": "mlp", "model__args": {"hidden": [8]}, "optimizer__lr": 0.01}
    job = make_job(blobs(tmp_path), **settings, worker__count=1, train__mode=mode)
    lane, sockets = train(job), train(job, shelved=False)
    assert shelved_portions(lane) == sum(s.counters["portions"] for s in lane.dataservers())
    assert shelved_portions(sockets) == 0
    assert sockets.model is not None
    np.testing.assert_array_equal(lane.model, sockets.model)


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 5])
def test_a_bad_network_tears_no_sample(tmp_path: Path, seed: int) -> None:
    """Repeated requests have portions written again and again: none may land in a slot that has
    been given to another since. Each input is a unit vector, so that the model counts them."""
    job = make_job(one_hot(tmp_path, 300), **PATIENT, worker__count=3, dataserver__count=2)
    sim = train(job, seed=seed, plan=BAD)
    np.testing.assert_array_equal(sim.model, np.full(300, 2.0, np.float32))
    assert shelved_portions(sim) > 10
    assert sum(server.counters["resent"] for server in sim.dataservers()) > 0


def test_slots_come_back_from_epochs_that_end_early(tmp_path: Path) -> None:
    job = make_job(one_hot(tmp_path, 300), worker__count=4, job__epochs=6, job__epoch_quorum=0.5)
    sim = Simulation(job, compute=lambda rank: 0.05 if rank == 3 else 0.01)
    sim.run()
    sim.check(leases=False)
    assert sum(row["dropped"] for row in sim.epochs()) > 0
    served = sum(server.counters["portions"] for server in sim.dataservers())
    assert shelved_portions(sim) == served, "a slot was lost, and its portion went by a socket"
