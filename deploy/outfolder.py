"""The run directory before there is a run: claimed by one run alone, or removed again.

What a run leaves in it is written by `paramserver.controller.rundir`; here stands only that two
runs never share one, and that bad input leaves nothing behind.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from ..common.clock import wall_time
from ..common.errors import UserError
from ..common.job import Job
from ..common.locks import Lock

FIX = "choose a folder that you can write with --out DIR"


class OutFolder:
    """A folder that holds nothing but its empty `logs/` and what the user had in it."""

    def __init__(self, path: Path, made: list[Path], kept: set[str] | None) -> None:
        """`made` are the folders that were not there, innermost first; `kept` what `path` held,
        None for a run that goes on, of which nothing is ever removed."""
        self.path, self._made, self._kept = path, made, kept

    @classmethod
    def claim(cls, out: Path | None) -> "OutFolder":
        """Make `out`, or a new folder `runs/DATE-TIME`, with `logs/` in it.

        Raises:
            UserError: it cannot be made or written, or holds a run; nothing is left behind then.
        """
        if out is not None:
            return cls._claim(out)
        for path in _new_names():
            if not path.exists():
                with contextlib.suppress(_Taken):
                    return cls._claim(path)
        raise AssertionError("names do not end")

    @classmethod
    def _claim(cls, path: Path) -> "OutFolder":
        made = [folder for folder in (path, *path.parents) if not folder.exists()]
        folder = cls(path, made, set())
        try:
            path.mkdir(parents=True, exist_ok=True)
            folder._kept = set(os.listdir(path))
            if "metrics.jsonl" in folder._kept:
                raise _Taken(path)
            _make_logs(path)
        except OSError as refused:
            folder.discard()
            raise UserError(
                "--out", str(path), "a folder that can be written", f"{refused.strerror}: {FIX}"
            ) from None
        return folder

    @classmethod
    def of(cls, job: Job, out: Path | None) -> "OutFolder":
        """The folder that a job runs in: a new one, or that of the run that it goes on with.

        Raises:
            UserError: as `claim`; there is nothing to go on from, it does not fit the job, or
                the run still runs.
        """
        if not job.job.resume:
            return cls.claim(out)
        run = _check_resume(job)
        if out is not None and out.resolve() != run.resolve():
            fix = "leave --out away"
            raise UserError("--out", str(out), f"{run}, where the run goes on", fix)
        (run / "logs").mkdir(exist_ok=True)
        return cls(run, [], None)

    def lock(self) -> Lock:
        """Keep other launchers out, and wait for no controller that still has the run.

        Raises:
            UserError: the run still runs.
        """
        from ..paramserver.controller.rundir import CONTROLLER_LOCK, still_runs

        lock = Lock.take(self.path / "logs" / "launcher.lock")
        controller = Lock.take(self.path / "logs" / CONTROLLER_LOCK) if lock else None
        if lock is None or controller is None:
            raise still_runs(self.path)
        controller.release()
        return lock

    def discard(self) -> None:
        """Remove what was not there before: files, folders, and the parents that were made."""
        if self._kept is None:
            return
        with contextlib.suppress(OSError):
            for entry in set(os.listdir(self.path)) - self._kept:
                path = self.path / entry
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
        for folder in self._made:
            with contextlib.suppress(OSError):
                folder.rmdir()

    def holds_epochs(self) -> bool:
        """Whether training has got anywhere: results are kept, whatever happens later."""
        metrics = self.path / "metrics.jsonl"
        return metrics.exists() and '"kind": "epoch"' in metrics.read_text(errors="replace")


class _Taken(UserError):
    """Another run lies in the folder, or starts in it at this moment."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            "--out",
            str(path),
            "a folder without a run in it",
            "it holds an earlier one: choose another folder, or remove it",
        )


def _check_resume(job: Job) -> Path:
    """The run that a job goes on with, checked as far as can be without its roles."""
    from ..paramserver.checkpoint import open_checkpoint, run_of
    from ..paramserver.controller.resuming import check_fits

    wanted = Path(job.job.resume)
    run = run_of(wanted, "job.resume")
    check_fits(job, open_checkpoint(wanted, "job.resume").manifest)
    return run


def _make_logs(path: Path) -> None:
    """Make `logs/`: of two runs that start in one folder, only one can."""
    try:
        (path / "logs").mkdir()
    except FileExistsError:
        raise _Taken(path) from None


def _new_names() -> Iterator[Path]:
    """runs/DATE-TIME, with a number behind it from the second one on."""
    stem = Path("runs") / datetime.fromtimestamp(wall_time()).strftime("%Y%m%d-%H%M%S")
    yield stem
    number = 2
    while True:
        yield stem.with_name(f"{stem.name}-{number}")
        number += 1
