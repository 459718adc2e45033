"""Exact backprop between the parts of a cut net is the backprop of the net that is not cut."""

from typing import Any

import numpy as np
import pytest
from cut_nets import CutNet, accuracy_of, cut_job, model_of, trained
from simulation import Simulation

from dualshard.common.job import Job
from dualshard.worker.nn.native.program import Program

STEPS: dict[str, Any] = {
    "optimizer__schedule": "constant",
    "train__n_push": 7,
    "partition__coupling": "backprop",
}
"""Rates that do not change: those of a whole net's worker are those of a few steps at once."""
RULES = {"sgd": 0.1, "momentum": 0.02, "rmsprop": 0.002, "adam": 0.005}
WIDTH = {2: 32, 3: 32 + 24}
"""Numbers of a sample that pass the boundaries, one way."""


@pytest.fixture
def layer_by_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole perceptrons compute their layers one after the other, as parts do; all at once, as they
    do else, rounds otherwise."""
    monkeypatch.setattr(Program, "of", classmethod(lambda cls, *net: None))


def whole(job: Job) -> Simulation:
    """The same net in one worker, which steps by itself as parts do."""
    settings = job.to_dict()
    settings["train"]["mode"] = "local"
    settings["worker"]["count"] = 1
    settings["partition"]["cuts"] = []
    sim = Simulation(Job.from_dict(settings))
    sim.run()
    sim.check()
    return sim


def check_equal(one: Simulation, other: Simulation) -> None:
    """To the last bit, in the model and on the way."""
    np.testing.assert_array_equal(model_of(one), model_of(other))
    for name in ("loss", "accuracy"):
        assert [row[name] for row in one.epochs()] == [row[name] for row in other.epochs()]
        measured = [[row[name] for row in sim.evaluations()] for sim in (one, other)]
        assert measured[0] == measured[1]


@pytest.mark.usefixtures("layer_by_layer")
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("parts", [2, 3])
def test_parts_train_to_the_bits_of_the_whole(rule: str, parts: int) -> None:
    more = {"optimizer__rule": rule, "optimizer__lr": RULES[rule], "job__epochs": 2}
    job = cut_job(parts, **STEPS, **more, paramserver__count=1)
    sim = trained(job)
    check_equal(sim, whole(job))
    for row in sim.epochs():
        assert row["rounds"] == 90, "one a minibatch"
        assert row["steps"] == 90
        assert row["bytes_up"] == row["bytes_down"] == 4 * 1438 * WIDTH[parts]


@pytest.mark.usefixtures("layer_by_layer")
def test_however_the_servers_share_the_parameters() -> None:
    more: dict[str, Any] = {**STEPS, "optimizer__weight_decay": 0.01, "job__epochs": 3}
    one = cut_job(3, **more, paramserver__count=1, paramserver__shard_bytes=1 << 20)
    many = cut_job(3, **more, paramserver__count=3, paramserver__shard_bytes=256)
    sims = [trained(one), trained(many)]
    assert [sim.shards() for sim in sims] == [3, 33 + 13 + 9]
    check_equal(*sims)
    check_equal(sims[1], whole(many))
    assert accuracy_of(sims[0]) > 0.9


def test_a_perceptron_that_is_computed_all_at_once_differs_by_rounding() -> None:
    job = cut_job(**STEPS, optimizer__rule="momentum", optimizer__lr=0.02)
    np.testing.assert_allclose(model_of(trained(job)), model_of(whole(job)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("parts", [2, 3])
def test_pieces_of_minibatches_come_to_the_same(parts: int) -> None:
    settings = {**STEPS, "optimizer__rule": "momentum", "optimizer__lr": 0.02}
    one = trained(cut_job(parts, **settings, job__epochs=2))
    four = trained(cut_job(parts, **settings, job__epochs=2, partition__micro_batches=4))
    np.testing.assert_allclose(model_of(four), model_of(one), rtol=1e-5, atol=1e-6)
    for row, whole_row in zip(four.epochs(), one.epochs(), strict=True):
        assert row["rounds"] == 4 * 89 + 4, "the last minibatch has 14 samples"
        assert row["bytes_up"] == whole_row["bytes_up"]
        assert row["loss"] == pytest.approx(whole_row["loss"], rel=1e-5)


def test_pieces_keep_both_parts_at_work() -> None:
    """While one part goes back with a piece, the other goes forward with the next."""
    idle = {}
    for pieces in (1, 4):
        sim = CutNet(cut_job(**STEPS, job__epochs=1, partition__micro_batches=pieces))
        sim.run()
        sim.check()
        (row,) = sim.epochs()
        idle[pieces] = row["idle"]["0"] + row["idle"]["1"]
    assert idle[4] < 0.7 * idle[1]
