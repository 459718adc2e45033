"""`bench straggler`: its rows, its sleepy model, and a run of each kind."""

from math import inf

import numpy as np
import pytest

from dualshard.bench import sleepy, straggler
from dualshard.bench.sleepy import Sleepy, build, own_rank
from dualshard.bench.straggler import ASYNC, BSP, QUORUM, SSP, TARGET, UNDISTURBED, make_rows


def test_the_promises_are_the_quorum_s_and_that_ssp_beats_bsp():
    found = {UNDISTURBED: [1.0], BSP: [10.0], QUORUM: [1.25], SSP: [5.0], ASYNC: [inf]}
    by_name = {row.name: row for row in make_rows("simulated", found)}
    start = f"simulated: seconds to {TARGET:.0%}"
    assert by_name[f"{start}, {UNDISTURBED}"].value == 1.0
    assert by_name[f"{start}, {ASYNC}, against {UNDISTURBED}"].ratio is None
    quorum = by_name[f"{start}, {QUORUM}, against {UNDISTURBED}"]
    assert (quorum.ratio, quorum.holds) == (0.8, True)
    plain = by_name[f"{start}, {BSP}, against {UNDISTURBED}"]
    assert (plain.ratio, plain.goal) == (pytest.approx(0.1), None)
    between = by_name[f"{start}, {SSP}, against {BSP}"]
    assert (between.ratio, between.goal, between.holds) == (2.0, 1.0, True)


def test_in_simulated_time_the_quorum_keeps_its_promise_and_ssp_lies_between():
    seconds = {
        mode: straggler._simulated(mode, 0).seconds_to(0.85)
        for mode in (UNDISTURBED, BSP, QUORUM, SSP)
    }
    assert seconds[QUORUM] <= 1.3 * seconds[UNDISTURBED]
    assert seconds[BSP] > 5 * seconds[UNDISTURBED]
    assert seconds[QUORUM] < seconds[SSP] < seconds[BSP]


def test_the_sleepy_model_is_the_net_and_sleeps_longer_in_one_worker(monkeypatch):
    slept = []
    monkeypatch.setattr(sleepy, "sleep", slept.append)
    monkeypatch.setattr(sleepy.sys, "argv", ["dualshard", "worker", "--rank", "3"])
    assert own_rank(["dualshard", "worker"]) == -1
    for straggler_rank in (3, 2):
        model = build(4, 2, 0.01, 10, straggler_rank)
        assert isinstance(model, Sleepy)
        arrays = {name: np.zeros(shape, np.float32) for name, shape in model.shapes().items()}
        model.start(arrays, np.random.default_rng(0))
        gradients = {name: np.zeros_like(array) for name, array in arrays.items()}
        batch = np.ones((3, 4), np.float32), np.array([0, 1, 1])
        metrics = model.gradients(arrays, gradients, batch, np.random.default_rng(0))
        assert metrics["loss"] == pytest.approx(model.evaluate(arrays, batch)["loss"])
        assert any(np.any(gradient) for gradient in gradients.values())
    assert slept == [pytest.approx(0.1), 0.01]


@pytest.mark.processes
def test_a_run_of_real_processes(tmp_path):
    run = straggler._real(QUORUM, 0, tmp_path / "run", {"job.epochs": 1})
    assert len(run.evaluations) >= 5
