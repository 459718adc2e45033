"""What a person sees while a cluster trains: live on a terminal, a line a change elsewhere.

Everything comes from the controller's report (`Controller.status`); nothing is decided here. Each
line fits 80 columns. Errors go to the standard error, all else to the standard output.
"""

import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..common.job import Job

Report = dict[str, Any]

NAMES_SHOWN = 4
"""Missing roles that are named before the rest is counted."""
EPOCH_LINES = 1.0
"""Seconds of training between two lines about epochs where the output is no terminal."""
WIDTH = 100
"""Columns where the output is no terminal."""
BUILDING = "building the model"
"""What a worker's state says while it builds and compiles."""
COUNTERS = {
    "paramserver": ("pushes", "pulls", "refused_pushes"),
    "dataserver": ("portions", "reissued", "late"),
    "worker": ("steps", "samples", "refused_pushes"),
}
"""The counters that are worth a look, by role."""


def console() -> Console:
    """The standard output; on a terminal lines break between words, elsewhere never."""
    terminal = sys.stdout.isatty()
    return Console(highlight=False, soft_wrap=not terminal, width=None if terminal else WIDTH)


class Screen:
    """Shows the controller's reports. Used as a context while the cluster runs."""

    def __init__(self, job: Job, out: Path, *, events: bool = True) -> None:
        """`events`: whether what happens is told; not where the controller's log is shown, too."""
        self._job, self._out, self._tells = job, out, events
        self._console = console()
        self._live: Live | None = None
        self._phase = ""
        self._epoch_shown_at = -EPOCH_LINES
        self._events_shown: set[tuple[float, str]] = set()
        self._waiting = ""

    def __enter__(self) -> "Screen":
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(console=self._console, refresh_per_second=8, transient=True)
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

    @property
    def joining(self) -> bool:
        """Whether, as far as the last report tells, roles are still missing."""
        return self._phase in ("", "joining")

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, markup=False)

    def complain(self, text: str) -> None:
        """A line about something that failed."""
        print(f"dualshard: {text}", file=sys.stderr)

    def starting(self) -> None:
        """The processes are about to be started."""
        job = self._job
        self.say(
            f"starting a controller, {_count(job.paramserver.count, 'parameter server')}, "
            f"{_count(job.dataserver.count, 'data server')}, {_count(job.worker.count, 'worker')}"
        )

    def show(self, report: Report) -> None:
        """A new report of the controller."""
        self._phase = report["phase"]
        self._show_events(report)
        if self._live is not None:
            parts = (epoch_bar(report), headline(report), role_table(report))
            self._live.update(Group(*parts))
        else:
            self._show_change(report)

    def _show_events(self, report: Report) -> None:
        for event in report["events"]:
            key = (event["seconds"], event["text"])
            # What `waiting` says in one line is not said again for each role that joins.
            known = key in self._events_shown or not self._tells
            if not known and " joined from " not in event["text"]:
                self.say(_timed(event["seconds"], event["text"]))
            self._events_shown.add(key)

    def _show_change(self, report: Report) -> None:
        """Without a live display: what is waited for, then one line for the newest epoch."""
        wait = waiting(report)
        if wait and wait != self._waiting:
            self.say(wait)
        self._waiting = wait
        epoch = report["last_epoch"]
        if epoch and epoch["seconds"] - self._epoch_shown_at >= EPOCH_LINES:
            self._epoch_shown_at = epoch["seconds"]
            numbers = measures(epoch, report["last_evaluation"], epoch["samples_per_second"])
            place = f"epoch {epoch['epoch'] + 1}/{report['epochs']}"
            parts = [place, numbers, waits(epoch), idles(epoch)]
            text = "  ".join(filter(None, parts))
            self.say(_timed(epoch["seconds"], text))

    def finish(self, totals: Report) -> None:
        """The last lines: what came out and where it lies."""
        if totals:
            accuracy = totals["test_accuracy"]
            shown = f"{100 * accuracy:.2f} %" if accuracy is not None else "not measured"
            self.say(f"test accuracy {shown} after {_count(totals['epochs'], 'epoch')}")
            self.say(
                f"{totals['samples']:,} samples in {totals['wall_seconds']:.1f} s "
                f"({totals['samples_per_second']:,.0f} samples/s), mean staleness "
                f"{totals['staleness_mean']:.1f}, wait for data "
                f"{totals['wait_per_step_ms']:.3f} ms/step"
            )
            if totals.get("bytes_up"):
                up, down = totals["bytes_up"] / 1e6, totals["bytes_down"] / 1e6
                rounds = f"{totals['rounds']:,} rounds"
                self.say(f"across the cut {rounds}, {up:.1f} MB up, {down:.1f} MB down")
        else:
            self.say("ended before the job was complete: there is no final model")
        self.say(f"run directory: {self._out}")


def waiting(report: Report) -> str:
    """What the start waits for; empty once training has begun."""
    if report["phase"] == "joining":
        missing = report["missing"]
        names = ", ".join(missing[:NAMES_SHOWN])
        more = len(missing) - NAMES_SHOWN
        return f"waiting for {names}" + (f" and {more} more" if more > 0 else "")
    if report["phase"] == "preparing":
        building = [role["name"] for role in report["roles"] if role["state"] == BUILDING]
        if building:
            return "building the model; the first time on a machine this compiles its kernels"
        return "opening the data, starting the shards"
    return ""


def epoch_bar(report: Report) -> Table:
    """How far the job is."""
    line = Table.grid(padding=(0, 2))
    done, epochs = report["epochs_done"], report["epochs"]
    line.add_row(
        f"epoch {min(report['epoch'] + 1, epochs)}/{epochs}",
        ProgressBar(total=epochs, completed=done, width=24),
        f"{100 * done / epochs:.0f} %",
        f"{report['summary']['wall_seconds']:.0f} s",
        waits(report["last_epoch"]),
        idles(report["last_epoch"]),
    )
    return line


def headline(report: Report) -> str:
    """Phase, speed, loss, staleness, accuracy; or what the start waits for."""
    if wait := waiting(report):
        return wait
    epoch, rate = report["last_epoch"], report["samples_per_second_now"]
    return "  ".join([report["phase"], measures(epoch, report["last_evaluation"], rate)]).rstrip()


def waits(epoch: Report) -> str:
    """How long a step waited for data within an epoch, which may be empty."""
    if "wait_seconds_per_step" not in epoch:
        return ""
    return f"wait {1000 * epoch['wait_seconds_per_step']:.3f} ms/step"


def idles(epoch: Report) -> str:
    """How much of an epoch the workers of each part of a cut net computed nothing, lowest first."""
    idle = epoch.get("idle", {})
    return f"idle {' / '.join(f'{100 * part:.0f}' for part in idle.values())} %" if idle else ""


def measures(epoch: Report, evaluation: Report, rate: float) -> str:
    """The numbers of an epoch and an evaluation, either of which may be empty."""
    parts = [f"{rate:,.0f} samples/s"] if rate else []
    if epoch:
        parts += [f"loss {epoch['loss']:.4f}", f"staleness {epoch['staleness']:.1f}"]
    if "accuracy" in evaluation:
        parts.append(f"test {100 * evaluation['accuracy']:.2f} %")
    elif evaluation:
        parts.append(f"test loss {evaluation['loss']:.4f}")
    return "  ".join(parts)


def role_table(report: Report) -> Table:
    """One line a role. The host is shown where there is more than one, the part of the net where it
    is cut."""
    several = len({role["host"] for role in report["roles"]}) > 1
    cut = any("part" in role for role in report["roles"])
    columns = ["role", *(["host"] if several else []), "pid", *(["part"] if cut else [])]
    columns += ["state", "counters"]
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        # Where a line is too long, the counters are cut and nothing else.
        table.add_column(column, no_wrap=column != "counters")
    for role in report["roles"]:
        host = [role["host"]] if several else []
        part = [_part(role, report)] if cut else []
        row = [role["name"], *host, str(role["pid"]), *part, role["state"]]
        counters = Text(_counters(role), no_wrap=True, overflow="ellipsis")
        table.add_row(*map(escape, row), counters)
    return table


def _part(role: Report, report: Report) -> str:
    """Which part of the net a worker holds, and of which replica where there are several."""
    if "part" not in role:
        return ""
    several = len({other["replica"] for other in report["roles"] if "replica" in other}) > 1
    return f"{role['part']} of replica {role['replica']}" if several else str(role["part"])


def _counters(role: Report) -> str:
    counters = role["counters"]
    wanted = COUNTERS.get(role["role"], ())
    return "  ".join(
        f"{name.replace('_', ' ')} {counters[name]:,.0f}" for name in wanted if counters.get(name)
    )


def _timed(seconds: float, text: str) -> str:
    """With the seconds of training so far, where there are any."""
    return f"{seconds:7.1f} s  {text}" if seconds else text


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
