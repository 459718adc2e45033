"""Mixup and normalisation through a whole cluster: images as bytes, labels as rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulation import Simulation, make_job, write_npz

from dualshard.common.messages import Shelved


def stripes(folder: Path, samples: int = 160) -> Path:
    """Images of 8x8 bytes: the class is the bright third of it."""
    random = np.random.default_rng(5)
    labels = np.arange(samples) % 3
    images = random.integers(0, 90, (samples, 8, 8))
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 2] += 120
    return write_npz(folder / "stripes.npz", images.astype(np.uint8), labels)


def run(folder: Path, *augment: str, **settings: Any) -> Simulation:
    values = {
        "model__ref": "mlp",
        "model__args": {"hidden": [16]},
        "optimizer__rule": "rmsprop",
        "optimizer__lr": 0.01,
        "train__staleness_scaling": 0.5,
        "job__epochs": 12,
        "worker__count": 2,
        "data__augment": list(augment),
        **settings,
    }
    sim = Simulation(make_job(stripes(folder), **values))
    sim.run()
    sim.check()
    return sim


@pytest.mark.parametrize("mode", ["async", "bsp", "local"])
def test_it_learns(tmp_path: Path, mode: str) -> None:
    sim = run(tmp_path, "shift:0.5", "mixup:0.2", "normalise:0.3:0.2", train__mode=mode)
    assert sim.evaluations()[-1]["accuracy"] == 1.0
    assert sim.controller.cluster.data is not None
    assert sim.controller.cluster.data.soft
    assert sim.controller.cluster.data.mean == (0.3,)


def test_normalising_is_the_same_as_normalised_samples(tmp_path: Path) -> None:
    """Against an archive of float32 that was normalised before, with equal first values."""
    settings = {"train__mode": "bsp", "worker__count": 1, "job__epochs": 2}
    by_worker = run(tmp_path, "normalise:0.3:0.2", **settings)
    stored = np.load(stripes(tmp_path))
    inputs = ((stored["x_train"] / 255.0 - 0.3) / 0.2).astype(np.float32)
    archive = write_npz(tmp_path / "floats.npz", inputs, stored["y_train"])
    before = run(tmp_path, **settings, data__source=f"npz:{archive}")
    assert before.model is not None
    np.testing.assert_allclose(by_worker.model, before.model, atol=2e-3)


def test_images_travel_as_bytes_and_mixed_labels_as_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Any, ...]] = []
    wrote = Shelved.__init__

    def remember(self: Shelved, *values: Any, **more: Any) -> None:
        wrote(self, *values, **more)
        seen.append((self.dtype, self.labels.dtype, self.labels.shape[1:]))

    monkeypatch.setattr(Shelved, "__init__", remember)
    run(tmp_path, "mixup:0.2", "normalise:0.3:0.2", job__epochs=1)
    assert set(seen) == {("|u1", np.dtype(np.float32), (3,))}
