"""Where a job stands, as a checkpoint remembers it, and what one that goes on makes of it. Pure.

A whole number of an epoch's samples is done, from the beginning of its order; beyond that, where
an epoch may end before all is done, single portions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

from ...common.cluster import DataShape
from ...common.job import Job
from ..manifest import Position
from .epochs import Ledger
from .scoreboard import Row


def cut_of(job: Job, data: DataShape) -> dict[str, int]:
    """What the order of an epoch depends on, and with `size` the numbers of its portions."""
    return {
        "seed": job.job.seed,
        "samples": data.samples,
        "drawn": crc32(" ".join([job.data.sampling, *job.data.weights]).encode()),
        "size": data.portion_size,
    }


def position_after(
    ledger: Ledger, job: Job, data: DataShape, totals: Mapping[str, object]
) -> Position:
    """Where a job stands at the end of a leg; `totals` as `Scoreboard.summary` gives them."""
    stretch, cut, numbers = ledger.stretch, cut_of(job, data), _numbers(totals)
    if stretch.ends_epoch:
        return Position(stretch.epoch + 1, cut=cut, totals=numbers)
    return Position(stretch.epoch, stretch.end, (), _numbers(ledger.measures), cut, numbers)


def position_within(
    ledger: Ledger, job: Job, data: DataShape, totals: Mapping[str, object]
) -> Position:
    """Where it stands while a leg is under way."""
    stretch, cut, numbers = ledger.stretch, cut_of(job, data), _numbers(totals)
    measures = _numbers(ledger.measures)
    measures["portions"] -= ledger.portions  # the ledger of a job that goes on counts them
    done = tuple(sorted(ledger.done))
    return Position(stretch.epoch, stretch.begin, done, measures, cut, numbers)


def _numbers(table: Mapping[str, object]) -> dict[str, float]:
    return {name: float(n) for name, n in table.items() if isinstance(n, int | float)}


@dataclass(frozen=True, slots=True)
class GoingOn:
    """What is left of the epoch that a job goes on with: from sample `begin` of its order, without
    the portions that are `done`; `lost` says why something is done again that was done."""

    begin: int = 0
    done: tuple[int, ...] = ()
    lost: str = ""


def going_on(position: Position, job: Job, data: DataShape) -> GoingOn:
    """What of a saved position holds for this job and its data."""
    if not position.begin and not position.done:
        return GoingOn()
    now, then = cut_of(job, data), position.cut
    if any(now[name] != then.get(name) for name in ("seed", "samples", "drawn")):
        return GoingOn(lost=f"epoch {position.epoch} starts over: its order is another one now")
    if position.done and now["size"] != then.get("size"):
        lost = f"{len(position.done)} portions of epoch {position.epoch} are done again: "
        return GoingOn(position.begin, lost=lost + "they are cut otherwise now")
    return GoingOn(position.begin, position.done)


def history(rows: Sequence[Row], position: Position) -> tuple[list[Row], list[Row]]:
    """The epochs and evaluations in `rows` that lie before a position; of an epoch that was done
    twice, the last."""
    epochs = {row["epoch"]: row for row in rows if row.get("kind") == "epoch"}
    done = [epochs[number] for number in sorted(epochs) if number < position.epoch]
    evaluations = [row for row in rows if row.get("kind") == "evaluation"]
    return done, [row for row in evaluations if row["epochs"] <= position.epochs + 1e-9]


def next_evaluation(every: float, epochs: float, evaluations: Sequence[Row]) -> float:
    """After how many epochs the next evaluation is due, with `epochs` done; one that was due
    before and did not come is made up for."""
    due = epochs // every * every
    measured = evaluations[-1]["epochs"] if evaluations else 0.0
    return due if measured < due else due + every
