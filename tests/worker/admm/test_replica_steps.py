"""Steps of a replica in consensus: gradients of the model, the penalty, clipping, the rule."""

from typing import Any

import numpy as np
import pytest

from dualshard.common.cluster import DataShape
from dualshard.common.job import Job
from dualshard.common.messages import Portion
from dualshard.common.rules import make_rule
from dualshard.common.types import Float32
from dualshard.worker.batches import Lease, Minibatch
from dualshard.worker.events import Compute
from dualshard.worker.step import Stepper

DATA, RHO = DataShape(100, 20, 3, (2, 3), 5), 0.7


def stepper(mode: str = "admm", threads: int = 1, **optimizer: Any) -> Stepper:
    job = {
        "model": {"ref": "mlp", "args": {"hidden": [5]}},
        "train": {"mode": mode},
        "partition": {"coupling": "replicas"},
        "admm": {"rho": RHO},
        "worker": {"threads": threads, "merge_every": 2},
        "optimizer": {"lr": 0.1, **optimizer},
    }
    return Stepper(Job.from_dict(job), DATA)


def minibatches(count: int, seed: int = 0) -> list[Minibatch]:
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        arrays = random.normal(size=(4, 2, 3)).astype(np.float32), random.integers(0, 3, 4)
        made.append(Minibatch(Lease("", Portion(0, 0, False, *arrays), 1), number, *arrays))
    return made


def away_from_z(one: Stepper, seed: int = 3) -> tuple[Float32, Float32, Float32]:
    """Give it a w and a u as in mid-training; returns copies of w, z and u."""
    consensus = one.built().consensus
    assert consensus is not None
    random = np.random.default_rng(seed)
    consensus.u[:] = random.normal(size=consensus.u.size)
    consensus.w += random.normal(size=consensus.u.size).astype(np.float32)
    return consensus.w.copy(), consensus.z.copy(), consensus.u.copy()


@pytest.mark.parametrize(
    "optimizer",
    [
        {"rule": "sgd"},
        {"rule": "sgd", "clip": 0.3},
        {"rule": "adam", "lr": 0.01},
        {"rule": "momentum", "rates": ["*.bias:2"], "weight_decay": 0.1},
    ],
    ids=str,
)
def test_each_step_has_the_gradient_of_the_penalty(optimizer: dict[str, Any]) -> None:
    """Also under plain SGD, which has a shortcut elsewhere."""
    one, plain = stepper(**optimizer), stepper("async", **optimizer)
    w, z, u = away_from_z(one)
    one.compute(Compute(0, minibatches(5), step=True))
    section = plain._job.optimizer
    rule, segments = make_rule(section), plain._segments
    state = rule.state(w.size)
    unclipped = stepper("async", **{**optimizer, "clip": 0.0})
    for batch in minibatches(5):
        unclipped.vector[:] = w
        unclipped.compute(Compute(0, [batch]))
        gradient = unclipped.gradients[0] + np.float32(RHO) * (w - z + u)
        norm = float(np.sqrt((gradient.astype(float) ** 2).sum()))
        if section.clip and norm > section.clip:
            gradient *= np.float32(section.clip / norm)
        rule.apply(w, gradient, state, 1.0, segments)
    consensus = one.built().consensus
    assert consensus is not None
    np.testing.assert_allclose(consensus.w, w, rtol=1e-4, atol=2e-6)
    np.testing.assert_array_equal(consensus.z, z)
    np.testing.assert_array_equal(consensus.u, u)
    np.testing.assert_array_equal(one.vector, z)


def test_lanes_bring_their_steps_to_one_w() -> None:
    """Each on a copy of its own, whose penalty is taken where the copy is."""
    two = stepper(threads=2)
    w, z, u = away_from_z(two)
    for lane in (0, 1):
        alone = stepper()
        consensus = alone.built().consensus
        assert consensus is not None
        consensus.w[:], consensus.z[:], consensus.u[:] = w, z, u
        alone.compute(Compute(0, minibatches(5, seed=lane), step=True))
        two.compute(Compute(lane, minibatches(5, seed=lane), step=True))
        w = consensus.w.copy()
    shared = two.built().consensus
    assert shared is not None
    np.testing.assert_allclose(shared.w, w, rtol=1e-5, atol=1e-6)


def test_other_modes_have_no_consensus() -> None:
    assert stepper("local").built().consensus is None
