"""Whole clusters whose workers compute on a device, against the same clusters on the host.

The device is NumPy, with copies that are as late as CUDA's may be.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulation import MODELS, Simulation, blobs, make_job

from dualshard.bench import simulated
from dualshard.common.cluster import DataShape
from dualshard.common.job import Job
from dualshard.worker.device_step import DeviceStepper
from dualshard.worker.step import Stepper

sys.path.append(str(Path(__file__).parents[1] / "worker"))
from host_device import HostDevice

RUNNING = f"{MODELS}:Running"
MODES: dict[str, dict[str, Any]] = {
    "async": {},
    "async with local steps": {"train__n_push": 3, "train__n_fetch": 6},
    "two lanes": {"train__in_flight": 2},
    "ssp": {"train__mode": "ssp"},
    "bsp": {"train__mode": "bsp"},
    "bsp of sums": {"train__mode": "bsp", "train__n_push": 2},
    "local": {"train__mode": "local", "train__n_push": 5, "optimizer__rule": "momentum"},
    "local without waiting": {"train__mode": "local", "train__n_push": 4, "train__quorum": 0.0},
    "local on two threads": {"train__mode": "local", "train__n_push": 5, "worker__threads": 2},
    "easgd": {"train__mode": "easgd", "train__n_push": 3},
    "averaged state": {"train__n_push": 2, "model__ref": RUNNING, "model__args": {}},
    "averaged state, local": {
        "train__mode": "local",
        "train__n_push": 3,
        "model__ref": RUNNING,
        "model__args": {},
    },
}


def run(job: Job) -> Simulation:
    sim = Simulation(job, compute=lambda rank: 0.01 * (1 + rank))
    sim.run()
    sim.check()
    return sim


@pytest.mark.parametrize("mode", MODES)
def test_a_cluster_on_devices_gives_the_bits_of_one_on_the_host(
    tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "model__ref": "mlp",
        "model__args": {"hidden": [8]},
        "optimizer__lr": 0.05,
        "optimizer__clip": 1.0,
        "paramserver__shard_bytes": 64,
        "worker__count": 2,
        **MODES[mode],
    }
    job = make_job(blobs(tmp_path), **settings)
    host = run(job)
    devices: list[HostDevice] = []

    def on_device(job: Job, data: DataShape) -> Stepper:
        devices.append(HostDevice())
        return DeviceStepper(job, data, devices[-1])

    monkeypatch.setattr(simulated, "Stepper", on_device)
    there = run(job)
    assert len(devices) == 2
    assert host.model is not None
    assert there.model is not None
    np.testing.assert_array_equal(there.model, host.model)
    assert [row["loss"] for row in there.epochs()] == pytest.approx(
        [row["loss"] for row in host.epochs()]
    )
    whole, shards = 4 * host.model.size, -(-4 * host.model.size // job.paramserver.shard_bytes)
    pushes = sum(row["pushes"] + row["late"] for row in there.epochs()) / shards
    copies = [copy for device in devices for stream in device.streams for copy in stream.copies]
    # Lanes that share an exchange do not know which of them will be the last.
    most = pushes if job.worker.threads == 1 else 2 * pushes
    assert pushes <= copies.count(("down", whole)) <= most, "one copy for a push"
