"""What a person sees while a cluster trains: live on a terminal, a line a change elsewhere."""

from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..common.job import Job

Report = dict[str, Any]


class Screen:
    """Shows the controller's reports. Used as a context while the cluster runs."""

    def __init__(self, job: Job, out: Path) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self.phase = ""
        self._out = out
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=self.console,
        )
        self._task = self._bar.add_task(f"epoch 0/{job.job.epochs}", total=job.job.epochs)
        self._live: Live | None = None
        self._epochs_shown = 0
        self._events_shown: list[str] = []

    def __enter__(self) -> "Screen":
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=8)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, markup=False)

    def show(self, report: Report) -> None:
        """A new report of the controller."""
        self.phase = report["phase"]
        for event in report["events"]:
            line = f"{event['seconds']:7.1f} s  {event['text']}"
            if line not in self._events_shown:
                self._events_shown.append(line)
                self.say(line)
        self._bar.update(
            self._task,
            completed=report["epochs_done"],
            description=f"epoch {min(report['epoch'] + 1, report['epochs'])}/{report['epochs']}",
        )
        if self._live is not None:
            self._live.update(Group(self._bar, headline(report), role_table(report)))
        else:
            self._print_epoch(report)

    def _print_epoch(self, report: Report) -> None:
        """Without a terminal: one line for the newest epoch."""
        epoch = report["last_epoch"]
        if epoch and epoch["epoch"] + 1 > self._epochs_shown:
            self._epochs_shown = epoch["epoch"] + 1
            self.say(
                f"{epoch['seconds']:7.1f} s  epoch {self._epochs_shown}/{report['epochs']}  "
                + _numbers(epoch, report["last_evaluation"])
            )

    def finish(self, totals: Report, status: int) -> None:
        """The last lines: what came out and where it lies."""
        if totals:
            accuracy = totals["test_accuracy"]
            shown = f"{100 * accuracy:.2f} %" if accuracy is not None else "not measured"
            self.say(
                f"test accuracy {shown} after {totals['epochs']} epochs, "
                f"{totals['samples']:,} samples in {totals['wall_seconds']:.1f} s "
                f"({totals['samples_per_second']:,.0f} samples/s)"
            )
        self.say(f"run directory: {self._out}")
        if status and not totals:
            self.say("the job did not complete; see the logs there")


def headline(report: Report) -> Table:
    """Phase, speed, loss, accuracy, staleness."""
    line = Table.grid(padding=(0, 3))
    numbers = _numbers(
        report["last_epoch"], report["last_evaluation"], report["samples_per_second_now"]
    )
    missing = report["missing"]
    what = report["phase"]
    if what == "joining" and missing:
        what = f"waiting for {', '.join(missing)}"
    line.add_row(what, numbers)
    return line


def _numbers(epoch: Report, evaluation: Report, rate: float | None = None) -> str:
    parts = []
    if epoch:
        speed = epoch["samples_per_second"] if rate is None else rate
        parts += [
            f"{speed:,.0f} samples/s",
            f"loss {epoch['loss']:.4f}",
            f"staleness {epoch['staleness']:.1f}",
            f"wait {1000 * epoch['wait_seconds_per_step']:.2f} ms/step",
        ]
    if evaluation:
        accuracy = evaluation.get("accuracy")
        measured = (
            f"loss {evaluation['loss']:.4f}" if accuracy is None else f"{100 * accuracy:.2f} %"
        )
        parts.append(f"test {measured}")
    return "  ".join(parts)


def role_table(report: Report) -> Table:
    """One line a role."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("role", "host", "pid", "state", "counters"):
        table.add_column(column, no_wrap=column != "counters")
    for role in report["roles"]:
        table.add_row(
            role["name"], role["host"], str(role["pid"]), role["state"], _counters(role["counters"])
        )
    return table


def _counters(counters: dict[str, float]) -> str:
    wanted = ("steps", "samples", "pushes", "pulls", "portions", "reissued", "refused_pushes")
    return "  ".join(f"{name} {counters[name]:,.0f}" for name in wanted if counters.get(name))
