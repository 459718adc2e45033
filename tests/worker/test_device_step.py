"""A step on a device against the same step on the host; the device is NumPy with late copies."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_kernels import FakeCupy
from host_device import HostDevice

from dualshard.common.cluster import DataShape
from dualshard.common.errors import UserError
from dualshard.common.job import Job
from dualshard.common.messages import Portion
from dualshard.worker.batches import Lease, Minibatch
from dualshard.worker.device import Found
from dualshard.worker.device_step import NOT_PINNED, DeviceStepper, KeepsToTheHost, stepper_on
from dualshard.worker.events import Compute
from dualshard.worker.step import Stepper, in_own_memory

DATA = DataShape(100, 20, 3, (2, 2), 5)
SIZE = 4 * 6 + 6 + 6 * 3 + 3


def job(**settings: Any) -> Job:
    model = settings.pop("model", {"ref": "mlp", "args": {"hidden": [6]}})
    return Job.from_dict({"model": model, **settings})


def batches(count: int, samples: int = 5, dtype: Any = np.float32) -> list[Minibatch]:
    random = np.random.default_rng(0)
    made = []
    for number in range(count):
        inputs = (random.random((samples, 2, 2)) * 255).astype(dtype)
        labels = random.integers(0, 3, samples)
        lease = Lease("tcp://there:1", Portion(0, 0, False, inputs, labels), 1)
        made.append(Minibatch(lease, number, inputs, labels))
    return made


def pair(**settings: Any) -> tuple[Stepper, DeviceStepper, HostDevice]:
    device = HostDevice()
    made = job(**settings)
    return Stepper(made, DATA), DeviceStepper(made, DATA, device), device


def copies(device: HostDevice, lane: int, way: str) -> list[int]:
    """Bytes of the lane's copies in one direction; stream 0 evaluates."""
    return [size for done, size in device.streams[lane + 1].copies if done == way]


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_a_gradient_comes_down_whole_and_in_one_copy(dtype: Any) -> None:
    host, there, device = pair()
    (batch,) = batches(1, dtype=dtype)
    expected = host.compute(Compute(0, [batch]))
    assert there.compute(Compute(0, [batch], bring=True)) == [pytest.approx(expected[0])]
    np.testing.assert_array_equal(there.gradients[0], host.gradients[0])
    assert there.gradients[0].any()
    down = copies(device, 0, "down")
    assert down.count(4 * SIZE) == 1
    assert sum(down) <= 4 * SIZE + 8, "measures aside, nothing else comes down"


def test_nothing_comes_down_that_was_not_asked_for() -> None:
    _, there, device = pair(train={"n_push": 3})
    there.compute(Compute(0, batches(1)))
    assert not there.gradients[0].any()
    assert 4 * SIZE not in copies(device, 0, "down")


def test_a_step_that_has_only_started_has_brought_nothing() -> None:
    _, there, _ = pair()
    pending = there.start(Compute(0, batches(1), bring=True))
    assert not there.gradients[0].any()
    pending.finish()
    assert there.gradients[0].any()


def test_gradients_are_added_up_on_the_device() -> None:
    host, there, device = pair()
    for number, batch in enumerate(batches(3)):
        host.compute(Compute(0, [batch], accumulate=number > 0))
        there.compute(Compute(0, [batch], accumulate=number > 0))
    there.compute(Compute(0, [], bring=True))
    np.testing.assert_array_equal(there.gradients[0], host.gradients[0])
    assert copies(device, 0, "down").count(4 * SIZE) == 1


def test_only_what_servers_have_changed_goes_up() -> None:
    host, there, device = pair()
    host.vector[4:9] = there.vector[4:9] = 2.0
    there.vector[20:] = 77.0  # nobody has told of these
    (batch,) = batches(1)
    host.compute(Compute(0, [batch]))
    there.compute(Compute(0, [batch], fresh=((4, 9),), bring=True))
    np.testing.assert_array_equal(there.gradients[0], host.gradients[0])
    assert 4 * 5 in copies(device, 0, "up")


def test_what_one_lane_has_taken_up_the_next_one_sees() -> None:
    settings = {"worker": {"threads": 2}, "train": {"in_flight": 1}}
    host, there, _ = pair(**settings)
    host.vector[:] = there.vector[:] = 0.25
    one, two = batches(2)
    first = there.start(Compute(0, [one], fresh=((0, SIZE),), bring=True))
    there.compute(Compute(1, [two], bring=True))
    first.finish()
    for lane, batch in enumerate((one, two)):
        host.compute(Compute(lane, [batch]))
        np.testing.assert_array_equal(there.gradients[lane], host.gradients[lane])


@pytest.mark.parametrize("rule", ["sgd", "momentum", "rmsprop", "adam"])
def test_local_steps_are_the_hosts(rule: str) -> None:
    optimizer = {"rule": rule, "lr": 0.1, "weight_decay": 0.01, "rates": ["*.bias:2"], "clip": 0.5}
    host, there, device = pair(optimizer=optimizer, train={"mode": "local"})
    start = there.vector.copy()
    made = batches(5)
    expected = host.compute(Compute(0, made, step=True, progress=0.3))
    found = there.compute(Compute(0, made, step=True, progress=0.3))
    assert found == [pytest.approx(metrics) for metrics in expected]
    np.testing.assert_array_equal(there.vector, start)
    there.compute(Compute(0, [], bring=True))
    np.testing.assert_array_equal(there.vector, host.vector)
    assert copies(device, 0, "down").count(4 * SIZE) == 1


def test_an_evaluation_is_the_hosts_and_leaves_the_parameters() -> None:
    host, there, _ = pair()
    snapshot = np.random.default_rng(1).normal(size=SIZE).astype(np.float32)
    portions = [(batch.inputs, batch.labels) for batch in batches(1, 7) + batches(1, 3)]
    total, metrics = host.evaluate(snapshot, portions)
    assert there.evaluate(snapshot, portions) == (total, pytest.approx(metrics))
    (batch,) = batches(1)
    host.compute(Compute(0, [batch]))
    there.compute(Compute(0, [batch], bring=True))
    np.testing.assert_array_equal(there.gradients[0], host.gradients[0])


def test_vectors_are_page_locked_where_they_lie() -> None:
    memory = np.zeros((2, SIZE), np.float32)
    device = HostDevice()
    there = DeviceStepper(job(), DATA, device, lambda rows, size: memory)
    assert [array is memory for array in device.pinned_arrays] == [True]
    assert there.pinned
    assert np.shares_memory(there.gradients[0], memory)


def test_it_tells_the_state_that_its_arrays_are_copies() -> None:
    host, there, _ = pair()
    assert not host.built().remote
    assert there.built().remote
    assert there.built().factored == ()
    assert there.factors(0) == {}


def test_a_label_that_is_no_class_is_found_while_it_is_on_the_host() -> None:
    _, there, _ = pair()
    (batch,) = batches(1)
    batch.labels[2] = 3
    with pytest.raises(UserError, match="label 3 in row 2 of a batch"):
        there.compute(Compute(0, [batch]))


MINE = """
from dualshard.worker.model import Model


class Mine(Model):
    def shapes(self):
        return {"w": (4,)}

    def start(self, parameters, rng):
        parameters["w"][:] = 0

    def gradients(self, parameters, gradients, batch, rng):
        gradients["w"][:] = 1
        return {"loss": 1.0}

    def evaluate(self, parameters, batch):
        return {"loss": 1.0}


class Movable(Mine):
    def use(self, xp):
        return True


class Listing(Movable):
    def gradients(self, parameters, gradients, batch, rng):
        return [1.0]


class Lazy(Movable):
    def gradients(self, parameters, gradients, batch, rng):
        return {"loss": 1.0}
"""


@pytest.fixture
def ref(tmp_path: Any) -> str:
    (tmp_path / "mine.py").write_text(MINE)
    return f"{tmp_path / 'mine.py'}:"


def foreign() -> HostDevice:
    """A device whose arrays are not NumPy's, as far as a model can tell."""
    device = HostDevice()
    device.xp = FakeCupy(Path())
    return device


def test_a_model_that_keeps_to_the_host_is_one_line(ref: str) -> None:
    def allocate(rows: int, size: int) -> Any:
        raise AssertionError("it is known before that")

    made = job(model={"ref": ref + "Mine"}, worker={"device": "cuda:0"})
    with pytest.raises(KeepsToTheHost) as refused:
        stepper_on(Found(foreign(), "there"), made, DATA, allocate)
    assert str(refused.value) == (
        f"worker.device = cuda:0: expected a model that computes on cuda:0, but {ref}Mine keeps to "
        "the host; give it use(xp) (see docs/models.md), or set worker.device=cpu"
    )


def test_auto_leaves_a_model_that_keeps_to_the_host_there(ref: str) -> None:
    made = job(model={"ref": ref + "Mine"}, worker={"device": "auto"})
    stepper, line = stepper_on(Found(foreign(), "there"), made, DATA, in_own_memory)
    assert type(stepper) is Stepper
    assert line == (
        f"device auto: cuda:0 is there, but {ref}Mine keeps to the host: computing on the CPU"
    )


@pytest.mark.parametrize("pinned", [True, False])
def test_memory_that_cannot_be_locked_is_told(
    ref: str, pinned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = foreign()
    monkeypatch.setattr(device, "pin", lambda array: pinned)
    made = job(model={"ref": ref + "Movable"}, worker={"device": "cuda:0"})
    stepper, line = stepper_on(Found(device, "there"), made, DATA, in_own_memory)
    assert isinstance(stepper, DeviceStepper)
    assert line == "there" + ("" if pinned else NOT_PINNED)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "Listing",
            "gradients() to return a dictionary of measures; it returned one of type list",
        ),
        (
            "Lazy",
            "every gradient to be written at each call; 4 of the 4 elements of gradients['w'] were "
            "not",
        ),
    ],
)
def test_a_model_that_breaks_its_contract_is_one_line(ref: str, name: str, expected: str) -> None:
    with pytest.raises(UserError) as refused:
        DeviceStepper(job(model={"ref": ref + name}, optimizer={"clip": 1.0}), DATA, HostDevice())
    assert str(refused.value) == f"model.ref = {ref}{name}: expected {expected}"
