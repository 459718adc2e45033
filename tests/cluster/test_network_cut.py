"""The network between two roles is cut for a while and heals: training completes, exactly once."""

from pathlib import Path

import numpy as np
import pytest
from simulation import Simulation, make_job, one_hot


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("worker-0", "paramserver-1"),
        ("worker-0", "dataserver-0"),
        ("worker-0", "controller-0"),
        ("dataserver-0", "controller-0"),
        ("paramserver-0", "controller-0"),
    ],
)
def test_a_cut_of_three_seconds_heals(tmp_path: Path, one: str, other: str) -> None:
    sim = Simulation(make_job(one_hot(tmp_path, 300), job__epochs=3))
    sim.run_until(lambda: sim.pushes() >= 20)
    sim.cut(one, other)
    sim.at(sim.clock.now() + 3.0, sim.network.heal)
    sim.run()
    sim.check()
    assert sim.network.counts["cut"] > 0
    np.testing.assert_array_equal(sim.model, np.full(300, 3.0, np.float32))
    assert [row["samples"] for row in sim.epochs()] == [300] * 3
    assert sim.pushes() == 3 * 19 * sim.shards()
    assert not any(event.startswith("lost") for event in sim.events())
