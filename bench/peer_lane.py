"""Our side of `bench compute`: a worker's lane that steps by itself, in a process of its own.

`python -m dualshard.bench.peer_lane NET BATCH DEVICE FOLDER` builds what a worker in mode `local`
builds, makes one step, leaves what went in and what came out in `FOLDER/step.npz` for the other
side to check, and then answers as `peers` says. Each measurement begins with the first parameters:
after thousands of steps on the same few minibatches there would be no gradients left to compute.
"""

import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from ..common.cluster import DataShape
from ..common.job import Job
from ..common.messages import Portion
from ..common.runtime import keep_freed_memory
from ..common.types import Metrics
from ..worker.batches import Lease, Minibatch
from ..worker.device import find
from ..worker.events import Compute
from ..worker.state import BURST_SECONDS
from ..worker.step import Stepper
from ..worker.zoo import ZOO
from .answering import serve, timed
from .nets import CLASSES, NETS

RATE = 2.0**-8
"""Of the steps."""
MINIBATCHES = 16
"""Different ones, taken in turn."""


class LaneSteps:
    """One lane of a worker and minibatches of random pixels and labels."""

    def __init__(self, net: str, batch: int, device: str) -> None:
        shape = NETS[net].sample_shape
        random = np.random.default_rng(0)
        self.inputs = random.random((MINIBATCHES, batch, *shape), np.float32)
        self.labels = random.integers(0, CLASSES, (MINIBATCHES, batch))
        job, data = make_job(net, batch, device), DataShape(60_000, 10_000, CLASSES, shape, 1)
        self._averaged = ZOO[net]().averaged
        self._stepper = make_stepper(job, data)
        self._first = self._stepper.vector.copy()
        self._minibatches = [
            as_minibatch(inputs, labels)
            for inputs, labels in zip(self.inputs, self.labels, strict=True)
        ]

    def first_step(self) -> dict[str, Any]:
        """What went in and what came out of one step: `inputs`, `labels`, `loss`, and before and
        after it each parameter that is no running average, as `before.NAME` and `after.NAME`."""
        (metrics,) = self._restart(bring=True)
        found: dict[str, Any] = {"inputs": self.inputs, "labels": self.labels}
        found["loss"] = metrics["loss"]
        for moment, vector in (("before", self._first), ("after", self._stepper.vector.copy())):
            for name, values in self._stepper.layout.views(vector).items():
                if not self._averaged(name):
                    found[f"{moment}.{name}"] = values
        return found

    def measure(self, seconds: float) -> float:
        """Samples/s, for at least so many seconds."""
        self._restart()
        begin = perf_counter()
        self._steps(self._minibatches[:1])
        size = burst(perf_counter() - begin)
        bursts = [self._minibatches[at : at + size] for at in range(0, MINIBATCHES, size)]
        often = timed(lambda number: self._steps(bursts[number % len(bursts)]), seconds)
        return often * size * int(self.inputs.shape[1])

    def _restart(self, *, bring: bool = False) -> list[Metrics]:
        """One step from the first parameters; `bring` what has become of them to the host."""
        self._stepper.vector[:] = self._first
        fresh = ((0, self._first.size),)
        action = Compute(0, self._minibatches[:1], step=True, fresh=fresh, bring=bring)
        return self._stepper.compute(action)

    def _steps(self, minibatches: list[Minibatch]) -> list[Metrics]:
        return self._stepper.compute(Compute(0, minibatches, step=True))


def burst(pace: float) -> int:
    """Minibatches that are handed over at once, a power of 2: about as many as the worker's state
    gives a lane in mode local, where each takes `pace` seconds."""
    most = min(MINIBATCHES, max(1, int(BURST_SECONDS / pace)))
    return 1 << most.bit_length() - 1


def make_stepper(job: Job, data: DataShape) -> Stepper:
    """What a worker steps with, on the device that the job asks for."""
    device = find(job.worker.device).device
    if device is None:
        return Stepper(job, data)
    from ..worker.device_step import DeviceStepper  # CuPy, and its kernels

    return DeviceStepper(job, data, device)


def make_job(net: str, batch: int, device: str) -> Job:
    """A worker that steps by itself with plain SGD."""
    return Job.from_dict(
        {
            "model": {"ref": net},
            "data": {"batch_size": batch},
            "train": {"mode": "local"},
            "optimizer": {"rule": "sgd", "lr": RATE, "schedule": "constant"},
            "worker": {"count": 1, "device": device},
        }
    )


def as_minibatch(inputs: Any, labels: Any) -> Minibatch:
    """A minibatch that came alone in its portion."""
    portion = Portion(0, 0, False, inputs, labels)
    return Minibatch(Lease("", portion, 1), 0, inputs, labels)


def main() -> None:
    """Step once, leave it to be checked, then answer."""
    net, batch, device, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    keep_freed_memory()  # as our roles do
    with threadpool_limits(1, "blas"):
        side = LaneSteps(net, batch, device)
        np.savez(folder / "step.npz", **side.first_step())
        serve({"a lane that steps by itself": side.measure})


if __name__ == "__main__":
    main()
