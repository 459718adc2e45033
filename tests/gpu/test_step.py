"""Steps and evaluations on a real device against the same on the host."""

import threading
from typing import Any

import numpy as np
import pytest

from dualshard.common.cluster import DataShape
from dualshard.common.job import Job
from dualshard.common.messages import Portion
from dualshard.worker.batches import Lease, Minibatch
from dualshard.worker.device_step import DeviceStepper
from dualshard.worker.events import Compute
from dualshard.worker.step import Stepper

DATA = DataShape(1000, 200, 10, (28, 28), 5)
CLOSE = {"rtol": 1e-3, "atol": 1e-5}


def batches(count: int, samples: int = 32) -> list[Minibatch]:
    random = np.random.default_rng(0)
    made = []
    for number in range(count):
        inputs = random.integers(0, 256, (samples, 28, 28), np.uint8)
        labels = random.integers(0, 10, samples)
        lease = Lease("tcp://there:1", Portion(0, 0, False, inputs, labels), 1)
        made.append(Minibatch(lease, number, inputs, labels))
    return made


def pair(device: Any, model: str, **settings: Any) -> tuple[Stepper, DeviceStepper]:
    job = Job.from_dict({"model": {"ref": model}, **settings})
    return Stepper(job, DATA), DeviceStepper(job, DATA, device)


@pytest.mark.parametrize("model", ["mlp", "lenet", "lenet_bn"])
def test_a_gradient_is_the_hosts(model: str, device: Any) -> None:
    host, there = pair(device, model)
    (batch,) = batches(1)
    (expected,) = host.compute(Compute(0, [batch]))
    (found,) = there.compute(Compute(0, [batch], bring=True))
    assert found == pytest.approx(expected, rel=1e-3)
    np.testing.assert_allclose(there.gradients[0], host.gradients[0], **CLOSE)


def test_gradients_add_up_and_changed_parameters_are_taken_up(device: Any) -> None:
    host, there = pair(device, "mlp", optimizer={"clip": 0.5})
    for number, batch in enumerate(batches(3)):
        host.vector[1000:2000] = there.vector[1000:2000] = number / 10
        host.compute(Compute(0, [batch], accumulate=number > 0))
        there.compute(Compute(0, [batch], accumulate=number > 0, fresh=((1000, 2000),)))
    assert not there.gradients[0].any()
    there.compute(Compute(0, [], bring=True))
    np.testing.assert_allclose(there.gradients[0], host.gradients[0], **CLOSE)


@pytest.mark.parametrize("rule", ["momentum", "rmsprop"])
def test_local_steps_are_the_hosts(rule: str, device: Any) -> None:
    optimizer = {"rule": rule, "lr": 0.001, "weight_decay": 0.01}
    host, there = pair(device, "mlp", optimizer=optimizer, train={"mode": "local"})
    made = batches(8)
    host.compute(Compute(0, made, step=True))
    there.compute(Compute(0, made, step=True, bring=True))
    np.testing.assert_allclose(there.vector, host.vector, rtol=1e-2, atol=1e-4)


def test_an_evaluation_is_the_hosts(device: Any) -> None:
    host, there = pair(device, "lenet_bn")
    portions = [(batch.inputs, batch.labels) for batch in batches(3, 100)]
    total, expected = host.evaluate(host.vector, portions)
    assert there.evaluate(there.vector, portions) == (total, pytest.approx(expected, rel=1e-3))


def test_lanes_of_two_threads_do_not_disturb_each_other(device: Any) -> None:
    host, there = pair(device, "mlp", worker={"threads": 2}, train={"in_flight": 1})
    made = batches(40)

    def work(lane: int) -> None:
        for batch in made[lane::2]:
            there.compute(Compute(lane, [batch], bring=True))

    threads = [threading.Thread(target=work, args=(lane,)) for lane in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for lane in (0, 1):
        host.compute(Compute(lane, [made[38 + lane]]))
        np.testing.assert_allclose(there.gradients[lane], host.gradients[lane], **CLOSE)
