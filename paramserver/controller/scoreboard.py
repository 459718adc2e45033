"""What the controller knows of the run's progress: epochs, evaluations, events. Pure.

Rows are plain dictionaries: they become lines of metrics.jsonl, the status report, and the
curves. Times are seconds since training began.
"""

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from ...common.types import STALE_CLASSES
from .boundaries import TOTALS, boundary_row
from .epochs import Ledger

EVENTS_SHOWN = 20
NAMED = 8
"""Portions or samples named one by one."""
RATE_WINDOW = 5.0
"""Seconds over which the current samples/s is taken."""

SUMS = (
    "samples", "steps", "pushes", "late", "bytes_pushed", "bytes_pulled", "dropped", "repeated",
    "reissued", "samples_repeated", "samples_reissued", "wait_seconds", "wait_between_seconds",
    *TOTALS,
)  # fmt: skip
"""What the totals of a run are added up from, row by row."""

OWN_MEASURE = "model."
"""How the names of a model's own measures, beside loss and accuracy, begin in `Done.measures`."""

Row = dict[str, Any]


class Scoreboard:
    """Collects the rows of one run; `fresh` holds those not written yet.

    Arguments:
        replicas: how many workers hold the same part of a cut net.
    """

    def __init__(self, replicas: int = 1) -> None:
        self._replicas = replicas
        self.epochs: list[Row] = []
        self.evaluations: list[Row] = []
        self.events: deque[Row] = deque(maxlen=EVENTS_SHOWN)
        self.fresh: list[Row] = []
        self.samples = 0.0
        self.skipped: dict[str, None] = {}
        """Damaged samples that were left out, by name, each once however many servers met it."""
        self.began_at: float | None = None
        self.ended_at: float | None = None
        self._totals: Counter[str] = Counter()
        self._earlier = 0.0
        self.epoch = -1
        """The one that runs, or ran last; -1 before the first."""
        self._epoch_began = 0.0
        self._recent: deque[tuple[float, float]] = deque()

    def resume(self, epochs: list[Row], evaluations: list[Row], seconds: float) -> None:
        """The job goes on from a checkpoint, after these rows and so many seconds of training."""
        for row in epochs:
            self._add(row)
        self.evaluations = evaluations
        self.samples = float(sum(row["samples"] for row in epochs))
        self._earlier = seconds

    def begin_epoch(self, epoch: int, now: float) -> None:
        """An epoch starts; training does with the first."""
        self.epoch = epoch
        if self.began_at is None:
            self.began_at = now - self._earlier
        self._epoch_began = now

    def add_samples(self, samples: float, now: float) -> None:
        """Some portions are done."""
        self.samples += samples
        self._recent.append((now, samples))
        while self._recent and self._recent[0][0] < now - RATE_WINDOW:
            self._recent.popleft()

    def rate(self, now: float) -> float:
        """Samples per second over the last few seconds."""
        if self.began_at is None:
            return 0.0
        end = self.ended_at if self.ended_at is not None else now
        first = max(self.began_at, end - RATE_WINDOW)
        recent = sum(samples for moment, samples in self._recent if moment >= first)
        return recent / (end - first) if end > first else 0.0

    def skip(self, names: Sequence[str], now: float) -> None:
        """Damaged samples are left out."""
        new = [name for name in dict.fromkeys(names) if name not in self.skipped]
        self.skipped.update(dict.fromkeys(new))
        for name in new[:NAMED]:
            self.event(f"a damaged sample is left out: {name}", now)
        if len(new) > NAMED:
            self.event(f"{len(new) - NAMED} more damaged samples are left out", now)

    def end_epoch(self, ledger: Ledger, now: float) -> Row:
        """The row of a finished epoch: means over the samples that were trained on and the pushes;
        `samples` counts none twice."""
        sums = ledger.measures
        samples, pushes = sums["samples"], sums["pushes"]
        once = max(0.0, samples - sums["samples_repeated"])
        row: Row = {
            "kind": "epoch",
            "epoch": ledger.epoch,
            "seconds": self.elapsed(now),
            "samples": int(once),
            "pushes": int(pushes),
            "samples_per_second": samples / max(now - self._epoch_began, 1e-9),
            "loss": sums["loss"] / max(samples, 1.0),
            "late": int(sums["late"]),
            "staleness": sums["staleness"] / max(pushes, 1.0),
            "staleness_histogram": {
                name: int(sums[f"stale.{name}"]) for name in STALE_CLASSES if sums[f"stale.{name}"]
            },
            "steps": int(sums["steps"]),
            "wait_seconds": sums["wait"],
            "wait_seconds_per_step": (sums["wait"] - sums["wait_between"])
            / max(sums["steps"], 1.0),
            "wait_between_seconds": sums["wait_between"],
            "bytes_pushed": int(sums["bytes_pushed"]),
            "bytes_pulled": int(sums["bytes_pulled"]),
            "portions": int(sums["portions"]),
            "dropped": ledger.dropped,
            "repeated": int(sums["repeated"]),
            "reissued": int(sums["reissued"]),
            "samples_repeated": int(sums["samples_repeated"]),
            "samples_reissued": int(sums["samples_reissued"]),
        }
        if "accuracy" in sums:  # not every model measures it
            row["accuracy"] = sums["accuracy"] / max(samples, 1.0)
        row |= boundary_row(sums, now - self._epoch_began, self._replicas)
        own = {name for name in sums if name.startswith(OWN_MEASURE)}
        row |= {name: sums[name] / max(samples, 1.0) for name in sorted(own)}
        self._add(row)
        self.fresh.append(row)
        return row

    def evaluated(
        self, number: int, epochs: float, samples: int, metrics: dict[str, float], now: float
    ) -> Row:
        """The row of an evaluation; `epochs` is how far training was when it was asked for."""
        row: Row = {
            **metrics,  # first: a model's own names never replace ours
            "kind": "evaluation",
            "number": number,
            "epochs": epochs,
            "seconds": self.elapsed(now),
            "samples": samples,
        }
        self.evaluations.append(row)
        self.fresh.append(row)
        return row

    def checkpointed(
        self, number: int, epochs: float, size: int, seconds: float, now: float
    ) -> None:
        """A checkpoint of `size` bytes is complete, `seconds` after it was asked for."""
        row: Row = {
            "kind": "checkpoint",
            "number": number,
            "epochs": epochs,
            "seconds": self.elapsed(now),
            "bytes": size,
            "write_seconds": seconds,
        }
        self.fresh.append(row)

    def event(self, text: str, now: float) -> None:
        """Something that a user should know: a role lost, a portion served again."""
        row: Row = {"kind": "event", "seconds": self.elapsed(now), "text": text}
        self.events.append(row)
        self.fresh.append(row)

    def elapsed(self, now: float) -> float:
        """Seconds of training so far."""
        return self._earlier if self.began_at is None else now - self.began_at

    def take(self) -> list[Row]:
        """The rows since the last call."""
        rows, self.fresh = self.fresh, []
        return rows

    def summary(self, now: float) -> Row:
        """Totals over the run, as `train --json` prints them."""
        # It is asked for several times a second, however many epochs there have been.
        wall, sums = self.elapsed(self.ended_at if self.ended_at is not None else now), self._totals
        last = self.evaluations[-1] if self.evaluations else {}
        within = sums["wait_seconds"] - sums["wait_between_seconds"]
        histogram = {name: sums[f"stale.{name}"] for name in STALE_CLASSES}
        return {
            "test_accuracy": last.get("accuracy"),
            "test_loss": last.get("loss"),
            "epochs": len(self.epochs),
            "samples": sums["samples"],
            "samples_per_second": sums["samples"] / wall if wall > 0 else 0.0,
            "wall_seconds": wall,
            "bytes_pushed": sums["bytes_pushed"],
            "bytes_pulled": sums["bytes_pulled"],
            "staleness_mean": sums["staleness"] / max(sums["pushes"], 1),
            "wait_seconds": float(sums["wait_seconds"]),
            "wait_per_step_ms": 1000 * within / max(sums["steps"], 1),
            "wait_between_seconds": float(sums["wait_between_seconds"]),
            "pushes": sums["pushes"],
            "late": sums["late"],
            "staleness_histogram": {name: count for name, count in histogram.items() if count},
            "portions_dropped": sums["dropped"],
            "portions_repeated": sums["repeated"],
            "portions_reissued": sums["reissued"],
            "samples_repeated": sums["samples_repeated"],
            "samples_reissued": sums["samples_reissued"],
            "samples_skipped": len(self.skipped),
            **({name: sums[name] for name in TOTALS} if sums["rounds"] else {}),
        }

    def _add(self, row: Row) -> None:
        """Another epoch is done, or was before."""
        self.epochs.append(row)
        # A run that goes on may have rows of an older version, without the newer sums.
        self._totals.update({name: row[name] for name in SUMS if name in row})
        self._totals["staleness"] += row["staleness"] * row["pushes"]
        histogram = row["staleness_histogram"].items()
        self._totals.update({f"stale.{name}": count for name, count in histogram})
