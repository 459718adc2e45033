"""curves.png: how loss, accuracy, staleness and speed went, from the rows of metrics.jsonl."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

Rows = Sequence[dict[str, Any]]


def draw_curves(path: Path, epochs: Rows, evaluations: Rows) -> None:
    """Draw four panels over the epochs into a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    FigureCanvasAgg(figure)
    (loss, accuracy), (staleness, speed) = figure.subplots(2, 2)
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
    for panel in (loss, accuracy, staleness, speed):
        panel.grid(alpha=0.3)
    figure.savefig(path, format="png", dpi=110)
