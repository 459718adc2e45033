"""A worker whose gradients are NaN: refused, counted against it, and never in the parameters."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulation import MODELS, Simulation, blobs, make_job, one_hot

from dualshard.worker.events import Compute


def poison(sim: Simulation, name: str, bad: float) -> None:
    """From now on each gradient of a worker holds `bad`."""
    sim.run_until(lambda: name in sim.steppers)
    stepper = sim.steppers[name]
    honest = stepper.compute

    def poisoned(action: Compute, announce: Any = None) -> Any:
        metrics = honest(action)
        stepper.gradients[action.lane][200] = bad
        return metrics

    stepper.compute = poisoned  # type: ignore[method-assign]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_its_pushes_are_refused_and_it_is_named(tmp_path: Path, bad: float) -> None:
    sim = Simulation(make_job(one_hot(tmp_path, 300), paramserver__shard_bytes=600))
    poison(sim, "worker-1", bad)
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


@pytest.mark.parametrize("mode", ["async", "bsp"])
def test_it_is_put_out_where_the_job_says_so(tmp_path: Path, mode: str) -> None:
    settings = {"train__nonfinite": "drop-worker", "train__nonfinite_limit": 3, "job__epochs": 40}
    job = make_job(one_hot(tmp_path, 300), **settings, train__mode=mode, worker__count=3)
    sim = Simulation(job)
    poison(sim, "worker-1", np.nan)
    sim.run()
    ended = {name: actor.ended for name, actor in sim.actors.items()}
    assert ended.pop("worker-1").reason == "put out by the controller: " + (
        why := "3 pushes in a row held NaN or infinity"
    )
    assert all(exit.status == 0 for exit in ended.values()), ended
    lost = next(text for text in sim.events() if text.startswith("lost worker-1 "))
    assert lost.endswith(f"put out: {why} (train.nonfinite = drop-worker)")
    assert len(sim.epochs()) == 40
    assert sim.model is not None
    assert np.isfinite(sim.model).all()


def test_it_stops_the_job_where_that_is_asked(tmp_path: Path) -> None:
    settings = {"train__nonfinite": "stop", "train__nonfinite_limit": 2, "job__epochs": 40}
    sim = Simulation(make_job(one_hot(tmp_path, 300), **settings))
    poison(sim, "worker-1", np.inf)
    sim.run()
    ended = sim.actors["controller-0"].ended
    assert ended.status == 1
    assert ended.reason == (
        f"worker-1: 2 pushes in a row held NaN or infinity of {MODELS}:Tally "
        "(train.nonfinite = stop)"
    )


def test_good_pushes_between_clear_the_count(tmp_path: Path) -> None:
    """Every other gradient of the worker is bad: it is never put out."""
    settings = {"train__nonfinite": "drop-worker", "train__nonfinite_limit": 2}
    sim = Simulation(make_job(one_hot(tmp_path, 300), **settings, train__in_flight=1))
    sim.run_until(lambda: "worker-1" in sim.steppers)
    stepper, honest, turns = sim.steppers["worker-1"], sim.steppers["worker-1"].compute, [0]

    def sometimes(action: Compute, announce: Any = None) -> Any:
        metrics = honest(action)
        turns[0] += 1
        if turns[0] % 2:
            stepper.gradients[action.lane][:] = np.nan
        return metrics

    stepper.compute = sometimes  # type: ignore[method-assign]
    sim.run()
    sim.check()
    assert sim.workers()[1].counters["refused_pushes"] > 5
    assert not any(text.startswith("lost") for text in sim.events())


def test_the_worker_says_which_gradient_of_which_model_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings: dict[str, Any] = {"model__ref": "mlp", "model__args": {"hidden": [3]}}
    sim = Simulation(make_job(blobs(tmp_path), **settings, worker__count=1, optimizer__lr=0.1))
    sim.run_until(lambda: "worker-0" in sim.steppers)
    stepper = sim.steppers["worker-0"]
    honest, turns = stepper.compute, [0]

    def once(action: Compute, announce: Any = None) -> Any:
        metrics = honest(action)
        turns[0] += 1
        if turns[0] == 3:
            broken = stepper.layout.views(stepper.gradients[action.lane])
            broken["dense1.bias"][1] = broken["dense2.bias"][2] = np.nan
        return metrics

    stepper.compute = once  # type: ignore[method-assign]
    sim.run()
    sim.check()
    said = [text for text in caplog.messages if "push refused" in text]
    assert said == [
        "worker-0: push refused: paramserver-0: the push of shard 0 holds NaN or infinity, "
        "in the gradient of dense1.bias and 1 more (model.ref = mlp)"
    ]
