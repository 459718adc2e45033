"""A small job from the first join to the last goodbye, on a network without faults."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulation import Simulation, blobs, make_job, one_hot

from dualshard.common.clipping import clip
from dualshard.common.cluster import DataShape, parse_layout
from dualshard.common.job import Job
from dualshard.common.rates import make_segments
from dualshard.common.rules import RULES, make_rule
from dualshard.common.types import Float32
from dualshard.dataserver.sampling import epoch_order
from dualshard.dataserver.source import open_source
from dualshard.worker.building import build_model
from dualshard.worker.layout import Layout

MLP = {
    "model__ref": "mlp",
    "model__args": {"hidden": [8]},
    "worker__count": 1,
    "job__epochs": 3,
    "optimizer__lr": 0.01,
    "train__staleness_scaling": 0.5,
}


def trained_in_one_loop(job: Job) -> Float32:
    """The parameters after plain single-process training: no cluster, no shards, no portions."""
    split = open_source(job.data, job.job.seed)
    samples = len(split.train)
    shape = DataShape(samples, len(split.test), split.classes, split.sample_shape, 1)
    model = build_model(job, shape)
    layout = Layout(model.shapes())
    vector, gradient = np.zeros(layout.size, np.float32), np.zeros(layout.size, np.float32)
    model.start(layout.views(vector), np.random.default_rng((job.job.seed, 0)))
    optimizer = job.optimizer
    rule = make_rule(optimizer)
    state = rule.state(layout.size)
    rows = [[name, model.decayed(name), False, *shape] for name, shape in layout.shapes.items()]
    segments = make_segments(parse_layout(rows), optimizer.rates, optimizer.weight_decay)
    random = np.random.default_rng()
    for epoch in range(job.job.epochs):
        order = epoch_order(job.job.seed, epoch, samples)
        for begin in range(0, samples, job.data.batch_size):
            inputs, labels = split.train.read(order[begin : begin + job.data.batch_size])
            views = layout.views(vector), layout.views(gradient)
            model.gradients(*views, (inputs, labels), random)
            clip(gradient, optimizer)
            rule.apply(vector, gradient, state, 1.0, segments)
    return vector


TREATED = {"rates": ["dense1.*:0.5", "*.bias:2"], "clip": 0.5, "clip_value": 0.1}


@pytest.mark.parametrize("more", [{}, TREATED], ids=["plain", "rates and clips"])
@pytest.mark.parametrize("rule", sorted(RULES))
@pytest.mark.parametrize(
    ("servers", "shard_bytes"), [(1, 1 << 20), (3, 64)], ids=["one shard", "many shards"]
)
def test_one_worker_equals_a_plain_loop_bit_for_bit(
    tmp_path: Path, rule: str, servers: int, shard_bytes: int, more: dict[str, Any]
) -> None:
    settings = {
        **MLP,
        "optimizer__rule": rule,
        "optimizer__weight_decay": 0.01,
        **{f"optimizer__{key}": value for key, value in more.items()},
        "paramserver__count": servers,
        "paramserver__shard_bytes": shard_bytes,
    }
    sim = Simulation(make_job(blobs(tmp_path), **settings))
    sim.run()
    sim.check()
    expected = trained_in_one_loop(sim.job)
    assert sim.model is not None
    assert sim.shards() == -(-expected.nbytes // shard_bytes)
    np.testing.assert_array_equal(sim.model, expected)
    steps = 3 * -(-200 // 16)
    assert sim.pushes() == steps * sim.shards()
    assert [row["staleness"] for row in sim.epochs()] == [0.0] * 3
    assert sim.evaluations()[-1]["accuracy"] > 0.3


def test_each_sample_is_applied_once_an_epoch_and_all_sides_agree(tmp_path: Path) -> None:
    job = make_job(
        one_hot(tmp_path, 300),
        worker__count=3,
        worker__threads=2,
        dataserver__count=2,
        job__epochs=3,
    )
    sim = Simulation(job)
    sim.run()
    sim.check()
    assert sim.model is not None
    np.testing.assert_array_equal(sim.model, np.full(300, 3.0, np.float32))
    rows = sim.epochs()
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert [row["samples"] for row in rows] == [300] * 3
    assert all(row["dropped"] == row["repeated"] == row["reissued"] == 0 for row in rows)
    steps = sum(worker.counters["steps"] for worker in sim.workers())
    assert sum(worker.counters["samples"] for worker in sim.workers()) == 900
    assert sim.pushes() == steps * sim.shards() == sum(row["pushes"] for row in rows)
    assert sim.network.counts.keys() == {"sent", "deliver"}
    last = sim.evaluations()[-1]
    assert (last["epochs"], last["samples"]) == (3.0, 1)
    assert sim.clock.now() < 5.0


def test_pushes_of_several_minibatches_count_each_sample_once(tmp_path: Path) -> None:
    job = make_job(
        one_hot(tmp_path, 300), train__n_push=3, train__n_fetch=5, worker__count=2, job__epochs=2
    )
    sim = Simulation(job)
    sim.run()
    sim.check()
    assert sim.model is not None
    # A push holds the mean of three minibatches: a third is not exact in float32.
    np.testing.assert_allclose(sim.model, 2.0, rtol=1e-6)
    rows = sim.epochs()
    assert [row["samples"] for row in rows] == [300, 300]
    steps = sum(worker.counters["steps"] for worker in sim.workers())
    assert steps == 2 * 19
    assert steps / 3 <= sim.pushes() / sim.shards() < steps
    assert sim.pushes() == sum(row["pushes"] for row in rows)
    pushed, pulled = (sum(row[key] for row in rows) for key in ("bytes_pushed", "bytes_pulled"))
    # A push that comes early, at the end of the data, fetches too.
    assert 0 < pulled <= pushed == sim.pushes() * 240


def test_local_steps_between_fetches_follow_the_rule(tmp_path: Path) -> None:
    """One worker under sgd: stepping locally and pushing the sum later comes to the same."""
    settings = {**MLP, "train__staleness_scaling": 0.0, "optimizer__lr": 0.05}
    exact = Simulation(make_job(blobs(tmp_path), **settings))
    exact.run()
    lazy = Simulation(make_job(blobs(tmp_path), **settings, train__n_push=4, train__n_fetch=4))
    lazy.run()
    lazy.check()
    assert exact.model is not None
    assert lazy.model is not None
    np.testing.assert_allclose(lazy.model, exact.model, atol=1e-6)
    assert exact.pushes() == 3 * 13 * exact.shards()
    assert lazy.pushes() == 3 * 4 * exact.shards()


def test_the_same_seed_gives_the_same_history(tmp_path: Path) -> None:
    job = make_job(blobs(tmp_path), **{**MLP, "worker__count": 2, "worker__threads": 2})
    one, other = Simulation(job), Simulation(job)
    for sim in (one, other):
        sim.run()
        sim.check()
    assert one.network.trace == other.network.trace
    assert one.rows == other.rows
    assert one.model is not None
    np.testing.assert_array_equal(one.model, other.model)
