"""Compressed pushes and pulls between hosts: trained all the same, at the promised bytes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulation import Simulation, blobs, make_job

from dualshard.common.codecs import encoded_bytes
from dualshard.common.memory import FaultPlan

NET: dict[str, Any] = {
    "model__ref": "mlp",
    "model__args": {"hidden": [32]},
    "optimizer__lr": 0.2,
    "paramserver__shard_bytes": 1024,
    "train__factors": "off",
    "train__topk": 0.1,
    "job__epochs": 4,
}
STEPS = 4 * 13


def run(tmp_path: Path, plan: FaultPlan | None = None, **settings: Any) -> Simulation:
    sim = Simulation(make_job(blobs(tmp_path), **{**NET, **settings}), seed=4, plan=plan)
    sim.run()
    sim.check()
    assert sim.evaluations()[-1]["accuracy"] > 0.9
    return sim


def total(sim: Simulation, key: str) -> int:
    return int(sum(row[key] for row in sim.epochs()))


def sizes(sim: Simulation) -> list[int]:
    """Elements of each shard."""
    stores = [server.store for server in sim.servers() if server.store is not None]
    return [held.values.size for store in stores for held in store.shards.values()]


@pytest.mark.parametrize("feedback", [True, False])
@pytest.mark.parametrize("name", ["f16", "bf16", "int8", "topk"])
def test_each_codec_trains_at_the_bytes_it_promises(
    tmp_path: Path, name: str, feedback: bool
) -> None:
    sim = run(tmp_path, train__compression=name, train__error_feedback=feedback)
    expected = STEPS * sum(encoded_bytes(name, size, 0.1) for size in sizes(sim))
    assert total(sim, "bytes_pushed") == expected
    plain = STEPS * sum(encoded_bytes("f32", size) for size in sizes(sim))
    assert expected < plain * {"f16": 0.51, "bf16": 0.51, "int8": 0.28, "topk": 0.21}[name]
    assert total(sim, "bytes_pulled") == plain


@pytest.mark.parametrize("mode", ["ssp", "bsp", "local"])
def test_every_mode_may_compress(tmp_path: Path, mode: str) -> None:
    settings = {"train__mode": mode, "train__n_push": 2, "train__compression": "int8"}
    sim = run(tmp_path, **settings)
    pushes = sim.pushes() // sim.shards()
    expected = pushes * sum(encoded_bytes("int8", size) for size in sizes(sim))
    assert total(sim, "bytes_pushed") == expected


def test_what_is_repeated_carries_the_same_code(tmp_path: Path) -> None:
    """A residual moves on with every code: a push that is sent once more must not be coded anew."""
    settings = {
        "worker__count": 1,
        "train__compression": "topk",
        "train__mode": "bsp",  # the order of the data is fixed
        "job__lease": "60s",
        "job__start_timeout": "1h",
    }
    clean = run(tmp_path, **settings)
    bad = FaultPlan(drop=0.1, duplicate=0.2, reorder=0.2, jitter=0.01)
    lossy = run(tmp_path, bad, **settings)
    assert lossy.network.counts["drop"] > 30
    assert sum(worker.courier.counters.retries for worker in lossy.workers()) > 20
    assert clean.model is not None
    np.testing.assert_array_equal(lossy.model, clean.model)


@pytest.mark.parametrize("feedback", [True, False])
def test_feedback_brings_everything_in_the_end(tmp_path: Path, feedback: bool) -> None:
    """What was sent and what is left over make up the sum of all gradients (sgd, rate 1)."""
    settings = {"worker__count": 1, "optimizer__lr": 1e-6, "train__compression": "topk"}
    job = make_job(blobs(tmp_path), **{**NET, **settings})
    ends = {}
    for kind in ("none", "topk"):
        train = {"train__compression": kind, "train__error_feedback": feedback}
        sim = Simulation(make_job(blobs(tmp_path), **{**NET, **settings, **train}))
        sim.run()
        assert sim.model is not None
        ends[kind] = sim.model.astype(float)
    start = np.zeros_like(ends["none"])
    sim = Simulation(job)
    sim.run_until(lambda: "worker-0" in sim.steppers)
    start[:] = sim.steppers["worker-0"].vector
    whole, some = ends["none"] - start, ends["topk"] - start
    missing = np.abs(whole - some).sum() / np.abs(whole).sum()
    assert (missing < 0.15) == feedback


@pytest.mark.parametrize("encoding", ["bf16", "f16"])
def test_pulled_parameters_take_half_the_bytes(tmp_path: Path, encoding: str) -> None:
    sim = run(tmp_path, train__pull_encoding=encoding, worker__count=1)
    plain = STEPS * sum(encoded_bytes("f32", size) for size in sizes(sim))
    assert total(sim, "bytes_pulled") == plain // 2
    assert total(sim, "bytes_pushed") == plain
    (worker,) = sim.workers()
    assert worker.replica is not None
    assert sim.model is not None
    copy = worker.replica.vector
    rounded = sim.model.astype(np.float16).astype(np.float32)
    if encoding == "bf16":
        assert not (copy.view(np.uint32) & 0xFFFF).any(), "the lower half of each is gone"
        np.testing.assert_allclose(copy, sim.model, rtol=2**-8)
        assert (sim.model.view(np.uint32) & 0xFFFF).any(), "and not of the servers' own"
    else:
        np.testing.assert_array_equal(copy, rounded)
