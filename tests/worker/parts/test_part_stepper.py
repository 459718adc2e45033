"""A part's place in the whole: first values, layout, rules and evaluation."""

from math import prod
from typing import Any

import numpy as np
import pytest
from part_cases import DATA, SAMPLES, arrays, make, wired

from dualshard.common.errors import UserError
from dualshard.common.job import Job
from dualshard.common.types import Array
from dualshard.worker.boundary.events import Forward, Known, Rows
from dualshard.worker.parts.stepper import PartStepper
from dualshard.worker.step import Stepper

CUTS = ["relu1", "tanh1"]


def uncut(job: Job, net: str = "dense") -> Stepper:
    """The same net in one piece."""
    return Stepper(
        Job.from_dict({"model": {"ref": f"part_cases:{net}"}, "job": {"seed": job.job.seed}}), DATA
    )


@pytest.mark.parametrize("coupling", ["activations", "backprop"])
@pytest.mark.parametrize(("net", "cuts"), [("dense", CUTS), ("normalised", ["relu1"])])
def test_first_values_and_layout_are_those_of_the_whole_net(
    net: str, cuts: list[str], coupling: str
) -> None:
    job = make(net, cuts, coupling, job={"seed": 5})
    parts, whole = wired(job), uncut(job, net)
    np.testing.assert_array_equal(parts.vector(), whole.vector)
    for number, stepper in enumerate(parts.steppers):
        assert stepper.layout_rows() == whole.layout_rows()
        assert stepper.begin == stepper.starts[number]
        assert stepper.vector.size == stepper.gradient.size == stepper.end - stepper.begin
    ends = [stepper.end for stepper in parts.steppers]
    assert [0, *ends[:-1]] == parts.steppers[0].starts
    assert not any(stepper.gradient.any() for stepper in parts.steppers)


def test_copies_and_heads_lie_behind_their_part_and_begin_as_the_boundary_layer() -> None:
    parts = wired(make("dense", CUTS, "weights"))
    rows = parts.steppers[1].layout_rows()
    assert [row[0] for row in rows] == [
        *("dense1.weight", "dense1.bias", "part0.copy.weight", "part0.copy.bias"),
        *("part0.head.weight", "part0.head.bias", "dense2.weight", "dense2.bias"),
        *("part1.copy.weight", "part1.copy.bias", "part1.head.weight", "part1.head.bias"),
        *("dense3.weight", "dense3.bias", "dense4.weight", "dense4.bias"),
    ]
    sizes = {row[0]: prod(row[3:]) for row in rows}
    named, at = dict[str, Array](), 0
    for name, size in sizes.items():
        named[name] = parts.vector()[at : at + size]
        at += size
    whole = uncut(parts.job)
    for name, span in whole.layout.spans().items():
        np.testing.assert_array_equal(named[name], whole.vector[slice(*span)])
    np.testing.assert_array_equal(named["part0.copy.weight"], named["dense2.weight"])
    np.testing.assert_array_equal(named["part1.copy.weight"], named["dense3.weight"])
    assert named["part0.head.weight"].any()
    assert rows[2] == ["part0.copy.weight", True, False, 12, 10]
    assert rows[4] == ["part0.head.weight", True, False, 10, 3]


def test_below_the_last_layer_the_copy_is_the_head() -> None:
    names = [row[0] for row in wired(make("dense", ["relu2"], "weights")).steppers[0].layout_rows()]
    assert [name for name in names if name.startswith("part0")] == [
        "part0.copy.weight",
        "part0.copy.bias",
    ]


@pytest.mark.parametrize("coupling", ["activations", "weights"])
def test_evaluations_are_those_of_the_glued_net(coupling: str) -> None:
    parts = wired(make("normalised", ["relu1"], coupling, data={"batch_size": 16}))
    images, labels = arrays(60, bytes_=True)
    for number in range(3):
        taken = slice(number * 20, number * 20 + 20)
        known = Known(np.arange(20), labels[taken])
        parts.portion(images[taken], known, (0, number, 0), 0.0)
    whole = uncut(parts.job, "normalised")
    vector, spans, at = parts.vector(), whole.layout.spans(), 0
    for row in parts.steppers[0].layout_rows():
        size = prod(row[3:])
        if row[0] in spans:
            whole.vector[slice(*spans[row[0]])] = vector[at : at + size]
        at += size
    portions = [(images[:7], labels[:7]), (images[7:], labels[7:])]
    expected = whole.evaluate(whole.vector, portions)
    for stepper in parts.steppers:
        count, found = stepper.evaluate(vector, portions)
        assert count == expected[0] == 60
        copies = {"copy_accuracy"} if coupling == "weights" else set()
        assert found.keys() - expected[1].keys() == copies
        assert all(found[name] == value for name, value in expected[1].items())


def test_the_copys_accuracy_is_that_of_the_net_with_the_copies() -> None:
    parts = wired(make("dense", ["relu1"], "weights"))
    images, labels = arrays()
    held = [(images, labels)]
    plain = parts.evaluate(held)
    assert plain["copy_accuracy"] == plain["accuracy"]  # they begin alike
    below, vector = parts.steppers[0], parts.vector()
    begin = sum(prod(row[3:]) for row in below.layout_rows()[:2])
    size = prod(below.layout_rows()[2][3:])
    changed = vector.copy()
    changed[begin : begin + size] = -changed[begin : begin + size]
    twin = vector.copy()
    at = below.end  # dense2.weight is the first of part 1
    twin[at : at + size] = -twin[at : at + size]
    _, found = below.evaluate(changed, held)
    _, expected = below.evaluate(twin, held)
    assert found["accuracy"] == plain["accuracy"]
    assert found["copy_accuracy"] == expected["accuracy"] != plain["accuracy"]


def test_rates_decay_and_clipping_are_the_parts_own() -> None:
    """A pattern may match parameters of another part; what it freezes here stays."""
    settings = {"rates": ["dense2.*:0", "dense4.*:2"], "weight_decay": 0.5, "clip": 0.01}
    parts = wired(make("dense", ["relu1"], "backprop", optimizer=settings))
    images, labels = arrays()
    before = [stepper.vector.copy() for stepper in parts.steppers]
    parts.portion(images, Known(np.arange(SAMPLES), labels), (0, 0, 0), 0.0)
    below, top = parts.steppers
    assert np.linalg.norm(top.gradient) == pytest.approx(0.01, rel=1e-3)
    weights = 64 * 12
    expected = before[0] - 0.1 * below.gradient
    expected[:weights] -= 0.1 * 0.5 * before[0][:weights]
    np.testing.assert_allclose(below.vector, expected, rtol=1e-5, atol=1e-6)
    frozen = 12 * 10 + 10
    np.testing.assert_array_equal(top.vector[:frozen], before[1][:frozen])
    assert (top.vector[frozen:] != before[1][frozen:]).any()


def test_a_rate_for_no_parameter_of_the_whole_net_is_refused() -> None:
    with pytest.raises(UserError, match=r"optimizer.rates = nothing\.\*: expected a pattern"):
        wired(make("dense", ["relu1"], optimizer={"rates": ["nothing.*:2"]}))


def test_the_slice_lies_where_the_process_wants_it() -> None:
    memory = np.zeros((2, 64 * 12 + 12), np.float32)
    job = make("dense", ["relu1"])
    below = PartStepper(job, DATA, 0, lambda rows, size: memory)
    np.testing.assert_array_equal(memory[0], below.vector)
    assert memory[0].any()
    memory[0] = 0  # as when fresh values come from servers
    found: Any = below.perform(Forward(0, Rows(arrays()[0], SAMPLES, (0, 0, 0))))
    assert not found.outputs.any()


def test_a_users_parts_train_and_are_evaluated() -> None:
    model = {"ref": "user_parts:Lines"}
    for coupling in ("activations", "backprop"):
        parts = wired(make("", ["one"], coupling, model=model, optimizer={"lr": 1.0}))
        images, labels = arrays()
        first = parts.evaluate([(images, labels)])["loss"]
        for number in range(20):
            known = Known(np.arange(SAMPLES), labels)
            parts.portion(images, known, (0, 0, number), 0.0)
        assert parts.evaluate([(images, labels)])["loss"] < 0.9 * first


def test_weights_can_only_be_copied_of_layers() -> None:
    job = make("", ["one"], "weights", model={"ref": "user_parts:Lines"})
    with pytest.raises(UserError) as refused:
        PartStepper(job, DATA, 0)
    assert str(refused.value) == (
        "model.ref = user_parts:Lines: expected a Sequential that computes its own gradients, for "
        "coupling weights; write partition.coupling = activations"
    )


def test_l2_is_added_part_by_part() -> None:
    """The gradients of all parts are those of the net with L2."""
    args = {"l2": 0.3}
    model = {"ref": "part_cases:dense", "args": args}
    plain = wired(make("dense", CUTS, "backprop"))
    with_l2 = wired(make("dense", CUTS, "backprop", model=model))
    images, labels = arrays()
    before = plain.vector()
    for parts in (plain, with_l2):
        parts.portion(images, Known(np.arange(SAMPLES), labels), (0, 0, 0), 0.0)
    decays = np.concatenate(
        [np.full(prod(row[3:]), row[1], np.float32) for row in plain.steppers[0].layout_rows()]
    )
    found, expected = (
        np.concatenate([stepper.gradient for stepper in parts.steppers])
        for parts in (with_l2, plain)
    )
    np.testing.assert_allclose(found, expected + 0.3 * decays * before, rtol=1e-5, atol=1e-6)
