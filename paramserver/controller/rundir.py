"""The run directory: job.toml, metrics.jsonl, summary.json, curves.png, model.safetensors, logs/.

Every file is written beside its place and moved there, so that none is ever half-written.
"""

import json
import os
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from ...common.cluster import Parameter
from ...common.errors import UserError
from ...common.job import Job, to_toml
from ...common.types import Float32
from .curves import draw_curves

FIX = "choose a folder that you can write with --out DIR"


class RunDirectory:
    """Where one run leaves its results."""

    def __init__(self, path: Path) -> None:
        self.path = path

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
            run._replace("job.toml", lambda file: file.write_text(to_toml(job)))
        except OSError as refused:
            raise UserError(
                "--out", path, "a folder that can be written", f"{refused.strerror}: {FIX}"
            ) from None
        return run

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add lines to metrics.jsonl."""
        with (self.path / "metrics.jsonl").open("a") as file:
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
