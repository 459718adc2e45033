"""What the controller knows of the run's progress: epochs, evaluations, events. Pure.

Rows are plain dictionaries: they become lines of metrics.jsonl, the status report, and the
curves. Times are seconds since training began.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

from ...common.types import STALE_CLASSES
from .epochs import Ledger

EVENTS_SHOWN = 20
NAMED = 8
"""Portions or samples named one by one."""
RATE_WINDOW = 5.0
"""Seconds over which the current samples/s is taken."""

OWN_MEASURE = "model."
"""How the names of a model's own measures, beside loss and accuracy, begin in `Done.measures`."""

Row = dict[str, Any]


class Scoreboard:
    """Collects the rows of one run; `fresh` holds those not written yet."""

    def __init__(self) -> None:
        self.epochs: list[Row] = []
        self.evaluations: list[Row] = []
        self.events: deque[Row] = deque(maxlen=EVENTS_SHOWN)
        self.fresh: list[Row] = []
        self.samples = 0.0
        self.skipped: dict[str, None] = {}
        """Damaged samples that were left out, by name, each once however many servers met it."""
        self.began_at: float | None = None
        self.ended_at: float | None = None
        self._earlier = 0.0
        self.epoch = -1
        """The one that runs, or ran last; -1 before the first."""
        self._epoch_began = 0.0
        self._recent: deque[tuple[float, float]] = deque()

    def resume(self, epochs: list[Row], evaluations: list[Row], seconds: float) -> None:
        """The job goes on from a checkpoint, after these rows and so many seconds of training."""
        self.epochs, self.evaluations = epochs, evaluations
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
        own = {name for name in sums if name.startswith(OWN_MEASURE)}
        row |= {name: sums[name] / max(samples, 1.0) for name in sorted(own)}
        self.epochs.append(row)
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
        wall = self.elapsed(self.ended_at if self.ended_at is not None else now)
        pushes = sum(row["pushes"] for row in self.epochs)
        staleness = sum(row["staleness"] * row["pushes"] for row in self.epochs)
        last = self.evaluations[-1] if self.evaluations else {}
        samples = sum(row["samples"] for row in self.epochs)
        # A run that goes on may have rows of an older version, without these.
        wait = sum(row.get("wait_seconds", 0.0) for row in self.epochs)
        between = sum(row.get("wait_between_seconds", 0.0) for row in self.epochs)
        steps = sum(row.get("steps", 0) for row in self.epochs)
        return {
            "test_accuracy": last.get("accuracy"),
            "test_loss": last.get("loss"),
            "epochs": len(self.epochs),
            "samples": samples,
            "samples_per_second": samples / wall if wall > 0 else 0.0,
            "wall_seconds": wall,
            "bytes_pushed": sum(row["bytes_pushed"] for row in self.epochs),
            "bytes_pulled": sum(row["bytes_pulled"] for row in self.epochs),
            "staleness_mean": staleness / max(pushes, 1),
            "wait_seconds": wait,
            "wait_per_step_ms": 1000 * (wait - between) / max(steps, 1),
            "wait_between_seconds": between,
            "pushes": pushes,
            "late": sum(row["late"] for row in self.epochs),
            "staleness_histogram": {
                name: count
                for name in STALE_CLASSES
                if (count := sum(r["staleness_histogram"].get(name, 0) for r in self.epochs))
            },
            "portions_dropped": sum(row["dropped"] for row in self.epochs),
            "portions_repeated": sum(row["repeated"] for row in self.epochs),
            "portions_reissued": sum(row["reissued"] for row in self.epochs),
            "samples_repeated": sum(row.get("samples_repeated", 0) for row in self.epochs),
            "samples_reissued": sum(row.get("samples_reissued", 0) for row in self.epochs),
            "samples_skipped": len(self.skipped),
        }
