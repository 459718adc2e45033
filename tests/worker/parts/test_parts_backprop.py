"""Coupling `backprop`: with one piece the bits of the net that is not cut.

The uncut oracle is the staged compiled step (`Staged`), which also runs parts. A perceptron that is
not cut takes another compiled step (`Program`), whose sums are rounded in another order.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from part_cases import CUTS, DATA, SAMPLES, arrays, make, model_of, wired

from dualshard.common.types import Array, Arrays, Float32
from dualshard.worker.boundary.events import Ahead, Back, Known, Rows
from dualshard.worker.layout import Layout
from dualshard.worker.nn.native.staged import Staged
from dualshard.worker.nn.sequential import Sequential
from dualshard.worker.parts.stepper import PartStepper
from dualshard.worker.randomness import BatchStream


def uncut(net: str, vector: Float32, batch: Arrays, seeds: tuple[int, int, int]) -> Float32:
    """The gradient of the whole net, of float32 inputs."""
    model = model_of(net)
    assert isinstance(model, Sequential)
    layout = Layout(model.shapes())
    staged = Staged(model.layers, model.loss, model.l2, layout, model.sample, model.decayed)
    gradient = np.zeros(layout.size, np.float32)
    staged.run(vector, *batch, gradient, BatchStream(0).at(seeds))
    return gradient


def gradients(steppers: list[PartStepper]) -> Float32:
    return np.concatenate([stepper.gradient for stepper in steppers])


@pytest.mark.parametrize(("net", "cuts"), CUTS)
def test_steps_are_those_of_the_whole_net_bit_for_bit(net: str, cuts: list[str]) -> None:
    parts = wired(make(net, cuts, "backprop"))
    vector = parts.vector()
    for number in range(3):
        inputs, labels = arrays(seed=number)
        parts.portion(inputs, Known(np.arange(SAMPLES), labels), (0, 0, number), 0.0)
        expected = uncut(net, vector, (inputs, labels), (0, 0, number))
        np.testing.assert_array_equal(gradients(parts.steppers), expected)
        vector = step(parts.steppers[0], vector, expected)
        np.testing.assert_array_equal(parts.vector(), vector)


def step(stepper: PartStepper, vector: Float32, gradient: Float32) -> Float32:
    """Plain SGD at the rate of `make`; running averages move by what is in their gradients."""
    rates = np.concatenate(
        [
            np.full(int(np.prod(row[3:])), 1.0 if row[2] else 0.1, np.float32)
            for row in stepper.layout_rows()
        ]
    )
    return vector - rates * gradient


@pytest.mark.parametrize("pieces", [2, 3, 5])
@pytest.mark.parametrize("net", ["dense", "conv"])
def test_pieces_add_up_to_the_minibatch(net: str, pieces: int) -> None:
    cuts = {"dense": ["relu1", "tanh1"], "conv": ["maxpool1", "relu2"]}[net]
    parts = wired(make(net, cuts, "backprop"))
    inputs, labels = arrays()
    vector = parts.vector()
    bounds = np.linspace(0, SAMPLES, pieces + 1).astype(int)
    spans = [slice(*pair) for pair in pairwise(bounds)]
    below, middle, top = parts.steppers
    outputs = []
    for slot, span in enumerate(spans):  # all go up before one comes down
        rows = Rows(inputs[span], SAMPLES, (0, 0, 0))
        first: Any = below.perform(Ahead(slot, slot, rows))
        rows = Rows(first.outputs, SAMPLES, (0, 0, 0))
        outputs.append(middle.perform(Ahead(slot, slot, rows)).outputs)  # type: ignore[union-attr]
    losses = 0.0
    for slot, span in enumerate(spans):
        begins, ends = slot == 0, slot == pieces - 1
        rows, known = (
            Rows(outputs[slot], SAMPLES, (0, 0, 0)),
            Known(np.arange(len(labels[span])), labels[span]),
        )
        back: Any = top.perform(
            Back(slot, slot, begins, ends, rows=rows, known=known, total=SAMPLES)
        )
        losses += back.metrics["loss"] * len(labels[span]) / SAMPLES
        assert back.steps == int(ends)
        back = middle.perform(Back(slot, slot, begins, ends, back.gradient))
        assert not below.perform(Back(slot, slot, begins, ends, back.gradient)).gradient.size
    expected = uncut(net, vector, (inputs, labels), (0, 0, 0))
    np.testing.assert_allclose(gradients(parts.steppers), expected, rtol=1e-4, atol=1e-6)
    views = Layout(model_of(net).shapes()).views(vector)
    found = model_of(net).evaluate(views, (inputs, labels))
    assert losses == pytest.approx(found["loss"], rel=1e-5)


def test_averages_move_by_the_mean_of_the_pieces() -> None:
    parts = wired(make("normalised", ["relu1"], "backprop"))
    (inputs, _), (below, _) = arrays(), parts.steppers
    name = next(row[0] for row in below.layout_rows() if row[2])
    begin, end = Layout(model_of("normalised").shapes()).spans()[name]
    moved = []
    for spans in ([slice(0, 20)], [slice(20, 40)], [slice(0, 20), slice(20, 40)]):
        before = below.vector.copy()
        for slot, span in enumerate(spans):
            rows = Rows(inputs[span], SAMPLES, (0, 0, 0))
            out: Any = below.perform(Ahead(0, slot, rows))
            back = Back(0, slot, not slot, span == spans[-1], np.zeros_like(out.outputs))
            below.perform(back)
        moved.append((before - below.vector)[begin:end])
        below.vector[:] = before
    np.testing.assert_allclose(moved[2], (moved[0] + moved[1]) / 2, rtol=1e-5)


@pytest.mark.parametrize("part", [0, 1])
def test_what_drops_out_follows_from_the_minibatch(part: int) -> None:
    """Equal steppers drop equal places; pieces, minibatches, parts and seeds are told apart."""
    inputs: Array = np.ones((SAMPLES, 8, 8) if part == 0 else (SAMPLES, 12), np.float32)
    labels = np.zeros(SAMPLES, np.int64)

    def run(seeds: tuple[int, int, int], slot: int = 0, seed: int = 0) -> bytes:
        stepper = PartStepper(
            make("dropping", ["relu1"], "backprop", job={"seed": seed}), DATA, part
        )
        stepper.vector[:] = 0.1
        rows = Rows(inputs, SAMPLES, seeds)
        if part == 0:
            return stepper.perform(Ahead(0, slot, rows)).outputs.tobytes()  # type: ignore[union-attr]
        known = Known(np.arange(SAMPLES), labels)
        stepper.perform(Back(0, slot, True, True, rows=rows, known=known, total=SAMPLES))
        return stepper.gradient.tobytes()

    found = [run((0, 0, 0)), run((0, 0, 1)), run((0, 4, 0)), run((1, 0, 0)), run((0, 0, 0), 1)]
    found.append(run((0, 0, 0), seed=1))
    assert len(set(found)) == len(found)
    assert run((0, 0, 0)) == found[0]


def test_the_lowest_part_drops_what_the_whole_net_drops() -> None:
    parts = wired(make("dropping", ["relu1"], "backprop"))
    inputs, _ = arrays()
    rows = Rows(inputs, SAMPLES, (2, 4, 1))
    found: Any = parts.steppers[0].perform(Ahead(0, 0, rows))
    model = model_of("dropping")
    assert isinstance(model, Sequential)
    views, random = Layout(model.shapes()).views(parts.vector()), BatchStream(0).at((2, 4, 1))
    values: Array = inputs
    for name in ("dropout1", "dense1", "relu1"):
        layer = model.layers[name]
        own = {one: views[f"{name}.{one}"] for one in layer.shapes()}
        values = layer.forward(own, values, random)
    np.testing.assert_allclose(found.outputs, values, rtol=1e-5, atol=1e-5)
