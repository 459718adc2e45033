"""What workers are given: every sample of an epoch once, the same ones however many serve them."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulation import make_job, write_npz
from watching import Batch, Watching

from dualshard.common.types import Array
from dualshard.worker.feeding import CREDITS

MODES: dict[str, dict[str, Any]] = {
    "async": {"train__mode": "async"},
    "ssp": {"train__mode": "ssp", "train__staleness": 1},
    "bsp": {"train__mode": "bsp"},
    "bsp, a quorum": {"train__mode": "bsp", "train__quorum": 0.6},
    "local": {"train__mode": "local", "train__n_push": 4},
    "local, a quorum": {"train__mode": "local", "train__n_push": 4, "train__quorum": 0.6},
    "easgd": {"train__mode": "easgd", "train__n_push": 4, "outer__lr": 0.9},
}
SAMPLES = 10_007
AHEAD = 4
"""Portions that a data server prepares before they are asked for."""


def numbered(folder: Path, samples: int) -> Path:
    """Inputs (1, number of the sample)."""
    inputs = np.stack([np.ones(samples), np.arange(samples)], axis=1).astype(np.float32)
    return write_npz(folder / f"numbered{samples}.npz", inputs, np.zeros(samples, np.int64))


def numbers(batches: list[Batch]) -> Array:
    """The numbers of the samples that were computed on, in that order."""
    return np.concatenate([batch.inputs[:, 1] for batch in batches]).astype(np.int64)


@pytest.mark.parametrize(("mode", "dataservers"), [("async", 1), *((mode, 3) for mode in MODES)])
def test_each_of_10007_samples_once_an_epoch(tmp_path: Path, mode: str, dataservers: int) -> None:
    job = make_job(
        numbered(tmp_path, SAMPLES),
        **MODES[mode],
        worker__count=3,
        dataserver__count=dataservers,
        dataserver__portion=5,
        data__batch_size=96,
        job__epochs=2,
    )
    sim = Watching(job)
    sim.run()
    sim.check()
    for epoch in (0, 1):
        seen = numbers(sim.epoch(epoch))
        np.testing.assert_array_equal(np.sort(seen), np.arange(SAMPLES))
    assert {batch.worker for batch in sim.batches} == {"worker-0", "worker-1", "worker-2"}
    assert (numbers(sim.epoch(0)) != numbers(sim.epoch(1))).any()
    assert [row["repeated"] + row["reissued"] + row["dropped"] for row in sim.epochs()] == [0, 0]
    if mode in ("async", "ssp"):
        assert [row["samples"] for row in sim.epochs()] == [SAMPLES] * 2


def pictures(folder: Path, samples: int = 200) -> Path:
    """Noise of 6x6 bytes, of three classes, one of them rare."""
    random = np.random.default_rng(3)
    images = random.integers(0, 256, (samples, 6, 6)).astype(np.uint8)
    labels = np.where(np.arange(samples) % 20 == 7, 2, np.arange(samples) % 2)
    return write_npz(folder / "pictures.npz", images, labels)


SAMPLINGS: dict[str, dict[str, Any]] = {
    "once": {},
    "balanced": {"data__sampling": "balanced"},
    "weighted": {"data__sampling": "weighted", "data__weights": ["2:3", "0:0.5"]},
}


def served(tmp_path: Path, dataservers: int, **settings: Any) -> Watching:
    values: dict[str, Any] = {
        "model__ref": "mlp",
        "model__args": {"hidden": [8]},
        "optimizer__lr": 0.01,
        "worker__count": 3,
        "data__augment": ["shift:1", "rotate:10"],
        "dataserver__portion": 3,
        **settings,
    }
    job = make_job(pictures(tmp_path), **values, dataserver__count=dataservers)
    sim = Watching(job)
    sim.run()
    sim.check()
    return sim


def by_worker(sim: Watching) -> dict[str, list[bytes]]:
    """The minibatches of each worker, in the order in which it computed on them."""
    found = defaultdict[str, list[bytes]](list)
    for batch in sim.batches:
        found[batch.worker].append(batch.inputs.tobytes() + batch.labels.tobytes())
    return found


def by_place(sim: Watching) -> dict[tuple[int, int, int], bytes]:
    """The minibatches by epoch, portion and number."""
    found = {(b.epoch, b.portion, b.number): b.inputs.tobytes() + b.labels.tobytes()
             for b in sim.batches}  # fmt: skip
    assert len(found) == len(sim.batches)
    return found


@pytest.mark.parametrize(
    ("mode", "sampling"),
    [("bsp", "once"), ("bsp", "balanced"), ("bsp", "weighted"), ("local", "balanced")],
)
def test_an_order_that_is_fixed_is_the_same_from_any_number_of_servers(
    tmp_path: Path, mode: str, sampling: str
) -> None:
    settings = {**MODES[mode], **SAMPLINGS[sampling]}
    one, two, three = (served(tmp_path, count, **settings) for count in (1, 2, 3))
    assert by_worker(one) == by_worker(two) == by_worker(three)
    assert one.model is not None
    for other in (two, three):
        np.testing.assert_array_equal(other.model, one.model)
    if sampling == "balanced":
        drawn = np.concatenate([batch.labels for batch in one.epoch(0)])
        assert np.ptp(np.bincount(drawn)) <= 1


@pytest.mark.parametrize(
    ("mode", "sampling"), [("async", "weighted"), ("ssp", "once"), ("easgd", "balanced")]
)
def test_portions_are_the_same_from_any_number_of_servers(
    tmp_path: Path, mode: str, sampling: str
) -> None:
    settings = {**MODES[mode], **SAMPLINGS[sampling]}
    one, two, three = (by_place(served(tmp_path, count, **settings)) for count in (1, 2, 3))
    assert one == two == three
    assert len(one) == 2 * -(-200 // 16)


@pytest.mark.parametrize("augment", [["shift:2", "cutout:3"], ["rotate:30", "mixup:0.4"]])
def test_what_is_tested_on_is_never_augmented(tmp_path: Path, augment: list[str]) -> None:
    settings = {"data__sampling": "balanced", "job__evaluate_every": 0.5}
    sim = served(tmp_path, 2, data__augment=augment, **settings)
    stored = np.load(pictures(tmp_path))
    assert len(sim.tests) >= 4
    for inputs, labels in sim.tests:
        np.testing.assert_array_equal(inputs, stored["x_test"])
        np.testing.assert_array_equal(labels, stored["y_test"])
    plain = {image.tobytes() for image in stored["x_train"]}
    trained = [image.tobytes() for batch in sim.batches for image in batch.inputs]
    assert sum(image in plain for image in trained) < 0.1 * len(trained), "these are augmented"


def stalls(rank: int) -> float:
    """Worker 0 never finishes its first minibatch."""
    return 1e9 if rank == 0 else 0.01


def test_a_worker_that_stalls_is_given_no_more_and_the_others_go_on(tmp_path: Path) -> None:
    dataservers = 2
    job = make_job(
        numbered(tmp_path, 2000),
        worker__count=3,
        dataserver__count=dataservers,
        dataserver__portion=2,
        dataserver__threads=2,
        job__epochs=4,
        job__epoch_quorum=0.6,
    )
    sim = Watching(job, compute=stalls)
    sim.run_until(lambda: len(sim.epochs()) == 3)
    size = 2 * 16
    assert 0 < sim.most_ahead <= AHEAD + 1
    assert sim.most_leases <= 3 * CREDITS
    assert 0 < sim.most_bytes <= sim.most_ahead * size * (2 * 4 + 8)
    rows = sim.epochs()
    held = CREDITS * dataservers
    assert all(1 <= row["dropped"] <= held for row in rows)
    assert all(row["samples"] >= 2000 - held * size for row in rows)
    assert sim.clock.now() < 10, "nobody waited for it"
