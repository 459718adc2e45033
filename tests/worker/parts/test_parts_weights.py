"""Coupling `weights`: who learns from what, and that copies come to agree."""

from typing import Any

import numpy as np
import pytest
from part_cases import DATA, SAMPLES, arrays, make, wired

from dualshard.common.types import Array, Float32
from dualshard.worker.boundary.events import Forward, Known, Rows, Train
from dualshard.worker.parts.stepper import PartStepper

KNOWN = Known(np.arange(SAMPLES), arrays()[1])


def named(stepper: PartStepper, flat: Float32) -> dict[str, Array]:
    """A flat array of a part, by the names in the whole net."""
    found, at = {}, 0
    for name, _, _, *shape in stepper.layout_rows():
        size = int(np.prod(shape))
        if stepper.begin <= at < stepper.end:
            found[name] = flat[at - stepper.begin : at - stepper.begin + size].reshape(shape)
        at += size
    return found


def rows_for(stepper: PartStepper, part: int) -> Rows:
    """Some inputs of a part of the dense net."""
    width = 12 if part == 1 else 10
    inputs = arrays()[0] if part == 0 else np.ones((SAMPLES, width), np.float32)
    return Rows(inputs, SAMPLES, (0, 0, 0))


def test_a_lower_part_learns_from_its_head_through_its_copy() -> None:
    """By differences of its own loss: layers, copy, head."""
    below = PartStepper(make("dense", ["relu1"], "weights", admm={"passes": 1}), DATA, 0)
    first = {name: values.copy() for name, values in named(below, below.vector).items()}
    below.perform(Train(0, rows_for(below, 0), KNOWN))
    slopes = named(below, below.gradient)

    def loss(values: dict[str, Array]) -> float:
        x = arrays()[0].reshape(SAMPLES, -1).astype(float)
        x = np.maximum(x @ values["dense1.weight"] + values["dense1.bias"], 0)
        x = np.tanh(x @ values["part0.copy.weight"] + values["part0.copy.bias"])
        x = x @ values["part0.head.weight"] + values["part0.head.bias"]
        x = x - x.max(axis=1, keepdims=True)
        picked = x[np.arange(SAMPLES), KNOWN.labels]
        return float(np.mean(np.log(np.exp(x).sum(axis=1)) - picked))

    random = np.random.default_rng(0)
    for name in first:
        values = {each: array.astype(float) for each, array in first.items()}
        for place in random.integers(first[name].size, size=4):
            ends = []
            for step in (1e-5, -2e-5):
                values[name].reshape(-1)[place] += step
                ends.append(loss(values))
            values[name].reshape(-1)[place] += 1e-5
            expected = (ends[0] - ends[1]) / 2e-5
            assert slopes[name].reshape(-1)[place] == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_the_copy_of_the_other_side_pulls_from_the_first_round_that_knows_it() -> None:
    job = make("dense", ["relu1"], "weights", admm={"passes": 1, "rho": 0.25, "schedule": "fixed"})
    pair = [PartStepper(job, DATA, 0) for _ in range(2)]
    other = np.ones(12 * 10 + 10, np.float32)
    for below, heard in zip(pair, ({}, {0: other}), strict=True):
        below.perform(Train(0, rows_for(below, 0), KNOWN, other=heard))
    alone, pulled = (named(below, below.gradient) for below in pair)
    own = wired(job).steppers[0]
    first = named(own, own.vector)
    for part in ("weight", "bias"):
        name = f"part0.copy.{part}"
        apart = first[name] - 1  # u has begun with Wx - Wy: twice the distance
        np.testing.assert_allclose(pulled[name] - alone[name], 0.5 * apart, rtol=1e-3, atol=1e-5)
    for name in set(alone) - {"part0.copy.weight", "part0.copy.bias"}:
        np.testing.assert_array_equal(pulled[name], alone[name])


def test_without_a_head_lower_layers_stay_as_they_are() -> None:
    admm = {"head": False}
    parts = wired(make("dense", ["relu1", "tanh1"], "weights", admm=admm))
    first = [
        {name: values.copy() for name, values in named(stepper, stepper.vector).items()}
        for stepper in parts.steppers
    ]
    for number in range(4):
        parts.portion(arrays()[0], KNOWN, (0, 0, number), 0.0)
    moved = [
        {
            name
            for name, values in named(stepper, stepper.vector).items()
            if np.any(values != was[name])
        }
        for stepper, was in zip(parts.steppers, first, strict=True)
    ]
    boundary = {"dense2.weight", "dense2.bias", "part1.copy.weight", "part1.copy.bias"}
    assert moved[2] == {f"dense{number}.{part}" for number in (3, 4) for part in ("weight", "bias")}
    assert moved[1] <= boundary  # nothing of its own but what is pulled
    assert "part1.copy.weight" in moved[1]
    assert not {"dense1.weight", "dense1.bias"} & moved[0]
    assert not parts.events[0].metrics


def test_copies_come_together() -> None:
    """The distance of two copies, with the penalty and with hardly any."""
    apart = {}
    for rho in (1e-6, 1.0):
        admm = {"rho": rho, "schedule": "fixed"}
        parts = wired(make("dense", ["relu1"], "weights", admm=admm))
        for number in range(60):
            parts.portion(arrays()[0], KNOWN, (0, 0, number), 0.0)
        below, above = (parts.copies[part][0] for part in range(2))
        apart[rho] = float(np.linalg.norm(below - above))
        last = parts.events[1]
        assert last.primal == pytest.approx(apart[rho] / np.sqrt(below.size), rel=1e-3)
        assert 0 < last.dual < rho
    assert apart[1.0] < 0.2 * apart[1e-6]


@pytest.mark.parametrize("head", [True, False])
def test_all_parts_say_what_they_hold_and_how_they_did(head: bool) -> None:
    parts = wired(make("dense", ["relu1", "tanh1"], "weights", admm={"head": head}))
    parts.portion(arrays()[0], KNOWN, (0, 0, 0), 0.0)
    held = {part: set(event.copies) for part, event in parts.events.items()}
    assert held == {0: {0}, 1: {0, 1}, 2: {1}}
    sizes = {
        part: [len(copy) for copy in event.copies.values()] for part, event in parts.events.items()
    }
    assert sizes == {0: [130], 1: [130, 88], 2: [88]}
    assert all(
        copy.dtype == np.float32
        for event in parts.events.values()
        for copy in event.copies.values()
    )
    judged = {part for part, event in parts.events.items() if event.metrics}
    assert judged == ({0, 1, 2} if head else {2})
    assert [event.steps for event in parts.events.values()] == [3, 3, 3]


def test_a_layer_that_normalises_may_be_the_boundary() -> None:
    """Its running averages are not pulled; below a cut without heads they move all the same."""
    job = make("normalised", ["relu2"], "weights", admm={"head": False})
    below = PartStepper(job, DATA, 0)
    first = {name: values.copy() for name, values in named(below, below.vector).items()}
    below.perform(Train(0, Rows(arrays()[0], SAMPLES, (0, 0, 0))))
    now = named(below, below.vector)
    assert np.any(now["batchnorm1.mean"] != first["batchnorm1.mean"])
    np.testing.assert_array_equal(now["batchnorm1.weight"], first["batchnorm1.weight"])

    job = make("normalised", ["conv2d1"], "weights", admm={"passes": 1})
    inputs = np.random.default_rng(0).normal(size=(SAMPLES, 8, 8, 4)).astype(np.float32)
    gradients = []
    for heard in ({}, {0: np.full(16, 9, np.float32)}):
        fresh = PartStepper(job, DATA, 1)
        fresh.perform(Train(0, Rows(inputs, SAMPLES, (0, 0, 0)), KNOWN, other=heard))
        gradients.append(named(fresh, fresh.gradient))
    changed = {name for name in gradients[0] if np.any(gradients[0][name] != gradients[1][name])}
    assert changed == {"batchnorm1.weight", "batchnorm1.bias"}


def test_outputs_go_up_as_a_step_sees_them() -> None:
    below = PartStepper(make("dense", ["relu1"], "weights"), DATA, 0)
    found: Any = below.perform(Forward(0, rows_for(below, 0)))
    values = named(below, below.vector)
    x = arrays()[0].reshape(SAMPLES, -1)
    expected = np.maximum(x @ values["dense1.weight"] + values["dense1.bias"], 0)
    np.testing.assert_allclose(found.outputs, expected, rtol=1e-4, atol=1e-5)
