"""Averaged state (running statistics) on a whole cluster, in every mode, against plain loops."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain_loop import Loop
from simulation import MODELS, Simulation, blobs, make_job, write_npz
from test_checkpoints import killed, resumed
from test_lossy_modes import EPOCHS, SAMPLES, WORKERS, check_counts, check_faults, job_of, train

from dualshard.common.job import Job
from dualshard.common.types import Float32
from dualshard.paramserver.consensus import weighted_mean

FEATURES = 12
RUNNING: dict[str, Any] = {
    "model__ref": f"{MODELS}:Running",
    "model__args": {"momentum": 0.2},
    "optimizer__rule": "rmsprop",
    "optimizer__lr": 0.01,
    "optimizer__schedule": "linear",
    "optimizer__rates": ["*:0.5"],
    "optimizer__clip": 1e-3,
    "optimizer__weight_decay": 0.1,
    "train__staleness_scaling": 0.5,
    "dataserver__portion": 2,
}
"""All that must not touch averaged state."""
MODES: dict[str, dict[str, Any]] = {
    "async": {},
    "async, threads": {"worker__threads": 3},
    "async, unscaled": {"train__staleness_scaling": 0.0, "worker__count": 4},
    "async, many own steps": {"train__n_push": 16},
    "async, own steps of many": {
        "train__n_push": 16,
        "worker__count": 6,
        "worker__threads": 2,
        "job__epochs": 20,
    },
    "async, pulls between": {
        "train__n_push": 30,
        "train__n_fetch": 1,
        "worker__count": 2,
        "job__epochs": 20,
    },
    "async, pushes between": {"train__n_push": 1, "train__n_fetch": 5, "job__epochs": 24},
    "async, compensated": {"optimizer__delay_compensation": 1.0},
    "ssp": {"train__mode": "ssp"},
    "ssp, several at once": {
        "train__mode": "ssp",
        "train__n_push": 8,
        "model__args": {"momentum": 0.5},
    },
    "bsp": {"train__mode": "bsp"},
    "bsp, several at once": {"train__mode": "bsp", "train__n_push": 3},
    "bsp, quorum": {"train__mode": "bsp", "train__quorum": 0.6},
    "local": {"train__mode": "local", "train__n_push": 8},
    "local, nesterov": {"train__mode": "local", "train__n_push": 8, "outer__rule": "nesterov"},
    "local, adam": {"train__mode": "local", "outer__rule": "adam", "outer__rates": ["*:0"]},
    "local, nobody waits": {"train__mode": "local", "train__n_push": 8, "train__quorum": 0.0},
    "easgd": {"train__mode": "easgd", "train__n_push": 2, "outer__lr": 0.9},
    "replicas": {"train__mode": "admm", "partition__coupling": "replicas", "train__n_push": 8},
    "replicas, all": {
        "train__mode": "admm",
        "partition__coupling": "replicas",
        "train__n_push": 8,
        "admm__quorum": 1.0,
        "outer__rule": "nesterov",
    },
}


def data(tmp_path: Path, samples: int = 512, noise: float = 0.4) -> Path:
    """Samples around 1, 2, ... 12 in one class."""
    random = np.random.default_rng(5)
    inputs = np.arange(1, FEATURES + 1) + noise * random.normal(size=(samples, FEATURES))
    return write_npz(tmp_path / "data.npz", inputs.astype(np.float32), np.zeros(samples, np.int64))


def trained(job: Job, **options: Any) -> Simulation:
    sim = Simulation(job, **options)
    sim.run()
    sim.check(leases=job.train.quorum == 1.0)
    assert sim.model is not None
    return sim


def mean_of(sim: Simulation) -> Float32:
    assert sim.model is not None
    return sim.model[FEATURES:]


@pytest.mark.parametrize("mode", MODES)
def test_the_average_becomes_the_mean_of_what_the_workers_saw(tmp_path: Path, mode: str) -> None:
    settings = {**RUNNING, "worker__count": 3, "job__epochs": 8, **MODES[mode]}
    sim = trained(make_job(data(tmp_path), **settings))
    expected = np.load(tmp_path / "data.npz")["x_train"].mean(axis=0)
    # A batch mean of 16 is off by 0.1, its average by a third of that or less.
    np.testing.assert_allclose(mean_of(sim), expected, atol=0.13)
    assert sim.model is not None
    assert (sim.model[:FEATURES] != 0).all() == (mode not in ("local, adam",))
    # The evaluation is of what the servers hold.
    assert sim.evaluations()[-1]["first"] == mean_of(sim)[0]


@pytest.mark.parametrize("rule", ["sgd", "momentum", "rmsprop", "adam"])
@pytest.mark.parametrize("workers", [1, 3])
def test_synchronous_averages_equal_a_plain_loop_bit_for_bit(
    tmp_path: Path, workers: int, rule: str
) -> None:
    settings = {**RUNNING, "train__mode": "bsp", "worker__count": workers, "optimizer__rule": rule}
    job = make_job(data(tmp_path, 200), **settings)
    sim = trained(job, compute=lambda rank: 0.01 * (1 + rank))
    loop, mean = Loop(job), np.zeros(FEATURES, np.float32)
    for epoch in range(job.job.epochs):
        streams = [loop.minibatches(epoch, rank) for rank in range(workers)]
        while batches := [batch for stream in streams if (batch := next(stream, None))]:
            pushed = [np.float32(0.2) * (mean - inputs.mean(axis=0)) for inputs, _ in batches]
            mean -= weighted_mean(pushed, [1] * len(pushed), np.empty_like(mean))
    assert len(mean) == FEATURES
    assert mean.min() > 0.5
    np.testing.assert_array_equal(mean_of(sim), mean)


def test_one_worker_equals_a_plain_loop_bit_for_bit(tmp_path: Path) -> None:
    job = make_job(data(tmp_path, 200), **RUNNING, worker__count=1)
    loop, mean = Loop(job), np.zeros(FEATURES, np.float32)
    for epoch in range(job.job.epochs):
        for inputs, _ in loop.minibatches(epoch, 0):
            mean -= np.float32(0.2) * (mean - inputs.mean(axis=0))
    np.testing.assert_array_equal(mean_of(trained(job)), mean)


def test_own_steps_of_one_worker_come_to_the_same(tmp_path: Path) -> None:
    exact = trained(make_job(data(tmp_path, 200), **RUNNING, worker__count=1))
    lazy = trained(make_job(data(tmp_path, 200), **RUNNING, worker__count=1, train__n_push=5))
    np.testing.assert_allclose(mean_of(lazy), mean_of(exact), rtol=1e-5)
    assert lazy.pushes() < exact.pushes() / 3


@pytest.mark.parametrize("outer", ["sgd", "nesterov", "adam"])
def test_averaging_is_plain_whatever_the_outer_rule(tmp_path: Path, outer: str) -> None:
    settings = {
        **RUNNING,
        "train__mode": "local",
        "train__n_push": 4,
        "worker__count": 2,
        "dataserver__portion": 4,
        "outer__rule": outer,
        "outer__lr": 0.3,
        "outer__schedule": "linear",
    }
    job = make_job(data(tmp_path, 256), **settings)
    sim = trained(job)
    loop, centre = Loop(job), np.zeros(FEATURES, np.float32)
    for epoch in range(job.job.epochs):
        streams = [loop.minibatches(epoch, rank) for rank in range(2)]
        for _ in range(2):
            ends = []
            for stream in streams:
                mine = centre.copy()
                for _ in range(4):
                    mine -= np.float32(0.2) * (mine - next(stream)[0].mean(axis=0))
                ends.append(mine)
            centre = (ends[0] + ends[1]) / np.float32(2)
    np.testing.assert_allclose(mean_of(sim), centre, rtol=1e-5)


@pytest.mark.parametrize("mode", ["bsp", "local"])
def test_over_a_bad_network_each_push_counts_once(tmp_path: Path, mode: str) -> None:
    """A mean over the workers moves the average by what each pushed: their number times over."""
    settings = {
        "model__ref": f"{MODELS}:Counting",
        "model__args": {"times": WORKERS},
        "optimizer__rule": "adam",
        "optimizer__lr": 0.1,
        "outer__rule": "nesterov",
        "outer__lr": 0.7,
    }
    sim = train(job_of(tmp_path, mode, **settings))
    check_faults(sim)
    check_counts(sim)
    assert sim.model is not None
    np.testing.assert_array_equal(sim.model, np.full(SAMPLES, EPOCHS, np.float32))


def test_over_a_bad_network_a_lone_push_counts_once(tmp_path: Path) -> None:
    settings = {"model__ref": f"{MODELS}:Counting", "model__args": {"times": 1}}
    sim = train(job_of(tmp_path, "async", worker__count=1, optimizer__rule="adam", **settings))
    check_counts(sim)
    assert sim.model is not None
    np.testing.assert_array_equal(sim.model, np.full(SAMPLES, EPOCHS, np.float32))


@pytest.mark.parametrize("feedback", [True, False])
@pytest.mark.parametrize("name", ["f16", "bf16", "int8", "topk"])
def test_compression_neither_starves_nor_bends_it(
    tmp_path: Path, name: str, feedback: bool
) -> None:
    """Beside gradients a thousand times larger, in one shard: as without compression, bit for
    bit."""
    settings = {
        **RUNNING,
        "optimizer__clip": 0.0,
        "model__args": {"loud": 1e4},
        "train__mode": "bsp",
        "train__topk": 0.01,
        "train__error_feedback": feedback,
        "paramserver__shard_bytes": 128,
    }
    plain = trained(make_job(data(tmp_path), **settings))
    packed = trained(make_job(data(tmp_path), **settings, train__compression=name))
    np.testing.assert_array_equal(mean_of(packed), mean_of(plain))
    pushed = [sum(row["bytes_pushed"] for row in sim.epochs()) for sim in (plain, packed)]
    assert name in ("f16", "bf16") or pushed[1] < 0.8 * pushed[0]


def test_a_job_that_goes_on_keeps_its_averages(tmp_path: Path) -> None:
    settings = {**RUNNING, "train__mode": "bsp", "worker__count": 2, "job__epochs": 4}
    job = make_job(data(tmp_path), **settings)
    expected = trained(job)
    before = killed(job, tmp_path / "run", 2)
    after = resumed(job, before, paramserver__count=3)
    np.testing.assert_array_equal(after.model, expected.model)
    assert [p.averaged for p in before.checkpoint().manifest.layout] == [False, True]


def test_an_average_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    """Momentum that overflows: the servers keep what they have."""
    settings = {**RUNNING, "model__args": {"momentum": 1e39}, "optimizer__clip": 0.0}
    with np.errstate(over="ignore", invalid="ignore"):
        sim = trained(make_job(data(tmp_path), **settings, worker__count=1))
    assert not mean_of(sim).any()
    refused = "refused:nonfinite:worker-0"
    assert sum(server.counters[refused] for server in sim.servers()) > 0


def test_one_worker_alone_begins_the_averages(tmp_path: Path) -> None:
    settings = {**RUNNING, "worker__count": 3, "job__warm_start": 30, "paramserver__count": 1}
    sim = Simulation(make_job(data(tmp_path), **settings))
    sim.run_until(lambda: "the warm start is over: all workers train" in sim.events())
    assert sim.servers()[0].store is not None
    mean = sim.servers()[0].store.shards[0].values[FEATURES:]
    np.testing.assert_allclose(mean, np.arange(1, FEATURES + 1), rtol=0.3)
    sim.run()
    sim.check()


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer__rule": "rmsprop", "optimizer__lr": 0.01, "train__staleness_scaling": 0.5},
        {"train__mode": "bsp", "optimizer__rule": "adam", "optimizer__lr": 0.02},
        {"train__mode": "local", "train__n_push": 8, "outer__rule": "nesterov", "outer__lr": 0.7},
        {"train__compression": "int8", "optimizer__clip": 1.0},
    ],
    ids=["async", "bsp", "local", "compressed"],
)
def test_a_batch_normalised_net_is_right_in_evaluation(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    """Its statistics are those of the training data under the final weights, or nearly so."""
    more = {"worker__count": 3, "job__epochs": 12, "optimizer__lr": 0.1, **settings}
    job = make_job(
        blobs(tmp_path, 400),
        model__ref=f"{MODELS}:normalised",
        optimizer__schedule="linear",
        **more,
    )
    sim = trained(job)
    assert sim.evaluations()[-1]["accuracy"] == 1.0
    loop = Loop(job)
    assert sim.model is not None
    views = loop.layout.views(sim.model)
    inputs, _ = loop.data.read(np.arange(loop.samples))
    hidden = inputs @ views["dense1.weight"] + views["dense1.bias"]
    spread = hidden.std(axis=0)
    np.testing.assert_allclose(views["batchnorm1.mean"], hidden.mean(axis=0), atol=spread.max() / 3)
    np.testing.assert_allclose(views["batchnorm1.variance"], spread**2, rtol=0.5)
