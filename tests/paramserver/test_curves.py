"""curves.png is a picture, whatever rows there are."""

import struct
from pathlib import Path
from typing import Any

import pytest

from dualshard.paramserver.controller.curves import draw_curves


def epoch(number: int, **more: Any) -> dict[str, Any]:
    return {
        "epoch": number,
        "loss": 1.0 / (number + 1),
        "accuracy": 0.5,
        "staleness": 1.5,
        "samples_per_second": 1000.0,
        **more,
    }


def crossed(number: int, **more: Any) -> dict[str, Any]:
    """An epoch of a cut net."""
    residuals = {"primal": 0.1 / (number + 1), "dual": 1e-3, "rho": 0.01}
    traffic = {"rounds": 12, "bytes_up": 6_000_000, "bytes_down": 6_000_000}
    return epoch(number, **{**residuals, **traffic, "idle": {"0": 0.25, "1": 0.5}, **more})


def evaluation(epochs: float, **more: Any) -> dict[str, Any]:
    return {"epochs": epochs, "loss": 0.5 / epochs, **more}


@pytest.mark.parametrize(
    ("epochs", "evaluations"),
    [
        ([epoch(n) for n in range(3)], [evaluation(n + 1, accuracy=0.7) for n in range(3)]),
        ([epoch(n) for n in range(60)], [evaluation(0.5)]),
        ([epoch(0)], []),
        ([], []),
        ([epoch(0, loss=0.0)], [evaluation(1.0, accuracy=0.5)]),
        ([crossed(n) for n in range(3)], [evaluation(1.0, accuracy=0.5)]),
        ([crossed(0, idle={}, primal=0.0), epoch(1)], []),
    ],
    ids=[
        "three epochs",
        "many epochs, no accuracy",
        "no evaluation",
        "nothing",
        "zero loss",
        "a cut net",
        "a cut net, nothing measured",
    ],
)
def test_it_draws_a_png(
    tmp_path: Path, epochs: list[dict[str, Any]], evaluations: list[dict[str, Any]]
) -> None:
    path = tmp_path / "no-suffix-yet"
    draw_curves(path, epochs, evaluations)
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    assert (width, height) == (1100, 1100 if any("rounds" in row for row in epochs) else 770)
