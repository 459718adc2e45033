"""How epochs end: uneven data, and the quorum of Project Adam."""

from pathlib import Path

import numpy as np
import pytest
from simulation import Simulation, make_job, one_hot, write_npz


@pytest.mark.parametrize("dataservers", [1, 3])
def test_uneven_data_ends_and_counts_each_sample_once(tmp_path: Path, dataservers: int) -> None:
    samples = 10_007
    numbers = np.arange(samples) % 1000
    inputs = np.stack([np.ones(samples), numbers], axis=1).astype(np.float32)
    data = write_npz(tmp_path / "uneven.npz", inputs, np.zeros(samples, np.int64))
    job = make_job(
        data, worker__count=3, dataserver__count=dataservers, data__batch_size=128, job__epochs=2
    )
    sim = Simulation(job)
    sim.run()
    sim.check()
    expected = 2 * np.array([samples, numbers.sum()], np.float32)
    np.testing.assert_array_equal(sim.model, expected)
    assert [row["samples"] for row in sim.epochs()] == [samples, samples]
    assert sum(worker.counters["samples"] for worker in sim.workers()) == 2 * samples
    assert sum(worker.counters["steps"] for worker in sim.workers()) == 2 * -(-samples // 128)


def slow_third(rank: int) -> float:
    """Worker 3 takes a second for a minibatch, the others ten milliseconds."""
    return 1.0 if rank == 3 else 0.01


def test_a_quorum_drops_what_a_straggler_holds(tmp_path: Path) -> None:
    job = make_job(one_hot(tmp_path, 300), worker__count=4, job__epochs=3, job__epoch_quorum=0.75)
    sim = Simulation(job, compute=slow_third)
    sim.run()
    sim.check(leases=False)
    rows = sim.epochs()
    assert len(rows) == 3
    for row in rows:
        assert row["portions"] == 19
        assert 1 <= row["dropped"] <= 2, "the straggler holds one portion or two"
        assert 300 - 16 * row["dropped"] <= row["samples"] <= 300 - 12
        event = (
            f"epoch {row['epoch']} ended with {row['dropped']} of 19 portions dropped "
            "(epoch_quorum 0.75)"
        )
        assert event in sim.events()
        assert row["repeated"] == 0
    assert sim.model is not None
    assert sim.model.max() <= 3.0, "nothing was applied twice"
    assert sim.model.sum() >= sum(row["samples"] for row in rows)
    assert sim.clock.now() < 2.0, "nobody waited for the straggler"


def test_a_whole_quorum_waits_for_the_straggler(tmp_path: Path) -> None:
    job = make_job(one_hot(tmp_path, 300), worker__count=4, job__epochs=2, job__epoch_quorum=1.0)
    sim = Simulation(job, compute=slow_third)
    sim.run()
    sim.check()
    assert [row["dropped"] for row in sim.epochs()] == [0, 0]
    assert [row["samples"] for row in sim.epochs()] == [300, 300]
    np.testing.assert_array_equal(sim.model, np.full(300, 2.0, np.float32))
    assert sim.clock.now() > 2.0


def test_fewer_portions_than_workers(tmp_path: Path) -> None:
    job = make_job(one_hot(tmp_path, 20), worker__count=4, dataserver__count=3, job__epochs=3)
    sim = Simulation(job)
    sim.run()
    sim.check()
    np.testing.assert_array_equal(sim.model, np.full(20, 3.0, np.float32))
    assert {row["portions"] for row in sim.epochs()} == {2}


def test_evaluations_come_as_often_as_asked_beside_training(tmp_path: Path) -> None:
    job = make_job(one_hot(tmp_path, 300), job__epochs=2, job__evaluate_every=0.5)
    sim = Simulation(job)
    sim.run()
    sim.check()
    epochs = [row["epochs"] for row in sim.evaluations()]
    assert len(epochs) == 4
    for row, wanted in zip(epochs, (0.5, 1.0, 1.5, 2.0), strict=True):
        assert wanted <= row < wanted + 0.2
    assert epochs[-1] == 2.0
