"""Whole nets: the compiled step against the plain reference, numeric gradients and PyTorch."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from dualshard.common.errors import UserError
from dualshard.worker.layout import Layout
from dualshard.worker.nn.activations import ReLU, Sigmoid, Tanh
from dualshard.worker.nn.dense import Dense
from dualshard.worker.nn.losses import SigmoidCrossEntropy, SoftmaxCrossEntropy
from dualshard.worker.nn.native.interpreter import run
from dualshard.worker.nn.sequential import Sequential
from dualshard.worker.zoo import logistic, mlp

NETS = {
    "relu": lambda *sizes: mlp(*sizes, "relu"),
    "tanh": lambda *sizes: mlp(*sizes, "tanh"),
    "sigmoid": lambda *sizes: mlp(*sizes, "sigmoid"),
    "logistic": lambda *sizes: logistic(*sizes, l2=0.3),
}
SIZES = [  # shape of a sample, hidden widths, classes, samples
    ((1,), (), 2, 1),
    ((3, 5), (7,), 3, 4),
    ((8,), (1,), 2, 5),
    ((28, 28), (33, 17), 10, 31),
    ((17,), (16, 16, 16), 5, 130),
]


@pytest.fixture(autouse=True)
def one_blas_thread():
    with threadpool_limits(1):
        yield


def setup(net, shape, samples, seed=0):
    """Flat parameters, flat gradients full of NaN, and a batch."""
    rng, layout = np.random.default_rng(seed), Layout(net.shapes())
    parameters = layout.views(np.empty(layout.size, np.float32))
    gradients = layout.views(np.full(layout.size, np.nan, np.float32))
    net.start(parameters, rng)
    parameters.flat += 0.1 * rng.standard_normal(layout.size, dtype=np.float32)  # biases too
    classes = list(net.shapes().values())[-1][0]
    inputs = rng.standard_normal((samples, *shape), dtype=np.float32)
    return parameters, gradients, (inputs, rng.integers(0, classes, samples))


def reference(net, parameters, batch, dtype=np.float32):
    """Metrics and gradients by the plain layers."""
    values = {name: value.astype(dtype) for name, value in parameters.items()}
    gradients = {name: np.full_like(value, np.nan) for name, value in values.items()}
    return net.gradients(values, gradients, batch, np.random.default_rng()), gradients


def step(net, parameters, gradients, batch):
    return net.gradients(parameters, gradients, batch, np.random.default_rng())


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize(("shape", "hidden", "classes", "samples"), SIZES)
def test_compiled_step_agrees_with_the_reference(kind, shape, hidden, classes, samples):
    net = NETS[kind](int(np.prod(shape)), hidden, classes)
    parameters, gradients, batch = setup(net, shape, samples)
    metrics = step(net, parameters, gradients, batch)
    expected, exact = reference(net, parameters, batch, np.float64)
    assert metrics == pytest.approx(expected, rel=2e-6, abs=2e-7)
    assert net.evaluate(parameters, batch) == pytest.approx(expected, rel=2e-6, abs=2e-7)
    for name, gradient in exact.items():
        np.testing.assert_allclose(gradients[name], gradient, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("kind", ["tanh", "sigmoid"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
def test_compiled_exponentials_hold_from_tiny_to_saturated(kind, scale):
    net = NETS[kind](9, (11,), 3)
    parameters, gradients, (inputs, labels) = setup(net, (9,), 20)
    batch = (inputs * np.float32(scale), labels)
    metrics = step(net, parameters, gradients, batch)
    expected, exact = reference(net, parameters, batch, np.float64)
    assert metrics["loss"] == pytest.approx(expected["loss"], rel=2e-6)
    for name in ("dense2.weight", "dense1.bias"):
        np.testing.assert_allclose(gradients[name], exact[name], rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("kind", NETS)
def test_a_whole_net_agrees_with_numeric_gradients(kind):
    net = NETS[kind](4, (3,), 3)
    parameters, _, batch = setup(net, (4,), 6)
    values = {name: value.astype(float) for name, value in parameters.items()}
    _, gradients = reference(net, values, batch, np.float64)
    for name, value in values.items():
        for index in np.ndindex(value.shape):
            kept, losses = value[index], []
            for shift in (1e-6, -1e-6):
                value[index] = kept + shift
                losses.append(net.evaluate(values, batch)["loss"])
            value[index] = kept
            slope = (losses[0] - losses[1]) / 2e-6
            assert gradients[name][index] == pytest.approx(slope, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("kind", NETS)
def test_compiled_step_agrees_with_pytorch(kind):
    torch = pytest.importorskip("torch")
    net = NETS[kind](20, (15, 10), 4)
    parameters, gradients, (inputs, labels) = setup(net, (20,), 13)
    metrics = step(net, parameters, gradients, (inputs, labels))
    theirs = {n: torch.from_numpy(v.copy()).requires_grad_() for n, v in parameters.items()}
    activation = {"relu": torch.relu, "tanh": torch.tanh}.get(kind, torch.sigmoid)
    z, t = torch.from_numpy(inputs), torch.from_numpy(labels)
    for number in (1, 2, 3):
        z = z @ theirs[f"dense{number}.weight"] + theirs[f"dense{number}.bias"]
        z = activation(z) if number < 3 else z
    loss = torch.nn.functional.cross_entropy(z, t)
    if kind == "logistic":
        onehot = torch.nn.functional.one_hot(t, 4).float()
        units = torch.nn.functional.binary_cross_entropy_with_logits(z, onehot, reduction="sum")
        squares = sum((v**2).sum() for n, v in theirs.items() if n.endswith("weight"))
        loss = units / 13 + 0.3 / 2 * squares
    loss.backward()
    assert metrics["loss"] == pytest.approx(float(loss.detach()), rel=1e-6)
    for name, value in theirs.items():
        np.testing.assert_allclose(gradients[name], value.grad.numpy(), rtol=1e-4, atol=1e-6)


def test_names_and_shapes_are_in_the_order_of_the_layers():
    assert mlp(6, (5, 4), 3).shapes() == {
        "dense1.weight": (6, 5),
        "dense1.bias": (5,),
        "dense2.weight": (5, 4),
        "dense2.bias": (4,),
        "dense3.weight": (4, 3),
        "dense3.bias": (3,),
    }


def test_start_is_a_function_of_the_random_stream():
    net = mlp(6, (5,), 3)
    first, second = (Layout(net.shapes()).views(np.full(53, np.nan, np.float32)) for _ in "ab")
    net.start(first, np.random.default_rng(8))
    net.start(second, np.random.default_rng(8))
    assert np.isfinite(first.flat).all()
    assert np.array_equal(first.flat, second.flat)
    assert not first["dense1.bias"].any()


def test_a_ragged_last_batch_and_a_larger_one_run_in_the_same_net():
    net = mlp(10, (6,), 4)
    parameters, gradients, (inputs, labels) = setup(net, (10,), 64)
    for samples in (32, 5, 64, 1):
        batch = (inputs[:samples], labels[:samples])
        metrics = step(net, parameters, gradients, batch)
        expected, exact = reference(net, parameters, batch)
        assert metrics == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(
            gradients["dense1.weight"], exact["dense1.weight"], rtol=1e-4, atol=1e-6
        )


def test_repeated_calls_give_the_same_bits():
    net, other = mlp(50, (20,), 10), mlp(50, (20,), 10)
    parameters, gradients, batch = setup(net, (50,), 32)
    first = step(net, parameters, gradients, batch), gradients.flat.copy()
    step(net, parameters, gradients, (batch[0][:7], batch[1][:7]))
    for again in (net, other):
        assert step(again, parameters, gradients, batch) == first[0]
        assert np.array_equal(gradients.flat, first[1])


def test_how_a_batch_lies_in_memory_changes_no_bit_and_compiles_nothing():
    net = mlp(12, (6,), 4)
    parameters, gradients, (inputs, labels) = setup(net, (3, 4), 9)
    metrics = step(net, parameters, gradients, (inputs, labels))
    expected, compiled = gradients.flat.copy(), len(run.signatures)
    bytes_of = b"x" + inputs.tobytes()
    frozen = labels.copy()
    frozen.flags.writeable = False
    for variant in (
        (np.asfortranarray(inputs), labels.astype(np.uint8)),
        (np.repeat(inputs, 2, axis=0)[::2], np.repeat(labels, 2)[::2]),
        (np.frombuffer(bytes_of, np.float32, offset=1).reshape(inputs.shape), frozen),
        (inputs.astype(np.float64), labels.astype(np.int32)),
    ):
        gradients.flat[:] = np.nan
        assert step(net, parameters, gradients, variant) == metrics
        assert np.array_equal(gradients.flat, expected)
    assert len(run.signatures) == compiled


def test_a_new_net_compiles_nothing():
    step(net := mlp(5, (4,), 3), *setup(net, (5,), 2))
    compiled = len(run.signatures)
    step(net := logistic(9, (8, 7, 6), 5, l2=0.1), *setup(net, (9,), 3))
    assert len(run.signatures) == compiled


def test_read_only_parameters_can_be_evaluated():
    net = mlp(5, (4,), 3)
    parameters, _, batch = setup(net, (5,), 2)
    expected, compiled = net.evaluate(parameters, batch), len(run.signatures)
    parameters.flat.flags.writeable = False
    assert net.evaluate(parameters, batch) == expected
    assert len(run.signatures) == compiled


def test_evaluate_takes_more_samples_than_its_scratch_holds():
    net = logistic(6, (5,), 3, l2=0.2)
    parameters, _, batch = setup(net, (6,), 1000)
    expected = reference(net, parameters, batch, np.float64)[0]
    assert net.evaluate(parameters, batch) == pytest.approx(expected, rel=1e-6)
    assert net.evaluate(dict(parameters), batch) == pytest.approx(expected, rel=1e-6)


def test_two_threads_with_an_instance_each_agree_with_one_after_the_other():
    nets = [mlp(40, (30,), 10), logistic(40, (20,), 10, l2=0.01)]
    arguments = [setup(net, (40,), 32, seed) for seed, net in enumerate(nets)]
    gate = threading.Barrier(2)

    def serve(net, parameters, gradients, batch):
        gate.wait()
        losses = [step(net, parameters, gradients, batch)["loss"] for _ in range(50)]
        return losses, gradients.flat.copy()

    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(serve, nets, *zip(*arguments, strict=True)))
    for net, (parameters, gradients, batch), (losses, last) in zip(
        nets, arguments, together, strict=True
    ):
        assert set(losses) == {step(net, parameters, gradients, batch)["loss"]}
        assert np.array_equal(gradients.flat, last)


def test_parameters_may_change_during_the_call():
    net = mlp(30, (20,), 5)
    parameters, gradients, batch = setup(net, (30,), 16)
    stop, rng = threading.Event(), np.random.default_rng(9)

    def disturb():
        changes = 0
        while not stop.is_set():
            parameters.flat[:] = rng.uniform(-0.1, 0.1, parameters.flat.size)
            changes += 1
        return changes

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(disturb)
        losses = [step(net, parameters, gradients, batch)["loss"] for _ in range(300)]
        stop.set()
        assert writer.result() > 0
    assert len(set(losses)) > 1
    assert np.isfinite(losses).all()
    assert np.isfinite(gradients.flat).all()


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_nan_and_infinity_in_the_data_reach_loss_and_gradients(kind, poison):
    net = NETS[kind](6, (), 3)
    parameters, gradients, (inputs, labels) = setup(net, (6,), 4)
    inputs[2, 3] = poison
    assert not np.isfinite(step(net, parameters, gradients, (inputs, labels))["loss"])
    assert not np.isfinite(gradients["dense1.weight"]).all()


@pytest.mark.parametrize("kind", NETS)
def test_nan_passes_through_hidden_layers(kind):
    net = NETS[kind](6, (5, 4), 3)
    parameters, gradients, (inputs, labels) = setup(net, (6,), 4)
    inputs[2, 3] = np.nan
    for backend in (parameters, dict(parameters)):
        assert np.isnan(net.evaluate(backend, (inputs, labels))["loss"])
    assert np.isnan(step(net, parameters, gradients, (inputs, labels))["loss"])
    assert np.isnan(gradients["dense1.weight"]).any()
    assert np.isnan(gradients["dense1.bias"]).any()


@pytest.mark.parametrize("label", [-1, 3, 2**40])
@pytest.mark.parametrize("compiled", [True, False])
def test_labels_that_are_no_class_are_refused(label, compiled):
    net = mlp(4, (3,), 3)
    parameters, gradients, (inputs, labels) = setup(net, (4,), 5)
    labels[4] = label
    if not compiled:
        parameters, gradients = dict(parameters), dict(gradients)
    sentence = (
        f"data.source = label {label} in row 4 of a batch: expected labels from 0 to 2; "
        "set model.args.classes to the number of classes (now 3) or mend the labels"
    )
    for call in (
        lambda: step(net, parameters, gradients, (inputs, labels)),
        lambda: net.evaluate(parameters, (inputs, labels)),
    ):
        with pytest.raises(UserError) as error:
            call()
        assert str(error.value) == sentence


def test_samples_of_another_size_are_refused():
    net = mlp(64, (3,), 3)
    parameters, gradients, _ = setup(net, (64,), 2)
    batch = (np.ones((2, 28, 28), np.float32), np.array([0, 1]))
    with pytest.raises(UserError) as error:
        step(net, parameters, gradients, batch)
    assert str(error.value) == (
        "model.args.inputs = 64: expected 784, the numbers in a sample of shape (28, 28); "
        "build the model for 784 inputs"
    )


def test_labels_that_do_not_match_the_samples_are_refused():
    net = mlp(4, (3,), 3)
    parameters, gradients, (inputs, labels) = setup(net, (4,), 5)
    with pytest.raises(UserError) as error:
        step(net, parameters, gradients, (inputs, labels[:3]))
    assert str(error.value) == (
        "data.source = labels of shape (3,): expected (5,), one label for each sample; "
        "mend the data set's read()"
    )


def test_layers_that_do_not_fit_are_refused():
    with pytest.raises(UserError) as error:
        Sequential([Dense(6, 5), ReLU(), Dense(4, 3)], SoftmaxCrossEntropy())
    assert str(error.value) == (
        "Dense.inputs = 4: expected 5, the outputs of the layer before; write Dense(5, 3)"
    )
    with pytest.raises(UserError) as error:
        Sequential([ReLU()], SoftmaxCrossEntropy())
    assert str(error.value) == (
        "Sequential.layers = 1: expected at least one Dense; add a Dense layer"
    )


class Softsign(Tanh):
    """A user's layer, of which the compiled step knows nothing."""

    noun = "softsign"

    def value(self, z):
        return z / (1 + abs(z))

    def slope(self, y):
        return (1 - abs(y)) ** 2


class Half(SoftmaxCrossEntropy):
    """A user's loss."""

    def value(self, logits, labels):
        return super().value(logits, labels) / 2

    def slope(self, logits, labels):
        return super().slope(logits, labels) / 2


@pytest.mark.parametrize(
    "net",
    [
        Sequential([Dense(4, 3), Softsign(), Dense(3, 2)], SoftmaxCrossEntropy()),
        Sequential([Dense(4, 3), Tanh(), Sigmoid(), Dense(3, 2)], SigmoidCrossEntropy(), 0.1),
        Sequential([Tanh(), Dense(4, 2)], SoftmaxCrossEntropy()),
        Sequential([Dense(4, 2)], Half()),
    ],
    ids=["own layer", "two activations", "activation first", "own loss"],
)
def test_what_is_not_compiled_runs_its_own_code_between_what_is(net):
    parameters, gradients, batch = setup(net, (4,), 5)
    metrics = step(net, parameters, gradients, batch)
    expected, exact = reference(net, parameters, batch)
    assert metrics == pytest.approx(expected, rel=1e-6)
    for name, gradient in exact.items():
        np.testing.assert_allclose(gradients[name], gradient, rtol=1e-5, atol=1e-6)
    start = metrics["loss"]
    parameters.flat -= 0.05 * gradients.flat
    assert net.evaluate(parameters, batch)["loss"] < start


def test_an_activation_after_the_last_layer_is_compiled_too():
    net = Sequential([Dense(4, 3), Tanh()], SoftmaxCrossEntropy())
    parameters, gradients, batch = setup(net, (4,), 5)
    metrics = step(net, parameters, gradients, batch)
    expected, exact = reference(net, parameters, batch)
    assert metrics == pytest.approx(expected, rel=1e-6)
    for name, gradient in exact.items():
        np.testing.assert_allclose(gradients[name], gradient, rtol=1e-5, atol=1e-6)
