"""The whole life of a job, goodbyes included, on a bad network under the default lease: nobody is
taken for dead because a heartbeat, a welcome or an answer was lost."""

from pathlib import Path

import numpy as np
import pytest
from simulation import Simulation, make_job, one_hot

from dualshard.common.memory import FaultPlan


@pytest.mark.parametrize("seed", range(6))
def test_a_fifth_of_all_messages_lost_kills_nobody(tmp_path: Path, seed: int) -> None:
    job = make_job(
        one_hot(tmp_path, 300), job__start_timeout="1h", worker__count=3, dataserver__count=2
    )
    bad = FaultPlan(drop=0.2, duplicate=0.2, reorder=0.2, jitter=0.01)
    sim = Simulation(job, seed=seed, plan=bad)
    sim.run()
    sim.check()
    assert sim.clock.now() > 20, "long enough for many heartbeats to be lost"
    assert not any(event.startswith("lost") for event in sim.events())
    np.testing.assert_array_equal(sim.model, np.full(300, 2.0, np.float32))
    assert sim.pushes() == 2 * 19 * sim.shards()


def test_the_end_reaches_everyone_whose_next_heartbeat_is_far(tmp_path: Path) -> None:
    """The last view is a notice, and the controller goes before the next heartbeat would ask."""
    job = make_job(one_hot(tmp_path, 100), job__epochs=1, job__lease="10m", job__start_timeout="1h")
    for seed in range(8):
        sim = Simulation(job, seed=seed)
        sim.run_until(lambda sim=sim: sim.controller.cluster.phase == "finishing")  # type: ignore[misc]
        sim.network.plan = FaultPlan(drop=0.3)
        sim.run()
        sim.check()
