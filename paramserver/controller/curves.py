"""curves.png: how loss, accuracy, staleness and speed went, from the rows of metrics.jsonl."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

Rows = Sequence[dict[str, Any]]


RESIDUALS = {"primal": "primal ‖x - y‖", "dual": "dual ρ‖Δx‖", "rho": "ρ"}
"""What is shown of the lowest boundary, and how it is called."""


def draw_curves(path: Path, epochs: Rows, evaluations: Rows) -> None:
    """Draw four panels over the epochs into a PNG, and three more where a boundary is crossed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    crossed = [row for row in epochs if "rounds" in row]
    figure = Figure(figsize=(10, 10 if crossed else 7), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower, *third = figure.subplots(3 if crossed else 2, 2)
    (loss, accuracy), (staleness, speed) = upper, lower
    done = [row["epoch"] + 1 for row in epochs]
    tested = [row["epochs"] for row in evaluations]
    marker = "o" if len(done) < 40 else None
    loss.plot(done, [row["loss"] for row in epochs], label="training", marker=marker, ms=3)
    loss.plot(tested, [row["loss"] for row in evaluations], label="test", marker=marker, ms=3)
    loss.set(title="Loss", yscale="log")
    for axis, rows, where, label in (
        (accuracy, epochs, done, "training"),
        (accuracy, evaluations, tested, "test"),
    ):
        measured = [
            (x, 100 * row["accuracy"])
            for x, row in zip(where, rows, strict=True)
            if "accuracy" in row
        ]
        if measured:
            axis.plot(*zip(*measured, strict=True), label=label, marker=marker, ms=3)
    accuracy.set(title="Accuracy (%)")
    staleness.plot(done, [row["staleness"] for row in epochs], color="tab:green")
    staleness.set(
        title="Staleness (updates between pull and push, mean)", xlabel="epoch", ylim=(0, None)
    )
    speed.plot(done, [row["samples_per_second"] for row in epochs], color="tab:red")
    speed.set(title="Samples per second", xlabel="epoch", ylim=(0, None))
    for panel in (loss, accuracy):
        if panel.lines:
            panel.legend()
    panels = [loss, accuracy, staleness, speed]
    if crossed:
        panels += list(third[0])
        _draw_boundary(third[0][0], third[0][1], crossed)
    for panel in panels:
        panel.grid(alpha=0.3)
    figure.savefig(path, format="png", dpi=110)


def _draw_boundary(residuals: Any, traffic: Any, rows: Rows) -> None:
    """Residuals and ρ; bytes across the cut so far, and how idle each part's machine was."""
    done = [row["epoch"] + 1 for row in rows]
    marker = "o" if len(done) < 40 else None
    for name, label in RESIDUALS.items():
        points = [(x, row[name]) for x, row in zip(done, rows, strict=True) if row.get(name)]
        if points:
            residuals.plot(*zip(*points, strict=True), label=label, marker=marker, ms=3)
    residuals.set(title="Residuals (root mean square)", yscale="log", xlabel="epoch")
    if residuals.lines:
        residuals.legend()
    total, sums = 0.0, []
    for row in rows:
        total += (row["bytes_up"] + row["bytes_down"]) / 1e6
        sums.append(total)
    traffic.plot(done, sums, color="tab:purple", label="MB across the cut")
    traffic.set(title="Traffic and idle machines", xlabel="epoch", ylabel="MB", ylim=(0, None))
    traffic.legend(loc="upper left")
    parts = sorted({part for row in rows for part in row.get("idle", {})})
    if parts:
        idle = traffic.twinx()
        for part in parts:
            spent = [100 * row.get("idle", {}).get(part, 1.0) for row in rows]
            idle.plot(done, spent, linestyle="--", label=f"part {part} idle (%)")
        idle.set(ylim=(0, 100), ylabel="%")
        idle.legend(loc="lower right")
