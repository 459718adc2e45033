"""More parameter servers than shards: some hold nothing, and nobody waits for them."""

from pathlib import Path

import numpy as np
from simulation import Simulation, make_job, one_hot


def test_servers_without_shards_do_not_hang_the_start(tmp_path: Path) -> None:
    job = make_job(one_hot(tmp_path, 100), paramserver__count=5, paramserver__shard_bytes=256)
    sim = Simulation(job)
    sim.run()
    sim.check()
    assert sim.shards() == 2
    assert sorted(server.report()["shards"] for server in sim.servers()) == [0, 0, 0, 1, 1]
    np.testing.assert_array_equal(sim.model, np.full(100, 2.0, np.float32))


def test_a_single_element(tmp_path: Path) -> None:
    job = make_job(one_hot(tmp_path, 100), paramserver__count=3, paramserver__shard_bytes=4)
    sim = Simulation(job)
    sim.run()
    sim.check()
    assert sim.shards() == 100
    np.testing.assert_array_equal(sim.model, np.full(100, 2.0, np.float32))
