"""What ρ does to real training: the images of digits inside scikit-learn, two parts."""

from typing import Any

import numpy as np
import pytest
from part_cases import make

from dualshard.bench.cut_nets import Wired
from dualshard.common.cluster import DataShape
from dualshard.common.types import Arrays, Metrics

DATA = DataShape(1500, 297, 10, (8, 8), 1)


@pytest.fixture(scope="module")
def digits() -> tuple[Arrays, Arrays]:
    """Images in [0, 1] to train on, and others."""
    datasets: Any = pytest.importorskip("sklearn.datasets")
    found = datasets.load_digits()
    images, labels = (found.images / 16).astype(np.float32), found.target.astype(np.int64)
    return (images[:1500], labels[:1500]), (images[1500:], labels[1500:])


def trained(
    digits: tuple[Arrays, Arrays], epochs: int = 8, coupling: str = "activations", **sections: Any
) -> tuple[Wired, Metrics]:
    """64-32-16-10 after some sweeps over the digits; measures on the others."""
    tables: dict[str, Any] = {
        "model": {"ref": "mlp", "args": {"hidden": [32, 16]}},
        "data": {"batch_size": 32},
        "optimizer": {"rule": "adam", "lr": 3e-3, "schedule": "constant"},
        "admm": {"macro_batch": 128},
    }
    for name, section in sections.items():
        tables[name] = {**tables.get(name, {}), **section}
    wired = Wired.of(make("", ["relu1"], coupling, **tables), DATA)
    with np.errstate(all="ignore"):
        for epoch in range(epochs):
            wired.epoch(digits[0], epoch, epochs)
        return wired, wired.evaluate([digits[1]])


SGD = {"rule": "sgd", "lr": 0.1}


@pytest.mark.parametrize("schedule", ["capped", "fixed", "residual"])
@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_digits_are_learnt(digits: tuple[Arrays, Arrays], schedule: str, gamma: float) -> None:
    """γ = 0 is the quadratic penalty method."""
    _, found = trained(digits, admm={"schedule": schedule, "gamma": gamma, "macro_batch": 128})
    assert found["accuracy"] > 0.85


def test_plain_sgd_takes_one_rate_for_all_parts(digits: tuple[Arrays, Arrays]) -> None:
    _, found = trained(digits, optimizer=SGD)
    assert found["accuracy"] > 0.85


def test_times_ten_without_end_diverges_under_plain_sgd(digits: tuple[Arrays, Arrays]) -> None:
    wired, found = trained(digits, optimizer=SGD, admm={"schedule": "x10", "macro_batch": 128})
    assert np.abs(wired.vector()).max() > 50  # none is above 2 at first
    assert found["accuracy"] < 0.2


def test_times_ten_without_end_freezes_the_lower_part_under_adam(
    digits: tuple[Arrays, Arrays],
) -> None:
    """Its targets are where its outputs are already, while the top part learns on."""
    wired, found = trained(digits, admm={"schedule": "x10", "macro_batch": 128})
    _, capped = trained(digits)
    assert found["loss"] > capped["loss"] + 0.03
    before = [stepper.vector.copy() for stepper in wired.steppers]
    wired.epoch(digits[0], 8, 8)
    below, top = (
        np.abs(stepper.vector - was).max()
        for stepper, was in zip(wired.steppers, before, strict=True)
    )
    assert below < 1e-4 < 1e-2 < top
