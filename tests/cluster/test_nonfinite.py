"""A worker whose gradients are NaN: refused, counted against it, and never in the parameters."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulation import Simulation, make_job, one_hot

from dualshard.worker.events import Compute


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_its_pushes_are_refused_and_it_is_named(tmp_path: Path, bad: float) -> None:
    sim = Simulation(make_job(one_hot(tmp_path, 300), paramserver__shard_bytes=600))
    sim.run_until(lambda: "worker-1" in sim.steppers)
    stepper = sim.steppers["worker-1"]
    honest = stepper.compute

    def poisoned(action: Compute) -> Any:
        metrics = honest(action)
        stepper.gradients[action.lane][200] = bad
        return metrics

    stepper.compute = poisoned  # type: ignore[method-assign]
    sim.run()
    sim.check()
    assert sim.model is not None
    assert np.isfinite(sim.model).all()
    assert sim.shards() == 2
    # The first of the two shards was always sound.
    np.testing.assert_array_equal(sim.model[:150], np.full(150, 2.0, np.float32))
    assert sim.model[150:].max() <= 2.0
    steps = sim.workers()[1].counters["steps"]
    assert sim.workers()[1].counters["refused_pushes"] == steps > 5
    refused: dict[str, float] = {}
    for server in sim.servers():
        refused |= {k: v for k, v in server.report().items() if k.startswith("refused:")}
    assert refused == {"refused:nonfinite:worker-1": steps}
    assert [row["samples"] for row in sim.epochs()] == [300, 300]
    applied = sum(worker.counters["steps"] for worker in sim.workers()) * 2 - steps
    assert sim.pushes() == sum(row["pushes"] for row in sim.epochs()) == applied
