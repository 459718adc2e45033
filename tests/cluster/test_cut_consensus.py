"""Parts of a cut net that agree by ADMM, undisturbed: each sample once, measures, bytes, bits."""

from typing import Any

import numpy as np
import pytest
from cut_nets import (
    EPOCHS,
    SAMPLES,
    WIDTHS,
    CutNet,
    accuracy_of,
    cut_job,
    model_of,
    trained,
)

ROUNDS = -(-SAMPLES // 64)
BY_ACTIVATIONS = {"partition__coupling": "activations"}
BY_WEIGHTS = {"partition__coupling": "weights"}
LATE = {"admm__wait": False, "admm__ahead": 4}
STORIES: dict[str, tuple[int, dict[str, Any], float]] = {
    "2 parts": (2, BY_ACTIVATIONS, 0.88),
    "2 parts, nobody waits": (2, {**BY_ACTIVATIONS, **LATE}, 0.8),
    "3 parts, nobody waits": (3, {**BY_ACTIVATIONS, **LATE}, 0.8),
    "4 parts": (4, BY_ACTIVATIONS, 0.88),
    "2 replicas of 2 parts": (2, {**BY_ACTIVATIONS, "worker__count": 4}, 0.8),
    "weights, 2 parts": (2, BY_WEIGHTS, 0.92),
    "weights, 3 parts": (3, BY_WEIGHTS, 0.9),
    "weights, 2 replicas of 2 parts": (2, {**BY_WEIGHTS, "worker__count": 4}, 0.85),
}
"""Parts, settings, and what the glued net gets right at least."""


@pytest.mark.parametrize("story", STORIES)
def test_each_sample_counts_once_and_the_glued_net_learns(story: str) -> None:
    parts, settings, least = STORIES[story]
    sim = trained(cut_job(parts, **settings))
    assert accuracy_of(sim) >= least
    assert len(sim.epochs()) == len(sim.evaluations()) == EPOCHS
    for row in sim.epochs():
        assert row["reissued"] == 0
        assert row["rounds"] == ROUNDS
        assert row["late"] == 0


@pytest.mark.parametrize(
    ("parts", "encoding", "size"), [(2, "f32", 4), (4, "f16", 2), (2, "bf16", 2)]
)
def test_what_passes_the_cuts_to_the_byte(parts: int, encoding: str, size: int) -> None:
    sim = trained(cut_job(parts, partition__encoding=encoding, job__epochs=2))
    for row in sim.epochs():
        one_way = SAMPLES * sum(WIDTHS[: parts - 1]) * size
        assert (row["bytes_up"], row["bytes_down"]) == (one_way, one_way)
    totals = sim.controller.board.summary(sim.clock.now())
    assert totals["rounds"] == 2 * ROUNDS
    assert totals["bytes_up"] == totals["bytes_down"] == 2 * one_way
    assert accuracy_of(sim) > 0.6


def test_bytes_code_a_quarter_of_what_passes() -> None:
    plain, packed = trained(cut_job()), trained(cut_job(partition__encoding="int8"))
    for row, whole in zip(packed.epochs(), plain.epochs(), strict=True):
        assert whole["bytes_up"] / 4 <= row["bytes_up"] < whole["bytes_up"] / 3.8
    assert accuracy_of(packed) >= accuracy_of(plain) - 0.05


def test_copies_of_the_boundary_layer_travel_beside_the_activations() -> None:
    """Up with each round, and down as its answer."""
    sim = trained(cut_job(2, **BY_WEIGHTS, job__epochs=1))
    (row,) = sim.epochs()
    copy = 4 * ROUNDS * (WIDTHS[0] * WIDTHS[1] + WIDTHS[1])
    assert row["bytes_down"] == copy
    assert row["bytes_up"] == 4 * SAMPLES * WIDTHS[0] + copy


def test_measures_of_every_boundary() -> None:
    sim = trained(cut_job(3, job__epochs=2))
    for row in sim.epochs():
        for name in ("primal", "dual", "gap", "rho"):
            assert row[f"{name}"] > 0
            assert row[f"{name}.1"] > 0
        assert row["lateness"] == row["lateness.1"] == 0
        assert 0 < row["gap"] < 1
        assert set(row["idle"]) == {"0", "1", "2"}
        assert all(0 < idle < 1 for idle in row["idle"].values())
        assert 0 < row["accuracy"] <= 1
        assert 0 < row["loss"] < 10
        # Three passes of each part, of which the bottom one counts.
        assert row["steps"] == 3 * 90
    # Capped: ten times as much every round, from 1e-4 to 0.01, of which the epoch has the mean.
    first, second = (row["rho.1"] for row in sim.epochs())
    assert first == pytest.approx((1e-4 + 1e-3 + (ROUNDS - 2) * 0.01) / ROUNDS)
    assert second == pytest.approx(0.01)


@pytest.mark.parametrize("coupling", ["activations", "weights", "backprop"])
def test_equal_jobs_give_equal_bits(coupling: str) -> None:
    job = cut_job(3, partition__coupling=coupling, job__epochs=2)
    one, other = trained(job), trained(job)
    np.testing.assert_array_equal(model_of(one), model_of(other))
    assert one.rows == other.rows


@pytest.mark.parametrize("coupling", ["activations", "backprop"])
def test_where_parts_wait_time_changes_no_bit(coupling: str) -> None:
    """Two data servers, and parts, data and messages at other paces."""
    job = cut_job(3, partition__coupling=coupling, job__epochs=2, dataserver__count=2)
    expected = trained(job)
    paces = {"dataserver-0": 0.05, "paramserver-1": 0.02}
    slow = trained(job, compute=lambda rank: (0.01, 0.03, 0.002)[rank], pace=paces)
    np.testing.assert_array_equal(model_of(slow), model_of(expected))
    assert slow.clock.now() > 1.2 * expected.clock.now()


def test_nothing_is_in_flight_between_two_legs() -> None:
    """Each leg ends with all that was learnt on the servers: their counts of pushes say so."""
    sim = CutNet(cut_job(3, job__epochs=1, train__n_push=1000))
    sim.run()
    sim.check()
    sim.check_learnt()
    assert sim.pushes() == sim.shards(), "one of each part, when it settles"
