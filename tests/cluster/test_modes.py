"""Every training mode on a whole cluster in memory, against plain loops that do the same maths."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain_loop import Loop
from simulation import Simulation, blobs, make_job, one_hot

from dualshard.common.job import Job
from dualshard.common.memory import FaultPlan
from dualshard.common.types import Float32
from dualshard.paramserver.modes import make_store
from dualshard.paramserver.store import ShardPush
from dualshard.paramserver.updates import Part

MLP = {
    "model__ref": "mlp",
    "model__args": {"hidden": [8]},
    "job__epochs": 3,
    "optimizer__lr": 0.05,
    "paramserver__shard_bytes": 64,
}
BAD_NETWORK = FaultPlan(drop=0.1, duplicate=0.1, reorder=0.2, delay=0.002, jitter=0.01)


def trained_together(job: Job) -> Float32:
    """Bulk synchronous training: each step takes the mean of the workers' gradients."""
    loop = Loop(job)
    store = make_store(job)
    batches = -(-loop.samples // job.data.batch_size)
    store.update.planned = batches * job.job.epochs
    store.start(0, loop.vector, ())
    workers = [(rank, 0) for rank in range(job.worker.count)]
    store.crowd.see(workers, training=False)
    for epoch in range(job.job.epochs):
        store.crowd.turn(epoch)
        streams = {who: loop.minibatches(epoch, who[0]) for who in workers}
        while streams:
            vector = store.shards[0].values.copy()
            version = store.shards[0].version
            for who, stream in list(streams.items()):
                batch = next(stream, None)
                if batch is None:
                    store.crowd.rest(who, epoch)
                    del streams[who]
                else:
                    part = Part(loop.gradient(vector, batch), 1)
                    store.push(who, [ShardPush(0, version, part)])
            store.settle(0)
    return store.shards[0].values


@pytest.mark.parametrize("rule", ["sgd", "momentum", "adagrad", "rmsprop"])
@pytest.mark.parametrize("workers", [1, 3])
def test_synchronous_steps_equal_a_plain_loop_bit_for_bit(
    tmp_path: Path, rule: str, workers: int
) -> None:
    settings = {**MLP, "train__mode": "bsp", "worker__count": workers, "optimizer__rule": rule}
    sim = Simulation(
        make_job(blobs(tmp_path), **settings, dataserver__count=2, optimizer__schedule="linear"),
        compute=lambda rank: 0.01 * (1 + rank),
    )
    sim.run()
    sim.check()
    assert sim.model is not None
    np.testing.assert_array_equal(sim.model, trained_together(sim.job))
    assert [row["samples"] for row in sim.epochs()] == [200] * 3
    assert all(row["late"] == row["staleness"] == 0 for row in sim.epochs())


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("threads", [1, 2])
def test_synchronous_runs_do_not_depend_on_the_network(
    tmp_path: Path, seed: int, threads: int
) -> None:
    settings = {
        **MLP,
        "train__mode": "bsp",
        "worker__count": 3,
        "worker__threads": threads,
        "dataserver__count": 2,
        "optimizer__rule": "momentum",
        "job__epochs": 2,
    }
    job = make_job(blobs(tmp_path), **settings)
    clean = Simulation(job)
    clean.run()
    faulty = Simulation(job, seed=seed, plan=BAD_NETWORK, compute=lambda rank: 0.03 / (1 + rank))
    faulty.run()
    faulty.check()
    assert faulty.network.counts["drop"] > 0
    assert clean.model is not None
    assert faulty.model is not None
    np.testing.assert_array_equal(clean.model, faulty.model)


def test_more_workers_than_portions_rest_from_the_beginning(tmp_path: Path) -> None:
    job = make_job(one_hot(tmp_path, 40), train__mode="bsp", worker__count=5, job__epochs=3)
    sim = Simulation(job)
    sim.run()
    sim.check()
    assert [row["samples"] for row in sim.epochs()] == [40] * 3


@pytest.mark.parametrize("mode", ["bsp", "ssp", "local", "easgd"])
def test_every_mode_survives_a_worker_and_a_data_server(tmp_path: Path, mode: str) -> None:
    settings = {"train__mode": mode, "worker__count": 3, "dataserver__count": 2}
    job = make_job(
        blobs(tmp_path),
        **{**MLP, **settings, "train__n_push": 2, "job__epochs": 6, "optimizer__lr": 0.3},
    )
    sim = Simulation(job)
    sim.at(0.1, lambda: sim.kill("worker-1"))
    sim.at(0.2, lambda: sim.kill("dataserver-1"))
    sim.run()
    sim.check()
    for name in ("worker-1", "dataserver-1"):
        assert any(text.startswith(f"lost {name} ") for text in sim.events())
    assert len(sim.epochs()) == 6
    assert sim.evaluations()[-1]["accuracy"] > 0.9


def staleness_bound(sim: Simulation) -> int:
    """How far the fastest lane is ahead of the slowest by the clocks of any shard."""
    ahead = 0
    for server in sim.servers():
        if server.store is None:
            continue
        for held in server.store.shards.values():
            active = server.store.crowd.active - held.clock.waiting
            clocks = [held.clock.clocks.get(who, 0) for who in server.store.crowd.active]  # type: ignore[attr-defined]
            moving = [held.clock.clocks.get(who, 0) for who in active]  # type: ignore[attr-defined]
            if moving and clocks:
                ahead = max(ahead, max(moving) - min(clocks))
    return ahead


@pytest.mark.parametrize("staleness", [0, 1, 3])
def test_nobody_runs_ahead_of_the_slowest(tmp_path: Path, staleness: int) -> None:
    settings = {**MLP, "train__mode": "ssp", "worker__count": 3, "train__staleness": staleness}
    sim = Simulation(
        make_job(blobs(tmp_path), **settings), compute=lambda rank: (0.1, 0.011, 0.017)[rank]
    )
    seen = [0]

    def look() -> bool:
        seen.append(staleness_bound(sim))
        assert seen[-1] <= staleness
        return not any(actor.running for actor in sim.actors.values())

    sim.run_until(look)
    sim.check()
    assert max(seen) == staleness, "the bound was never reached"
    assert [row["samples"] for row in sim.epochs()] == [200] * 3


def seconds_of(tmp_path: Path, slow: float, **settings: Any) -> tuple[float, Simulation]:
    """How long a run of four workers lasts, one of them `slow` times slower."""
    job = make_job(
        blobs(tmp_path, 1600), **{**MLP, "worker__count": 4, "job__epochs": 2, **settings}
    )
    sim = Simulation(job, compute=lambda rank: 0.01 * (slow if rank == 3 else 1.0))
    sim.run()
    sim.check(leases=False)
    return sim.evaluations()[-1]["seconds"], sim


def test_backup_workers_make_up_for_a_straggler(tmp_path: Path) -> None:
    even, _ = seconds_of(tmp_path, 1.0, train__mode="bsp")
    waiting, _ = seconds_of(tmp_path, 10.0, train__mode="bsp")
    backed, sim = seconds_of(
        tmp_path, 10.0, train__mode="bsp", train__quorum=0.75, job__epoch_quorum=0.75
    )
    assert waiting > 5 * even
    assert backed < 2 * even
    assert sum(server.counters["late"] for server in sim.servers()) > 0


def test_averaging_equals_a_plain_loop(tmp_path: Path) -> None:
    """Mode local with the outer rule sgd at rate 1: the mean of the workers' parameters."""
    settings = {
        **MLP,
        "train__mode": "local",
        "train__n_push": 4,
        "worker__count": 2,
        "optimizer__lr": 0.02,
        "dataserver__portion": 4,
    }
    job = make_job(blobs(tmp_path, 256), **settings)
    sim = Simulation(job)
    sim.run()
    sim.check()
    loop = Loop(job)
    centre = loop.vector
    for epoch in range(job.job.epochs):
        streams = [loop.minibatches(epoch, rank) for rank in range(2)]
        for _ in range(2):
            ends = []
            for stream in streams:
                mine = centre.copy()
                for _ in range(4):
                    mine -= np.float32(0.02) * loop.gradient(mine, next(stream))
                ends.append(mine)
            centre = (ends[0] + ends[1]) / np.float32(2)
    assert sim.model is not None
    np.testing.assert_allclose(sim.model, centre, atol=2e-6)
    assert sim.pushes() == 2 * 2 * 3 * sim.shards()


@pytest.mark.parametrize("outer", ["sgd", "nesterov"])
def test_averaging_where_some_have_more_rounds_than_others(tmp_path: Path, outer: str) -> None:
    """Whoever has no data left rests, and begins the next epoch where the others have got to."""
    settings = {"train__mode": "local", "train__n_push": 2, "worker__count": 3}
    rule = {"outer__rule": outer, "outer__lr": 0.5, "outer__momentum": 0.5}
    job = make_job(
        one_hot(tmp_path, 16 * 13), **settings, **rule, dataserver__portion=1, job__epochs=3
    )
    sim = Simulation(job, compute=lambda rank: 0.01 * (3 - rank))
    sim.run()
    sim.check()
    loop = Loop(job)
    store = make_store(job)
    store.start(0, loop.vector, ())
    workers = [(rank, 0) for rank in range(3)]
    store.crowd.see(workers, training=False)
    for epoch in range(3):
        store.crowd.turn(epoch)
        streams = {who: loop.minibatches(epoch, who[0]) for who in workers}
        while streams:
            version = store.shards[0].version
            for who, stream in list(streams.items()):
                taken = list(islice(stream, 2))
                if not taken:
                    store.crowd.rest(who, epoch)
                    del streams[who]
                    continue
                step = sum(loop.gradient(loop.vector, batch) for batch in taken)
                store.push(who, [ShardPush(0, version, Part(step, len(taken)))])
            store.settle(0)
    assert sim.model is not None
    np.testing.assert_allclose(sim.model, store.shards[0].values, rtol=1e-5)


@pytest.mark.parametrize("quorum", [0.0, 0.5])
def test_slower_workers_make_fewer_steps_of_their_own(tmp_path: Path, quorum: float) -> None:
    settings = {
        "train__mode": "local",
        "train__n_push": 8,
        "train__quorum": quorum,
        "data__batch_size": 4,
    }
    _, sim = seconds_of(tmp_path, 4.0, **settings)
    steps = [worker.exchanges[0].steps for worker in sim.workers()]
    assert steps[:3] == [8, 8, 8]
    assert steps[3] == 2
    assert sim.evaluations()[-1]["accuracy"] > 0.9


def test_elastic_averaging_keeps_workers_near_the_centre(tmp_path: Path) -> None:
    settings = {"train__mode": "easgd", "train__n_push": 4, "worker__count": 3, "outer__lr": 0.9}
    job = make_job(blobs(tmp_path), **{**MLP, **settings, "job__epochs": 6, "optimizer__lr": 0.2})
    sim = Simulation(job)
    sim.run()
    sim.check()
    assert sim.model is not None
    assert sim.evaluations()[-1]["accuracy"] > 0.9
    for worker in sim.workers():
        assert worker.replica is not None
        apart = np.abs(worker.replica.vector - sim.model).max()
        assert 0 < apart < 0.5


def test_the_histogram_counts_every_push(tmp_path: Path) -> None:
    settings = {**MLP, "worker__count": 4, "worker__threads": 2}
    sim = Simulation(make_job(blobs(tmp_path), **settings))
    sim.run()
    for row in sim.epochs():
        assert sum(row["staleness_histogram"].values()) == row["pushes"] > 0
    assert any("5-8" in row["staleness_histogram"] for row in sim.epochs())


@pytest.mark.parametrize("mode", ["bsp", "local"])
def test_data_of_an_epoch_may_come_before_the_view_that_begins_it(
    tmp_path: Path, mode: str
) -> None:
    """One worker is cut off from the controller while an epoch ends, and the next one begins."""
    settings = {"train__mode": mode, "train__n_push": 1, "worker__count": 2, "worker__threads": 2}
    more = {"dataserver__portion": 1, "dataserver__count": 2}
    job = make_job(blobs(tmp_path), **{**MLP, **settings, **more})
    clean, late = Simulation(job), Simulation(job)
    clean.run()
    late.run_until(
        lambda: late.controller.ledger is not None and len(late.controller.ledger.done) > 8
    )
    late.cut("controller-0", "worker-0")
    late.run_until(lambda: late.controller.cluster.leg == 1)
    moment, steps = late.clock.now() + 0.4, late.workers()[0].counters["steps"]
    late.run_until(lambda: late.clock.now() > moment)
    assert late.workers()[0].cluster.leg == 0
    assert late.workers()[0].counters["steps"] > steps + 2, "it trains on"
    late.network.heal()
    late.run()
    late.check()
    assert clean.model is not None
    np.testing.assert_array_equal(late.model, clean.model)
