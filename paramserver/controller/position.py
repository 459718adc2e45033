"""Where a job stands, as a checkpoint remembers it, and what one that goes on makes of it. Pure."""

from collections.abc import Mapping, Sequence
from zlib import crc32

from ...common.cluster import DataShape
from ...common.job import Job
from ..manifest import Position
from .epochs import EpochLedger
from .scoreboard import Row


def cut_of(job: Job, data: DataShape) -> dict[str, int]:
    """What the numbers of an epoch's portions depend on."""
    return {
        "seed": job.job.seed,
        "samples": data.samples,
        "batch_size": job.data.batch_size,
        "portion": job.dataserver.portion,
        "workers": job.worker.count,
        "portions": data.portions,
        "drawn": crc32(" ".join([job.data.sampling, *job.data.weights]).encode()),
    }


def position_before(
    epoch: int, job: Job, data: DataShape, totals: Mapping[str, object]
) -> Position:
    """Between two epochs; `totals` as `Scoreboard.summary` gives them."""
    numbers = {name: float(n) for name, n in totals.items() if isinstance(n, int | float)}
    return Position(epoch, (), {}, cut_of(job, data), numbers)


def position_within(
    ledger: EpochLedger, job: Job, data: DataShape, totals: Mapping[str, object]
) -> Position:
    """In the middle of an epoch."""
    before = position_before(ledger.epoch, job, data, totals)
    measures = {name: float(n) for name, n in ledger.measures.items()}
    done = tuple(sorted(ledger.done))
    return Position(before.epoch, done, measures, before.cut, before.totals)


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
