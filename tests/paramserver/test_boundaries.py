"""The columns of a cut net: means over rounds, bytes over all boundaries, idle machines."""

import pytest

from dualshard.paramserver.controller.boundaries import boundary_row

SUMS = {
    "rounds": 4.0,
    "boundary_up": 4000.0,
    "boundary_down": 2000.0,
    "primal": 2.0,
    "dual": 0.4,
    "rho": 0.04,
    "gap": 0.2,
    "lateness": 6.0,
    "busy.0": 6.0,
    "busy.1": 2.0,
    "samples": 100.0,
}


def test_sums_become_means_over_rounds_and_idle_fractions() -> None:
    row = boundary_row(SUMS, 4.0, 2)
    assert row.pop("idle") == pytest.approx({"0": 0.25, "1": 0.75})
    assert {name: row.pop(name) for name in ("rounds", "bytes_up", "bytes_down")} == {
        "rounds": 4,
        "bytes_up": 4000,
        "bytes_down": 2000,
    }
    means = {"primal": 0.5, "dual": 0.1, "rho": 0.01, "gap": 0.05, "lateness": 1.5}
    assert row == pytest.approx(means)


def test_each_boundary_is_told_apart_where_there_are_more_and_bytes_add_up() -> None:
    sums = {"rounds": 4.0, "primal.0": 2.0, "primal.1": 3.0, "boundary_up.0": 8, "boundary_up.1": 4}
    row = boundary_row(sums, 1.0, 1)
    assert (row["primal"], row["primal.1"], row["bytes_up"]) == (0.5, 0.75, 12)
    assert "idle" not in row


@pytest.mark.parametrize("sums", [{}, {"rounds": 0.0, "busy.0": 1.0}, {"primal": 1.0}])
def test_nothing_without_rounds(sums: dict[str, float]) -> None:
    assert boundary_row(sums, 1.0, 1) == {}


def test_more_time_than_there_was_is_no_negative_idleness() -> None:
    assert boundary_row({"rounds": 1.0, "busy.0": 9.0}, 1.0, 1)["idle"] == {"0": 0.0}
