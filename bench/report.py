"""What a benchmark reports: rows, each a ratio within one run, and how they are printed. Pure maths
and text; nothing is measured here.

A row compares medians over rounds that were interleaved with the other side's. A round that never
got there (an accuracy that was not reached) counts as infinitely long.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import inf, isfinite
from statistics import median
from typing import Any

from rich.box import MARKDOWN
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    """One line: `value` in `unit`, what it was compared with (same unit), and how it did.

    `ratio` is above 1 where we did better, whichever way the unit counts. None stands for what was
    not measured, not reached, or not asked for.
    """

    name: str
    value: float | None
    unit: str
    against: float | None = None
    ratio: float | None = None
    goal: float | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the goal was met; None where there is none. A ratio that is missing is a miss."""
        if self.goal is None:
            return None
        return self.ratio is not None and self.ratio >= self.goal

    def to_dict(self) -> dict[str, Any]:
        """As in the file of `--json`."""
        return {**asdict(self), "holds": self.holds}


def compare(
    name: str,
    unit: str,
    ours: Sequence[float],
    theirs: Sequence[float] = (),
    goal: float | None = None,
    *,
    less_is_better: bool = False,
) -> Row:
    """The row of two sides' rounds: medians, and their ratio.

    Arguments:
        ours, theirs: one number a round, infinity where it was not reached; no `theirs`: nothing
            to compare with.
        less_is_better: for seconds: the ratio is theirs by ours.
    """
    value, against = _median(ours), _median(theirs)
    ratio = None
    if value and against:
        ratio = against / value if less_is_better else value / against
    return Row(name, value, unit, against, ratio, goal)


def _median(rounds: Sequence[float]) -> float | None:
    middle = median(rounds) if rounds else inf
    return middle if isfinite(middle) else None


def make_table(rows: Iterable[Row]) -> Table:
    """The rows as a Markdown table, ready for docs/benchmarks.md."""
    table = Table(box=MARKDOWN)
    table.add_column("measured")
    for column in ("value", "against", "ratio", "goal"):
        table.add_column(column, justify="right")
    table.add_column("holds")
    for row in rows:
        holds = {True: "yes", False: "no", None: ""}[row.holds]
        value = "not reached" if row.value is None else f"{number(row.value)} {row.unit}"
        table.add_row(row.name, value, *map(number, (row.against, row.ratio, row.goal)), holds)
    return table


def number(value: float | None) -> str:
    """`24,000` or `5.90`; empty for None."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}"
