"""Coupling `activations`: its limit is backprop, and what its schedules lead to.

The identity: with one pass over one minibatch and no multipliers, (ρ + c) (x - T) is the gradient
that backprop would send, and the lower part's gradient is that of backprop. The oracle is the whole
net, layer by layer in float64.
"""

from typing import Any

import numpy as np
import pytest
from part_cases import CUTS, DATA, NETS, SAMPLES, arrays, make, model_of, wired

from dualshard.common.errors import RemoteError
from dualshard.common.types import Array
from dualshard.worker.boundary.events import Forward, Known, Rows, Train, Trained
from dualshard.worker.layout import Layout
from dualshard.worker.nn.sequential import Sequential
from dualshard.worker.parts.stepper import PartStepper

ONE_PASS = {"passes": 1, "gamma": 0.0, "rho": 0.01, "c": 0.1, "schedule": "fixed"}
KNOWN = Known(np.arange(SAMPLES), arrays()[1])


def exact(net: str, vector: Array, cuts: list[str]) -> tuple[Array, dict[str, Array]]:
    """The whole net in float64: its flat gradient, and d(sum of losses)/d(outputs) behind cuts."""
    model = model_of(net)
    assert isinstance(model, Sequential)
    shapes, values = model.shapes(), vector.astype(np.float64)
    spans = Layout(shapes).spans().items()
    views = {name: values[begin:end].reshape(shapes[name]) for name, (begin, end) in spans}
    slopes = {name: np.zeros_like(view) for name, view in views.items()}
    inputs, labels = arrays()
    x, random = inputs.astype(np.float64).reshape(SAMPLES, *model.sample), np.random.default_rng(0)
    for name, layer in model.layers.items():
        x = layer.forward({p: views[f"{name}.{p}"] for p in layer.shapes()}, x, random)
    delta, behind = model.loss.slope(x, labels), {}
    for name, layer in reversed(model.layers.items()):
        if name in cuts:
            behind[name] = delta * SAMPLES
        own = {p: views[f"{name}.{p}"] for p in layer.shapes()}
        delta = layer.backward(own, {p: slopes[f"{name}.{p}"] for p in layer.shapes()}, delta)
    return np.concatenate([slope.reshape(-1) for slope in slopes.values()]), behind


def one_round(steppers: list[PartStepper]) -> list[Trained]:
    """A macro-batch of one minibatch up and down again; what each part has done."""
    rows, passed, events = Rows(arrays()[0], SAMPLES, (0, 0, 0)), [], list[Any]()
    for stepper in steppers[:-1]:
        passed.append(rows)
        found: Any = stepper.perform(Forward(0, rows))
        rows = Rows(found.outputs, SAMPLES, (0, 0, 0))
    events.append(steppers[-1].perform(Train(0, rows, KNOWN)))
    for stepper, own in zip(reversed(steppers[:-1]), reversed(passed), strict=True):
        above = events[-1]
        train = Train(0, own, KNOWN, rows.inputs, above.targets, above.rho)
        events.append(stepper.perform(train))
        rows = own
    return events[::-1]


def assert_close(found: Array, expected: Array) -> None:
    """To a relative difference of 1e-5: the lengths of the difference and of what is expected."""
    apart = np.linalg.norm(found.astype(float) - expected)
    assert apart <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize(("net", "cuts"), CUTS)
@pytest.mark.parametrize("admm", [{}, {"gamma": 0.5, "gamma_middle": 0.5, "rho": 0.3, "c": 0.7}])
def test_one_pass_is_backprop(net: str, cuts: list[str], admm: dict[str, float]) -> None:
    """The gradients of all parts, whatever ρ, c and γ are."""
    parts = wired(make(net, cuts, admm={**ONE_PASS, **admm}))
    expected, _ = exact(net, parts.vector(), cuts)
    one_round(parts.steppers)
    for stepper in parts.steppers:
        assert_close(stepper.gradient, expected[stepper.begin : stepper.end])


@pytest.mark.parametrize("net", ["dense", "conv", "normalised"])
def test_what_targets_ask_for_is_the_gradient_that_backprop_sends(net: str) -> None:
    (cut,) = cuts = NETS[net][1][0]
    parts = wired(make(net, cuts, admm=ONE_PASS))
    _, behind = exact(net, parts.vector(), cuts)
    below, top = parts.steppers
    sent: Any = below.perform(Forward(0, Rows(arrays()[0], SAMPLES, (0, 0, 0))))
    trained: Any = top.perform(Train(0, Rows(sent.outputs, SAMPLES, (0, 0, 0)), KNOWN))
    assert trained.rho == 0.01
    assert trained.targets.shape == sent.outputs.shape
    found = (0.01 + 0.1) * (sent.outputs.astype(float) - trained.targets)
    assert_close(found, behind[cut].reshape(found.shape))
    apart = np.sqrt(np.mean((sent.outputs - trained.targets) ** 2))  # γ = 0: T = y
    assert trained.primal == pytest.approx(apart, rel=1e-4)


def test_the_middle_sends_outputs_of_what_came_and_not_of_its_own_y() -> None:
    steppers = [wired(make("dense", ["relu1", "tanh1"])).steppers for _ in range(2)]
    rows = Rows(arrays()[0], SAMPLES, (0, 0, 0))
    one_round(steppers[0])
    for before, after in zip(*steppers, strict=True):
        after.vector[:] = before.vector
    outputs: list[Any] = [
        parts[1].perform(Forward(1, inputs(parts[0], rows))) for parts in steppers
    ]
    np.testing.assert_array_equal(*(found.outputs for found in outputs))


def inputs(below: PartStepper, rows: Rows) -> Rows:
    """What the part above gets."""
    found: Any = below.perform(Forward(1, rows))
    return Rows(found.outputs, rows.batch, rows.seeds)


def test_passes_take_minibatches_in_turn_and_count_their_steps() -> None:
    parts = wired(make("dense", ["relu1", "tanh1"], data={"batch_size": 16}))
    images, labels = arrays()
    parts.portion(images, Known(np.arange(SAMPLES), labels), (0, 0, 0), 0.0)
    assert [parts.events[part].steps for part in range(3)] == [9, 9, 9]  # 16 + 16 + 8, three times
    assert set(parts.events[2].metrics) == {"loss", "accuracy"}
    assert not parts.events[0].targets.size
    assert [event.rho for event in parts.events.values()] == [1e-4] * 3
    assert parts.events[0].primal == parts.events[2].dual == 0


def test_a_lower_part_says_how_far_it_has_come() -> None:
    """Many small steps towards fixed targets close the gap; ρ times the way is the residual."""
    job = make("dense", ["relu1"], admm={"passes": 400, "c": 1.0}, optimizer={"lr": 0.3})
    below, _ = wired(job).steppers
    rows = Rows(arrays()[0], SAMPLES, (0, 0, 0))
    sent: Any = below.perform(Forward(0, rows))
    targets = sent.outputs + np.float32(0.1) * (sent.outputs > 0)
    train = Train(0, rows, None, sent.outputs, targets, 0.5)
    found: Any = below.perform(train)
    now: Any = below.perform(Forward(1, rows))
    left, first = (np.linalg.norm(each - targets) for each in (now.outputs, sent.outputs))
    assert found.gap == pytest.approx(1 - left / first, abs=0.01)
    assert found.gap > 0.5
    moved = np.sqrt(np.mean((now.outputs - sent.outputs) ** 2))
    assert found.dual == pytest.approx(0.5 * moved, rel=0.02)


def test_all_that_leaves_a_part_is_float32() -> None:
    parts = wired(make("dense", ["relu1", "tanh1"], admm={"rho": 0.1, "schedule": "residual"}))
    for event in one_round(parts.steppers):
        assert event.targets.dtype == np.float32
    for stepper in parts.steppers:
        assert stepper.vector.dtype == stepper.gradient.dtype == np.float32


def test_bytes_count_as_fractions_in_the_lowest_part() -> None:
    images, _ = arrays(bytes_=True)
    below, _ = wired(make("dense", ["relu1"])).steppers
    as_bytes: Any = below.perform(Forward(0, Rows(images, SAMPLES, (0, 0, 0))))
    fractions = (images / 255).astype(np.float32)
    expected: Any = below.perform(Forward(1, Rows(fractions, SAMPLES, (0, 0, 0))))
    np.testing.assert_allclose(as_bytes.outputs, expected.outputs, rtol=1e-5, atol=1e-6)


def test_random_layers_below_the_top_repeat_themselves_in_each_pass() -> None:
    """A part whose outputs are its targets already must not move, whatever drops out."""
    below, _ = wired(make("dropping", ["relu1"])).steppers
    rows = Rows(arrays()[0], 16, (3, 8, 5))
    sent: Any = below.perform(Forward(0, rows))
    before = below.vector.copy()
    found: Any = below.perform(Train(0, rows, None, sent.outputs, sent.outputs, 0.01))
    np.testing.assert_array_equal(below.vector, before)
    assert (found.gap, found.dual) == (0, 0)


def test_indices_may_come_twice_in_a_macro_batch() -> None:
    parts = wired(make("dense", ["relu1"]))
    images, labels = arrays()
    twice = np.arange(SAMPLES) // 2
    for number in range(3):
        parts.portion(images[twice], Known(twice, labels[twice]), (0, 0, number), 0.0)
    assert np.isfinite(parts.vector()).all()


def test_the_top_part_balances_rho_by_what_the_one_below_says() -> None:
    """Its residual is the primal one; the dual one comes up with the outputs."""
    job = make("dense", ["relu1"], admm={"schedule": "residual", "rho": 0.02, "passes": 1})
    top = wired(job).steppers[1]
    inputs, found = np.ones((SAMPLES, 12), np.float32), []
    for dual in (0.0, 0.0, 1e9, 1e9, 1e9):
        event: Any = top.perform(Train(0, Rows(inputs, SAMPLES, (0, 0, 0), dual), KNOWN))
        found.append(event.rho)
    assert found == [0.02, 0.04, 0.08, 0.04, 0.02]


def test_what_does_not_fit_the_samples_is_refused() -> None:
    """Nothing of a peer's may send a kernel beyond its arrays."""
    _, middle, top = wired(make("dense", ["relu1", "tanh1"])).steppers
    narrow = Rows(np.ones((SAMPLES, 10), np.float32), SAMPLES, (0, 0, 0))
    wide = Rows(np.ones((SAMPLES, 12), np.float32), SAMPLES, (0, 0, 0))
    outputs, short = narrow.inputs, Known(KNOWN.indices[1:], KNOWN.labels)
    with pytest.raises(RemoteError, match="39 numbers and 40 labels for 40 samples"):
        top.perform(Train(0, narrow, short))
    with pytest.raises(RemoteError, match="39 numbers for 40 samples"):
        middle.perform(Train(0, wide, short, outputs, outputs, 0.01))
    with pytest.raises(RemoteError, match="390 numbers of targets for 400 of outputs"):
        middle.perform(Train(0, wide, KNOWN, outputs, outputs[1:], 0.01))
    with pytest.raises(RemoteError, match="samples 0 to 40 of a data set of 40"):
        top.perform(Train(0, narrow, Known(np.append(KNOWN.indices[:-1], 40), KNOWN.labels)))


def test_the_rate_follows_the_progress() -> None:
    moved = []
    for progress in (0.0, 0.5):
        below, _ = wired(make("dense", ["relu1"], optimizer={"schedule": "linear"})).steppers
        rows = Rows(arrays()[0], SAMPLES, (0, 0, 0))
        sent: Any = below.perform(Forward(0, rows))
        before = below.vector.copy()
        train = Train(0, rows, None, sent.outputs, sent.outputs + 1, 0.01)
        below.perform(train, progress)
        moved.append(np.abs(below.vector - before).max())
    assert moved[1] == pytest.approx(moved[0] * 0.505, rel=0.1)


def test_stepping_is_that_of_equal_steppers_bit_for_bit() -> None:
    vectors = []
    for _ in range(2):
        parts = wired(make("conv", ["maxpool1", "relu2"], optimizer={"rule": "adam"}))
        for number in range(2):
            parts.portion(arrays(seed=number)[0], KNOWN, (0, 0, number), 0.0)
        vectors.append(parts.vector())
    np.testing.assert_array_equal(*vectors)
    assert DATA.samples == SAMPLES
