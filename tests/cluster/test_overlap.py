"""Parts of a gradient that are ready early leave while the rest is computed, and change nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulation import Simulation, blobs, make_job

from dualshard.common.memory import FaultPlan
from dualshard.common.messages import Push
from dualshard.worker.state import Worker

NET = {
    "model__ref": "mlp",
    "model__args": {"hidden": [24, 20]},
    "worker__count": 1,
    "paramserver__shard_bytes": 400,
    "optimizer__lr": 0.05,
    "train__factors": "off",
}


def run(
    tmp_path: Path,
    *,
    early: bool,
    plan: FaultPlan | None = None,
    pace: dict[str, float] | None = None,
    **settings: Any,
) -> Any:
    job = make_job(blobs(tmp_path), **{**NET, **settings})
    sim = Simulation(job, early=early, plan=plan, pace=pace)
    sim.run()
    sim.check()
    assert sim.model is not None
    return sim


@pytest.fixture
def story(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What workers do, in order: shards pushed, and `None` where a step is computed."""
    told: list[Any] = []
    ask, computed = Worker.ask_owner, Worker._computed

    def asks(self: Worker, message: Any, tag: Any) -> None:
        if isinstance(message, Push):
            told.extend(message.shards)
        ask(self, message, tag)

    def computes(self: Worker, event: Any) -> None:
        told.append(None)
        computed(self, event)

    monkeypatch.setattr(Worker, "ask_owner", asks)
    monkeypatch.setattr(Worker, "_computed", computes)
    return told


def steps(story: list[Any], shards: int) -> list[list[Any]]:
    """The story, a step a row."""
    size = shards + 1
    assert len(story) % size == 0
    return [story[begin : begin + size] for begin in range(0, len(story), size)]


@pytest.mark.parametrize("mode", ["async", "ssp", "bsp"])
def test_later_layers_leave_before_the_step_is_done(
    tmp_path: Path, story: list[Any], mode: str
) -> None:
    sim = run(tmp_path, early=True, train__mode=mode)
    rows = steps(story, sim.shards())
    assert len(rows) == 2 * 13
    # 12 · 24 + 24 elements of the first layer, and a shard across its end.
    late = -(-312 // 100)
    expected = list(range(sim.shards()))[::-1]
    for row in rows:
        assert [shard for shard in row if shard is not None] == expected, "the last layer first"
        assert row.index(None) == sim.shards() - late


def test_without_word_from_the_lane_all_leave_after_it(tmp_path: Path, story: list[Any]) -> None:
    sim = run(tmp_path, early=False)
    assert {row.index(None) for row in steps(story, sim.shards())} == {0}


@pytest.mark.parametrize("rule", ["sgd", "rmsprop"])
@pytest.mark.parametrize("mode", ["async", "ssp", "bsp"])
def test_the_bits_are_the_same(tmp_path: Path, mode: str, rule: str) -> None:
    settings = {"train__mode": mode, "optimizer__rule": rule, "paramserver__count": 3}
    at_end = run(tmp_path, early=False, **settings)
    early = run(tmp_path, early=True, **settings)
    np.testing.assert_array_equal(early.model, at_end.model)
    assert early.pushes() == at_end.pushes()
    for row, other in zip(early.epochs(), at_end.epochs(), strict=True):
        assert row["loss"] == other["loss"]
        assert row["bytes_pushed"] == other["bytes_pushed"]
        assert row["staleness"] == other["staleness"] == 0


def test_time_is_saved(tmp_path: Path) -> None:
    """Servers that take a while for each shard begin before the step is done."""
    slow = {f"paramserver-{rank}": 0.0015 for rank in range(2)}
    at_end = run(tmp_path, early=False, pace=slow)
    early = run(tmp_path, early=True, pace=slow)
    assert early.evaluations()[-1]["seconds"] < 0.9 * at_end.evaluations()[-1]["seconds"]
    np.testing.assert_array_equal(early.model, at_end.model)


@pytest.mark.parametrize("mode", ["async", "ssp", "bsp"])
def test_several_workers_and_lanes_lose_nothing(tmp_path: Path, mode: str) -> None:
    settings = {"train__mode": mode, "worker__count": 2, "worker__threads": 2, "job__epochs": 4}
    bad = FaultPlan(drop=0.05, duplicate=0.1, reorder=0.2, jitter=0.004)
    sim = run(tmp_path, early=True, plan=bad, **settings)
    assert [row["samples"] for row in sim.epochs()] == [200] * 4
    assert not any(server.counters["refused:nonfinite:worker-0"] for server in sim.servers())
    assert sim.evaluations()[-1]["accuracy"] > 0.9


@pytest.mark.parametrize("settings", [{"train__n_push": 2}, {"optimizer__clip": 1.0}])
def test_a_gradient_that_is_not_final_is_not_told(
    tmp_path: Path, story: list[Any], settings: dict[str, Any]
) -> None:
    """A sum is final with its last minibatch, a clipped gradient when all of it is known."""
    run(tmp_path, early=True, **settings)
    pushed = [place for place, shard in enumerate(story) if shard is not None]
    first = pushed[0]
    assert story[first - 1] is None
    assert not any(story[place] is None for place in range(first, first + 8))


@pytest.mark.parametrize("mode", ["async", "bsp"])
def test_factors_leave_early_too(tmp_path: Path, story: list[Any], mode: str) -> None:
    settings = {
        "train__mode": mode,
        "train__factors": "auto",
        "data__batch_size": 4,
        "model__args": {"hidden": [64, 64]},
        "paramserver__shard_bytes": 4096,
        "job__epochs": 1,
    }
    early = run(tmp_path, early=True, **settings)
    shards = early.shards()
    assert all(0 < row.index(None) < shards for row in steps(story, shards))
    plain = run(tmp_path, early=False, **{**settings, "train__factors": "off"})
    np.testing.assert_allclose(early.model, plain.model, atol=2e-6)
    assert early.epochs()[0]["bytes_pushed"] < plain.epochs()[0]["bytes_pushed"]
