"""Dense layers pushed as activations and errors: the same training, in fewer bytes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulation import Simulation, blobs, make_job

from dualshard.common.messages import Push
from dualshard.worker.state import Worker

NET: dict[str, Any] = {
    "model__ref": "mlp",
    "model__args": {"hidden": [64, 64]},
    "data__batch_size": 4,
    "optimizer__lr": 0.05,
    "job__epochs": 2,
    "worker__count": 1,
}
ELEMENTS = 12 * 64 + 64 + 64 * 64 + 64 + 64 * 3 + 3


def run(tmp_path: Path, factors: str, **settings: Any) -> Simulation:
    sim = Simulation(make_job(blobs(tmp_path), **{**NET, **settings, "train__factors": factors}))
    sim.run()
    sim.check()
    assert sim.model is not None
    assert sim.model.size == ELEMENTS
    return sim


def bytes_pushed(sim: Simulation) -> int:
    return int(sum(row["bytes_pushed"] for row in sim.epochs()))


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of all pushes, in order."""
    seen: list[str] = []
    ask = Worker.ask_owner

    def asks(self: Worker, message: Any, tag: Any) -> None:
        if isinstance(message, Push):
            seen.append(message.encoding)
        ask(self, message, tag)

    monkeypatch.setattr(Worker, "ask_owner", asks)
    return seen


@pytest.mark.parametrize(
    ("shard_bytes", "servers", "most"),
    [(1 << 20, 1, 0.3), (4096, 3, 0.6), (4 * 777, 2, 0.7)],
    ids=["one shard", "several servers", "rows cut"],
)
@pytest.mark.parametrize("mode", ["async", "ssp", "bsp"])
def test_the_training_is_the_same_in_fewer_bytes(
    tmp_path: Path, encodings: list[str], mode: str, shard_bytes: int, servers: int, most: float
) -> None:
    settings = {
        "train__mode": mode,
        "paramserver__shard_bytes": shard_bytes,
        "paramserver__count": servers,
    }
    auto = run(tmp_path, "auto", **settings)
    assert "factors" in encodings
    encodings.clear()
    off = run(tmp_path, "off", **settings)
    assert set(encodings) == {"f32"}
    assert auto.model is not None
    np.testing.assert_allclose(auto.model, off.model, atol=2e-6)
    assert bytes_pushed(off) == off.pushes() // off.shards() * 4 * ELEMENTS
    assert bytes_pushed(auto) < most * bytes_pushed(off)
    assert auto.pushes() == off.pushes()


def test_one_shard_takes_exactly_the_factors_and_what_has_none(tmp_path: Path) -> None:
    auto = run(tmp_path, "auto", paramserver__shard_bytes=1 << 20)
    # The last layer's factors, 4 · (64 + 3), are more than three quarters of its 192 elements.
    numbers = 4 * (12 + 64) + 4 * (64 + 64) + 64 + 64 + 3 + 192
    assert bytes_pushed(auto) == auto.pushes() * 4 * numbers


def test_several_workers_train_together(tmp_path: Path, encodings: list[str]) -> None:
    settings = {"worker__count": 3, "train__mode": "bsp", "paramserver__shard_bytes": 4096}
    auto, off = run(tmp_path, "auto", **settings), run(tmp_path, "off", **settings)
    assert "factors" in encodings
    assert auto.model is not None
    np.testing.assert_allclose(auto.model, off.model, atol=2e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer__clip": 1.0},
        {"optimizer__clip_value": 0.1},
        {"train__n_push": 2},
        {"train__mode": "local", "train__n_push": 2},
        {"train__mode": "easgd", "train__n_push": 2},
        {"train__compression": "f16"},
        {"data__batch_size": 50},
    ],
    ids=["clip", "clip_value", "n_push", "local", "easgd", "compression", "wide minibatches"],
)
def test_where_factors_are_not_the_gradient_or_no_shorter_none_are_sent(
    tmp_path: Path, encodings: list[str], settings: dict[str, Any]
) -> None:
    auto = run(tmp_path, "auto", paramserver__shard_bytes=4096, **settings)
    assert "factors" not in encodings
    off = run(tmp_path, "off", paramserver__shard_bytes=4096, **settings)
    assert auto.model is not None
    np.testing.assert_array_equal(auto.model, off.model)
    assert bytes_pushed(auto) == bytes_pushed(off)


def test_on_this_machine_factors_are_sent_where_they_are_always_wanted(
    tmp_path: Path, encodings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto` saves no bytes to a loopback address: they cost less there than the server's work."""
    monkeypatch.setattr("dualshard.worker.routing.is_loopback", lambda address: True)
    run(tmp_path, "auto")
    assert set(encodings) == {"f32"}
    encodings.clear()
    run(tmp_path, "always", paramserver__shard_bytes=1 << 20)
    assert set(encodings) == {"factors"}


def test_a_last_minibatch_of_another_size_has_a_plan_of_its_own(
    tmp_path: Path, encodings: list[str]
) -> None:
    settings = {"data__batch_size": 12, "paramserver__shard_bytes": 1 << 20}
    auto, off = run(tmp_path, "auto", **settings), run(tmp_path, "off", **settings)
    assert 200 % 12 == 8
    assert auto.model is not None
    np.testing.assert_allclose(auto.model, off.model, atol=2e-6)
    # Of the first layer 8 · (12 + 64) is more than three quarters of its 768 elements.
    big, small, rest = 12 * (64 + 64), 8 * (64 + 64), 768 + 64 + 64 + 3 + 192
    assert bytes_pushed(auto) == 2 * 4 * (16 * (big + rest) + small + rest)
