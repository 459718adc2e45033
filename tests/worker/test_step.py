"""Building a user's model, and one step on one lane."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dualshard.common.cluster import DataShape
from dualshard.common.errors import UserError
from dualshard.common.job import Job
from dualshard.common.messages import Portion
from dualshard.common.rules import make_rule
from dualshard.common.types import Metrics
from dualshard.worker.batches import Lease, Minibatch
from dualshard.worker.building import build_model
from dualshard.worker.events import Compute
from dualshard.worker.model import as_float32
from dualshard.worker.nn.sequential import Sequential
from dualshard.worker.step import Stepper

DATA = DataShape(100, 20, 3, (2, 2), 5)

MODEL = '''
import numpy as np
from dualshard.worker.model import Model


class Line(Model):
    """loss = mean of (w . x)² / 2; its gradient is the mean of (w . x) x."""

    def __init__(self, inputs, noise=0.0):
        self.inputs, self.noise = inputs, noise

    def shapes(self):
        return {"w": (self.inputs,)}

    def start(self, parameters, rng):
        parameters["w"][:] = rng.normal(size=self.inputs)

    def gradients(self, parameters, gradients, batch, rng):
        inputs = batch[0].reshape(len(batch[0]), -1)
        errors = inputs @ parameters["w"]
        gradients["w"][:] = errors @ inputs / len(inputs) + self.noise * rng.random()
        return {"loss": float((errors**2).mean() / 2)}

    def evaluate(self, parameters, batch):
        return {"loss": float(batch[1].mean()), "accuracy": float(parameters["w"][0])}


class Statistic(Line):
    # Line, and the running mean of its inputs.

    def shapes(self):
        return {"w": (self.inputs,), "mean": (self.inputs,)}

    def averaged(self, name):
        return name == "mean"

    def gradients(self, parameters, gradients, batch, rng):
        batch_mean = batch[0].reshape(len(batch[0]), -1).mean(axis=0)
        gradients["mean"][:] = 0.25 * (parameters["mean"] - batch_mean)
        return super().gradients(parameters, gradients, batch, rng)


class Shapes(Line):
    def __init__(self, shapes):
        self._shapes = {name: tuple(shape) for name, shape in shapes}

    def shapes(self):
        return self._shapes


class Broken(Line):
    def gradients(self, parameters, gradients, batch, rng):
        return {"loss": 1 / 0}


class Shapeless(Line):
    def shapes(self):
        return {}["w"]


class Bare(Line):
    def __init__(self):
        super().__init__(4)


def no_model(inputs, classes, sample_shape):
    return [inputs, classes, sample_shape]


def fails(inputs):
    raise ValueError("no such thing as", inputs)


number = 7
'''


@pytest.fixture
def reference(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(MODEL)
    return f"{tmp_path / 'mine.py'}:"


def job(ref: str, **settings: Any) -> Job:
    model = {"ref": ref, "args": settings.pop("args", {})}
    return Job.from_dict({"model": model, **settings})


def batch(samples: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(samples, 2, 2)).astype(np.float32)
    return inputs, np.zeros(samples, np.int64)


def compute(
    stepper: Stepper,
    arrays: tuple[np.ndarray, np.ndarray],
    lane: int = 0,
    *,
    accumulate: bool = False,
    step: bool = False,
    key: tuple[int, int, int] = (0, 0, 0),
) -> list[Metrics]:
    """One minibatch on one lane; `key` is its epoch, portion and number."""
    epoch, portion, number = key
    lease = Lease("tcp://there:1", Portion(0, 0, False, *arrays, epoch, portion), 1)
    batches = [Minibatch(lease, number, *arrays)]
    return stepper.compute(Compute(lane, batches, accumulate, step))


def test_the_zoo_is_told_what_the_data_says() -> None:
    model = build_model(job("mlp", args={"hidden": [5]}), DATA)
    assert isinstance(model, Sequential)
    assert list(model.shapes().values()) == [(4, 5), (5,), (5, 3), (3,)]


def test_arguments_of_the_job_win_over_the_data(reference: str) -> None:
    assert build_model(job(reference + "Line", args={"inputs": 9}), DATA).shapes() == {"w": (9,)}
    assert build_model(job(reference + "Bare"), DATA).shapes() == {"w": (4,)}


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        (
            "number",
            {},
            "model.ref = {ref}: expected a Model, a PyTorch module, (module, loss), or "
            "(init, loss) of JAX, or a builder of one; this is of type int",
        ),
        (
            "no_model",
            {},
            "model.ref = {ref}: expected a builder of a Model, a PyTorch module, (module, loss), "
            "or (init, loss) of JAX; it returned one of type list",
        ),
        (
            "Line",
            {"wide": True},
            "model.args = {'wide': True}: expected arguments of {ref}; "
            "got an unexpected keyword argument 'wide': it takes inputs, noise",
        ),
        (
            "Shapes",
            {},
            "model.args = {}: expected arguments of {ref}; "
            "missing a required argument: 'shapes': it takes shapes",
        ),
    ],
)
def test_what_is_no_model_is_one_line(
    reference: str, name: str, args: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(reference.rpartition("/")[0])
    ref = f"mine.py:{name}"
    with pytest.raises(UserError) as refused:
        build_model(job(ref, args=args), DATA)
    assert str(refused.value) == expected.replace("{ref}", ref)


@pytest.mark.parametrize(
    ("name", "doing", "words"),
    [
        ("fails", "building it", "ValueError:"),
        ("Shapeless", "asking for its shapes", "KeyError:"),
        ("Broken", "computing gradients", "ZeroDivisionError:"),
    ],
)
def test_what_a_users_code_raises_names_the_model(
    reference: str, name: str, doing: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(reference.rpartition("/")[0])
    with pytest.raises(UserError) as refused:
        Stepper(job(f"mine.py:{name}"), DATA)
    assert str(refused.value).startswith(
        f"model.ref = mine.py:{name}: expected no error while {doing}; it raised {words}"
    )


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([], "expected a model with parameters; its shapes() is empty"),
        (
            [["w", [3, 0]]],
            "expected parameter shapes of positive integers; shapes()['w'] is (3, 0)",
        ),
        ([["w", [2.5]]], "expected parameter shapes of positive integers; shapes()['w'] is (2.5,)"),
    ],
)
def test_parameters_that_cannot_be_laid_out(
    reference: str, shapes: list[Any], expected: str
) -> None:
    with pytest.raises(UserError) as refused:
        Stepper(job(reference + "Shapes", args={"shapes": shapes}), DATA)
    assert str(refused.value).endswith(expected)


def test_the_same_seed_starts_all_workers_alike(reference: str) -> None:
    one, two = (Stepper(job(reference + "Line"), DATA) for _ in range(2))
    np.testing.assert_array_equal(one.vector, two.vector)
    assert one.vector.any()
    other = Stepper(job(reference + "Line", job={"seed": 1}), DATA)
    assert (one.vector != other.vector).any()


def test_each_minibatch_has_a_random_stream_of_its_own_on_any_lane(reference: str) -> None:
    made = job(
        reference + "Line", args={"noise": 1.0}, worker={"threads": 2}, train={"in_flight": 1}
    )
    keys = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    found = []
    for stepper, lane in ((Stepper(made, DATA), 0), (Stepper(made, DATA), 1)):
        for key in keys:
            compute(stepper, batch(), lane, key=key)
            found.append(float(stepper.gradients[lane][0]))
    assert found[:4] == found[4:]
    assert len(set(found)) == 4


def test_a_step_writes_the_mean_gradient_and_leaves_the_parameters(reference: str) -> None:
    stepper = Stepper(job(reference + "Line"), DATA)
    inputs, labels = batch()
    before = stepper.vector.copy()
    (metrics,) = compute(stepper, (inputs, labels))
    flat = inputs.reshape(5, 4).astype(np.float64)
    errors = flat @ before
    np.testing.assert_allclose(stepper.gradients[0], errors @ flat / 5, rtol=1e-5)
    np.testing.assert_array_equal(stepper.vector, before)
    assert metrics["loss"] == pytest.approx((errors**2).mean() / 2, rel=1e-5)
    assert stepper.gradients[0].dtype == np.float32


def test_gradients_accumulate_as_a_sum(reference: str) -> None:
    stepper = Stepper(job(reference + "Line"), DATA)
    parts = []
    for seed in range(3):
        compute(stepper, batch(seed=seed))
        parts.append(stepper.gradients[0].copy())
    for seed in range(3):
        compute(stepper, batch(seed=seed), accumulate=seed > 0)
    np.testing.assert_allclose(stepper.gradients[0], np.sum(parts, axis=0), rtol=1e-6)


@pytest.mark.parametrize("rule", ["sgd", "rmsprop"])
def test_a_local_step_follows_the_rule_with_a_state_of_its_lane(reference: str, rule: str) -> None:
    made = job(
        reference + "Line",
        optimizer={"rule": rule, "lr": 0.1},
        worker={"threads": 2},
        train={"in_flight": 1},
    )
    stepper = Stepper(made, DATA)
    oracle = make_rule(made.optimizer)
    expected = stepper.vector.copy()
    states = [oracle.state(4), oracle.state(4)]
    for number, lane in enumerate((0, 1, 0)):
        inputs, labels = batch(seed=number)
        flat = inputs.reshape(5, 4)
        oracle.apply(expected, (flat @ expected) @ flat / np.float32(5), states[lane])
        compute(stepper, (inputs, labels), lane, step=True)
    np.testing.assert_allclose(stepper.vector, expected, rtol=1e-5)


def test_an_evaluation_is_the_mean_over_samples_and_not_over_portions(reference: str) -> None:
    stepper = Stepper(job(reference + "Line"), DATA)
    vector = np.array([0.5, 0, 0, 0], np.float32)
    zeros = np.zeros((9, 2, 2), np.float32)
    portions = [(zeros[:1], np.full(1, 9)), (zeros[:3], np.full(3, 1))]
    total, metrics = stepper.evaluate(vector, portions)
    assert total == 4
    assert metrics == {"loss": 3.0, "accuracy": 0.5}


def test_rows_of_the_layout_say_what_decays() -> None:
    stepper = Stepper(job("mlp", args={"hidden": []}), DATA)
    assert stepper.layout_rows() == [
        ["dense1.weight", True, False, 4, 3],
        ["dense1.bias", False, False, 3],
    ]


def test_vectors_lie_where_the_process_wants_them(reference: str) -> None:
    memory = np.zeros((3, 4), np.float32)

    def allocate(rows: int, size: int) -> np.ndarray:
        assert (rows, size) == memory.shape
        return memory

    stepper = Stepper(
        job(reference + "Line", worker={"threads": 2}, train={"in_flight": 1}), DATA, allocate
    )
    compute(stepper, batch(), lane=1)
    np.testing.assert_array_equal(memory[0], stepper.vector)
    assert memory[0].any()
    assert not memory[1].any()
    assert memory[2].any()


def test_bytes_become_fractions_and_floats_stay() -> None:
    scaled = as_float32(np.array([0, 51, 255], np.uint8))
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, [0, 0.2, 1], rtol=1e-6)
    floats = np.ones(3, np.float32)
    assert as_float32(floats) is floats


def test_a_local_step_decays_weights_and_not_biases() -> None:
    made = job(
        "mlp", args={"hidden": []}, optimizer={"rule": "sgd", "lr": 0.5, "weight_decay": 0.1}
    )
    stepper = Stepper(made, DATA)
    stepper.vector[:] = 1.0
    before = stepper.vector.copy()
    compute(stepper, batch(), step=True)
    gradient = stepper.gradients[0]
    expected = before - 0.5 * gradient
    expected[:12] -= 0.5 * 0.1 * before[:12]
    np.testing.assert_allclose(stepper.vector, expected, rtol=1e-5)


def test_rates_multiply_the_local_step_and_freeze() -> None:
    settings = {"rule": "sgd", "lr": 0.5, "rates": ["*.bias:2", "dense1.*:0"]}
    stepper = Stepper(job("mlp", args={"hidden": []}, optimizer=settings), DATA)
    before = stepper.vector.copy()
    compute(stepper, batch(), step=True)
    expected = before - stepper.gradients[0] * np.repeat(np.float32([0, 1]), [12, 3])
    np.testing.assert_allclose(stepper.vector, expected, rtol=1e-5)


@pytest.mark.parametrize("section", ["optimizer", "outer"])
def test_a_rate_for_no_parameter_is_refused(section: str) -> None:
    made = job("mlp", args={"hidden": []}, **{section: {"rates": ["dense2.*:0.1"]}})
    with pytest.raises(UserError) as refused:
        Stepper(made, DATA)
    assert str(refused.value) == (
        f"{section}.rates = dense2.*: expected a pattern that matches a parameter of the model; "
        "the parameters are dense1.weight, dense1.bias"
    )


def test_rows_of_the_layout_say_what_is_averaged(reference: str) -> None:
    stepper = Stepper(job(reference + "Statistic"), DATA)
    assert stepper.layout_rows() == [["w", False, False, 4], ["mean", False, True, 4]]


@pytest.mark.parametrize("rule", ["sgd", "nesterov", "adam"])
def test_a_local_step_moves_averages_by_their_gradient_alone(reference: str, rule: str) -> None:
    settings = {"rule": rule, "lr": 0.5, "clip": 1e-3, "clip_value": 1e-4, "rates": ["*:0"]}
    stepper = Stepper(job(reference + "Statistic", optimizer=settings), DATA)
    stepper.vector[4:] = 7
    before, mean = stepper.vector.copy(), stepper.vector[4:].copy()
    for seed in range(3):
        one = batch(seed=seed)
        compute(stepper, one, step=True)
        seen = one[0].reshape(len(one[0]), -1).mean(axis=0)
        np.testing.assert_array_equal(stepper.gradients[0][4:], np.float32(0.25) * (mean - seen))
        mean -= stepper.gradients[0][4:]
        np.testing.assert_array_equal(stepper.vector[4:], mean)
    np.testing.assert_array_equal(stepper.vector[:4], before[:4])


def test_clipping_sees_what_is_trained_alone(reference: str) -> None:
    stepper = Stepper(job(reference + "Statistic", optimizer={"clip": 1e-3}), DATA)
    stepper.vector[4:] = 1e6
    compute(stepper, batch())
    assert np.linalg.norm(stepper.gradients[0][:4]) == pytest.approx(1e-3, rel=1e-2)
    assert (stepper.gradients[0][4:] > 2e5).all()


def test_a_rate_for_averages_alone_is_refused(reference: str) -> None:
    made = job(reference + "Statistic", optimizer={"rates": ["mean:0.1"]})
    with pytest.raises(UserError) as refused:
        Stepper(made, DATA)
    assert str(refused.value) == (
        "optimizer.rates = mean: expected a pattern that matches a parameter of the model; "
        "the parameters are w"
    )


@pytest.mark.parametrize("accumulate", [False, True])
def test_each_gradient_is_clipped_as_a_whole(accumulate: bool) -> None:
    plain = Stepper(job("mlp", args={"hidden": []}), DATA)
    clipped = Stepper(job("mlp", args={"hidden": []}, optimizer={"clip": 0.01}), DATA)
    total = np.zeros_like(plain.vector)
    for seed in range(2):
        compute(plain, batch(seed=seed))
        norm = np.linalg.norm(plain.gradients[0])
        assert norm > 0.01
        part = plain.gradients[0] * (0.01 / norm)
        total = total + part if accumulate else part
        compute(clipped, batch(seed=seed), accumulate=accumulate and seed > 0)
    np.testing.assert_allclose(clipped.gradients[0], total, rtol=1e-4)
