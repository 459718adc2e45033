"""Workers that really train a cut net, one of which is killed: the others keep what it has not
answered, and whoever takes its place goes on with it."""

from pathlib import Path
from typing import Any

import pytest
from simulation import Simulation, blobs, make_job

from dualshard.common.job import Job
from dualshard.common.memory import FaultPlan
from dualshard.common.types import Role

BAD_NETWORK = FaultPlan(drop=0.1, duplicate=0.1, reorder=0.2, delay=0.002, jitter=0.01)
SAMPLES, EPOCHS = 200, 6


def cut_job(folder: Path, **settings: Any) -> Job:
    values: dict[str, Any] = {
        "train__mode": "admm",
        "worker__count": 2,
        "model__ref": "mlp",
        "model__args": {"hidden": [16, 12, 8]},
        "optimizer__rule": "adam",
        "optimizer__lr": 0.003,
        "admm__macro_batch": 32,
        "job__epochs": EPOCHS,
        **settings,
    }
    return make_job(blobs(folder, SAMPLES), **values)


def with_a_death(job: Job, rank: int, **options: Any) -> Simulation:
    """A run in whose first epoch a worker is killed."""
    sim = Simulation(job, **options)

    def begun() -> bool:
        ledger = sim.controller.ledger
        return (ledger is not None and ledger.leg > 0) or bool(ledger and ledger.done)

    sim.run_until(begun)
    sim.kill(f"worker-{rank}")
    return sim


def replaced(sim: Simulation, rank: int) -> None:
    """Another one takes its place, and all goes on to the end."""
    missing = f"part {rank} of replica 0 is missing"
    sim.run_until(lambda: any(event.startswith(missing) for event in sim.events()))
    sim.add(Role.WORKER, rank, life=1)
    sim.run()
    sim.check()
    assert f"worker-{rank} holds part {rank} of replica 0 again" in sim.events()


def check_learnt(sim: Simulation) -> None:
    """Each epoch has all samples, and the glued net tells the classes apart."""
    assert [epoch["samples"] for epoch in sim.epochs()] == [SAMPLES] * EPOCHS
    assert max(evaluation["accuracy"] for evaluation in sim.evaluations()) == 1.0


@pytest.mark.parametrize("wait", [True, False])
def test_a_dead_middle_part_is_replaced_on_a_bad_network(tmp_path: Path, wait: bool) -> None:
    """A newcomer hears of its neighbours before it hears of the job, too: nothing is refused."""
    job = cut_job(
        tmp_path,
        partition__parts=3,
        worker__count=3,
        admm__wait=wait,
        job__start_timeout="120s",
    )
    sim = with_a_death(job, 1, plan=BAD_NETWORK)
    replaced(sim, 1)
    check_learnt(sim)
