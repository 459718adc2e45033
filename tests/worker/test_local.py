"""Local steps: bursts against steps one by one, private copies, and what merging may lose."""

from threading import Barrier, Thread
from typing import Any

import numpy as np
import pytest

from dualshard.common.cluster import DataShape
from dualshard.common.job import Job
from dualshard.common.messages import Portion
from dualshard.common.rules import make_rule
from dualshard.common.types import Float32
from dualshard.worker import merging
from dualshard.worker.batches import Lease, Minibatch
from dualshard.worker.events import Compute
from dualshard.worker.layout import Layout
from dualshard.worker.local import Copies
from dualshard.worker.step import Stepper

DATA = DataShape(100, 20, 3, (2, 3), 5)


def stepper(threads: int = 1, every: int = 0, mode: str = "local", **optimizer: Any) -> Stepper:
    job = {
        "model": {"ref": "mlp", "args": {"hidden": [5]}},
        "train": {"mode": mode},
        "worker": {"threads": threads, "merge_every": every},
        "optimizer": {"lr": 0.1, **optimizer},
    }
    return Stepper(Job.from_dict(job), DATA)


def minibatches(count: int, seed: int = 0) -> list[Minibatch]:
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        inputs = random.integers(0, 256, (4, 2, 3), np.uint8)
        arrays = inputs, random.integers(0, 3, 4)
        made.append(Minibatch(Lease("", Portion(0, 0, False, *arrays), 1), number, *arrays))
    return made


def burst(on: Stepper, batches: list[Minibatch], lane: int = 0, progress: float = 0.0) -> list[Any]:
    return on.compute(Compute(lane, batches, step=True, progress=progress))


RULES = [
    {"rule": "sgd"},
    {"rule": "sgd", "weight_decay": 0.1, "rates": ["*.bias:2", "dense2.*:0"]},
    {"rule": "sgd", "clip": 0.01},
    {"rule": "sgd", "clip_value": 0.001},
    {"rule": "sgd", "schedule": "linear"},
    {"rule": "momentum", "weight_decay": 0.1},
    {"rule": "rmsprop", "lr": 0.01},
]


@pytest.mark.parametrize("mode", ["local", "easgd"])
@pytest.mark.parametrize("optimizer", RULES, ids=str)
def test_a_burst_is_its_steps_one_by_one(optimizer: dict[str, Any], mode: str) -> None:
    # In async no lane steps in one go; with several minibatches between two pushes it steps.
    one, other = stepper(mode=mode, **optimizer), stepper(mode="async", **optimizer)
    measures, expected = burst(one, minibatches(5), progress=0.5), []
    for batch in minibatches(5):
        expected += other.compute(Compute(0, [batch], step=True, progress=0.5))
    np.testing.assert_allclose(one.vector, other.vector, rtol=1e-5, atol=1e-7)
    assert [each["accuracy"] for each in measures] == [each["accuracy"] for each in expected]
    losses = [[each["loss"] for each in side] for side in (measures, expected)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_one_thread_gives_the_same_bits_however_its_bursts_are_cut() -> None:
    one, other = stepper(rule="sgd"), stepper(rule="sgd", every=3)
    batches = minibatches(7)
    burst(one, batches)
    for part in (batches[:2], batches[2:3], batches[3:]):
        burst(other, part)
    np.testing.assert_array_equal(one.vector, other.vector)


@pytest.mark.parametrize("every", [1, 2, 5, 8])
def test_what_lanes_gain_one_after_the_other_adds_up(every: int) -> None:
    one, two = stepper(rule="momentum"), stepper(2, every, rule="momentum")
    expected = one.vector.astype(float)
    for lane in (0, 1):
        alone = stepper(rule="momentum")  # the state of a rule is each lane's own
        alone.vector[:] = expected
        begun = alone.vector.copy()
        burst(alone, minibatches(5, seed=lane))
        expected += alone.vector - begun
        burst(two, minibatches(5, seed=lane), lane)
    np.testing.assert_allclose(two.vector, expected, rtol=1e-5, atol=1e-6)


def test_a_copy_is_fresh_at_each_burst_and_after_each_merge() -> None:
    layout = Layout({"w": (3,)})
    shared = layout.views(np.zeros(3, np.float32))
    copies = Copies(layout, shared, 2, 2)
    seen = []
    for lane in (0, 1):
        shared.flat += 100  # an exchange has brought other values
        for views, part in copies.parts(lane, minibatches(5)):
            seen.append((float(views.flat[0]), len(part)))
            assert views.flat is not shared.flat
            views.flat += len(part)
            shared.flat[:] += 10  # another lane has merged
    assert seen == [(100, 2), (112, 2), (124, 1), (235, 2), (247, 2), (259, 1)]
    np.testing.assert_array_equal(shared.flat, 270)


def test_without_copies_all_lanes_step_on_the_shared_vector() -> None:
    layout = Layout({"w": (3,)})
    shared = layout.views(np.zeros(3, np.float32))
    parts = list(Copies(layout, shared, 2, 1).parts(1, minibatches(5)))
    assert [(views is shared, len(part)) for views, part in parts] == [(True, 5)]


def test_threads_that_merge_at_once_lose_sums_at_most_and_tear_nothing() -> None:
    size, merges, threads = 10_007, 200, 4
    shared = np.zeros(size, np.float32)
    ready = Barrier(threads)

    def work(gain: int) -> None:
        private, base = np.zeros((2, size), np.float32)
        merging.begin(shared, private, base)
        ready.wait()
        for _ in range(merges):
            private += np.float32(gain)
            merging.merge(shared, private, base)
            assert (private == base).all()

    _run([Thread(target=work, args=(4**number,)) for number in range(threads)])
    whole = merges * sum(4**number for number in range(threads))
    assert (shared == np.rint(shared)).all()
    assert (shared >= 1).all()
    assert (shared <= whole).all()


def test_threads_that_merge_in_turn_lose_nothing() -> None:
    shared = np.zeros(1001, np.float32)
    for gain in (1, 2, 3):
        private, base = np.zeros((2, 1001), np.float32)
        merging.begin(shared, private, base)
        private += np.float32(gain)
        merging.end(shared, private, base)
    np.testing.assert_array_equal(shared, 6)


def test_lanes_step_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    both = stepper(2, 2, rule="sgd", lr=0.01)
    begun = both.vector.copy()
    ready, found = Barrier(2), list[Any]()

    def work(lane: int) -> None:
        ready.wait()
        for seed in range(10):
            found.extend(burst(both, minibatches(5, seed), lane))

    _run([Thread(target=work, args=(lane,)) for lane in (0, 1)])
    assert len(found) == 100
    assert np.isfinite(both.vector).all()
    assert _distance(both.vector, begun) > 0.01


def test_the_rule_of_a_lane_begins_fresh_after_the_warm_up() -> None:
    made = stepper(rule="rmsprop", lr=0.01)
    oracle, expected = make_rule(Job.from_dict({"optimizer": {"lr": 0.01}}).optimizer), None
    expected = made.vector.copy()
    plain = stepper(mode="async")
    plain.compute(Compute(0, minibatches(1)))
    oracle.apply(expected, plain.gradients[0], oracle.state(expected.size))
    burst(made, minibatches(1))
    np.testing.assert_allclose(made.vector, expected, rtol=1e-5)


def _distance(one: Float32, other: Float32) -> float:
    return float(np.linalg.norm(one - other))


def _run(threads: list[Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
