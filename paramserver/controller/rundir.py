"""The run directory: job.toml, metrics.jsonl, summary.json, curves.png, model.safetensors,
checkpoints/, logs/.

Every file is written beside its place and moved there, so that none is ever half-written.
"""

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from ...common.cluster import Parameter
from ...common.errors import UserError
from ...common.job import Job, to_toml
from ...common.locks import Lock
from ...common.types import Float32
from ..checkpoint import FOLDER, discard, next_number, seal
from ..manifest import Manifest
from .checkpoints import Place
from .curves import draw_curves

CONTROLLER_LOCK = "controller.lock"
FIX = "choose a folder that you can write with --out DIR"


class RunDirectory:
    """Where one run leaves its results. One controller at a time has it."""

    def __init__(self, path: Path) -> None:
        """Raises UserError if a controller has it already, OSError if it cannot be written."""
        self.path = path
        self._lock = Lock.take(path / "logs" / CONTROLLER_LOCK)
        if self._lock is None:
            raise still_runs(path)

    @classmethod
    def prepare(cls, path: Path, job: Job) -> "RunDirectory":
        """Make the folder with the resolved job in it.

        Raises:
            UserError: it cannot be made or written, or it already holds a run.
        """
        try:
            (path / "logs").mkdir(parents=True, exist_ok=True)
            if (path / "metrics.jsonl").exists():
                raise UserError(
                    "--out",
                    path,
                    "a folder without a run in it",
                    "choose another one, or remove it",
                )
            run = cls(path)
            (path / FOLDER).mkdir(exist_ok=True)
            run.save_job(job)
        except OSError as refused:
            raise UserError(
                "--out", path, "a folder that can be written", f"{refused.strerror}: {FIX}"
            ) from None
        return run

    @classmethod
    def reopen(cls, path: Path) -> "RunDirectory":
        """The folder of a run that goes on; nothing in it is changed.

        Raises:
            UserError: it cannot be written, or the run still runs.
        """
        try:
            (path / "logs").mkdir(exist_ok=True)
            (path / FOLDER).mkdir(exist_ok=True)
            return cls(path)
        except OSError as refused:
            fix = f"{refused.strerror}: make it writable"
            raise UserError("job.resume", path, "a run that can be written", fix) from None

    def close(self) -> None:
        """Let another controller have it."""
        if self._lock is not None:
            self._lock.release()

    def save_job(self, job: Job) -> None:
        """job.toml: every setting; run again it starts anew."""
        text = to_toml(replace(job, job=replace(job.job, resume="")))
        self._replace("job.toml", lambda file: file.write_text(text))

    def goes_on(self, job: Job) -> None:
        """The run goes on with these settings: its totals are no longer the last word."""
        self.save_job(job)
        (self.path / "summary.json").unlink(missing_ok=True)

    def place(self) -> Place:
        """Where its checkpoints go."""
        return Place(str((self.path / FOLDER).resolve()), next_number(self.path))

    def seal(self, directory: Path, manifest: Manifest, keep: int) -> None:
        """Complete a checkpoint; the rows that belong to it are brought to the disk first.

        Raises:
            OSError: it is not complete.
        """
        with (self.path / "metrics.jsonl").open("a") as file:
            os.fsync(file.fileno())
        seal(directory, manifest, keep)

    def discard(self, directory: Path) -> None:
        """Remove a checkpoint that was not completed."""
        discard(directory)

    def rows(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; one that was cut short by a kill is left out."""
        path, rows = self.path / "metrics.jsonl", []
        for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
            with contextlib.suppress(ValueError):
                rows.append(json.loads(line))
        return [row for row in rows if isinstance(row, dict)]

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add lines to metrics.jsonl."""
        with (self.path / "metrics.jsonl").open("a+") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
            if file.read(1) not in ("", "\n"):  # a kill has cut a line short
                file.write("\n")
            file.writelines(json.dumps(row) + "\n" for row in rows)

    def save_model(self, vector: Float32, layout: Sequence[Parameter]) -> None:
        """model.safetensors: every parameter under its own name."""
        tensors, begin = {}, 0
        for parameter in layout:
            end = begin + prod(parameter.shape)
            tensors[parameter.name] = vector[begin:end].reshape(parameter.shape)
            begin = end
        self._replace("model.safetensors", lambda file: save_file(tensors, file))

    def save_summary(self, summary: dict[str, Any]) -> None:
        """summary.json: the totals that `dualshard train --json` prints."""
        text = json.dumps({**summary, "run_dir": str(self.path)}, indent=2) + "\n"
        self._replace("summary.json", lambda file: file.write_text(text))

    def save_curves(
        self, epochs: Sequence[dict[str, Any]], evaluations: Sequence[dict[str, Any]]
    ) -> None:
        """curves.png."""
        self._replace("curves.png", lambda file: draw_curves(file, epochs, evaluations))

    def _replace(self, name: str, write: Callable[[Path], Any]) -> None:
        fresh = self.path / f".new-{name}"
        write(fresh)
        os.replace(fresh, self.path / name)


def still_runs(path: Path) -> UserError:
    """The error of a run directory that a running job has."""
    fix = "wait until it ends, or end it with: dualshard stop"
    return UserError("job.resume", str(path), "a run that has ended, this one still runs", fix)
