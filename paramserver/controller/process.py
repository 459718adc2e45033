"""The controller's process: joins its state to the transport and the run directory."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

from ...common.clock import wall_time
from ...common.job import Job
from ...common.loop import Background
from ...common.node import Action, Exit
from ...common.runtime import Options, Runtime
from ...common.session import own_versions
from ...common.transport.local import own_addresses
from ...common.types import Role
from ..checkpoint import open_checkpoint
from .admission import Record
from .checkpoints import Discard, GoesOn, Seal, Sealed
from .resuming import Resumed, check_fits
from .rundir import RunDirectory
from .state import Controller, Saved, SaveModel


class ControllerProcess:
    """Performs the controller's actions. `announce` is a file that gets its address."""

    def __init__(self, options: Options, job: Job, out: Path, announce: Path | None) -> None:
        self._out, job, resumed = open_run(out, job)
        self._runtime = Runtime(Role.CONTROLLER, options, listens=True)
        self._runtime.telemetry.rename("controller-0")
        address = self._runtime.transport.address
        self._state = Controller(
            self._runtime.courier(), job, address, own_versions(), self._out.place(), resumed
        )
        self._state.here, self._state.wall_time = own_addresses(), wall_time
        self._loop = self._runtime.loop(self._state, self._perform)
        self._beside = Background(self._loop.post, "run directory")
        self._sealing = Background(self._loop.post, "checkpoints")  # curves take seconds
        self.address = address.removeprefix("tcp://")
        if announce is not None:
            fresh = announce.with_name(announce.name + ".new")
            fresh.write_text(self.address + "\n")
            os.replace(fresh, announce)

    def run(self) -> Exit:
        """From the first join to the last goodbye."""
        return self._runtime.run(self._loop, self._state.start(self._runtime.clock.now()))

    def _perform(self, action: Action) -> None:
        if isinstance(action, Record):
            self._out.append(action.rows)
        elif isinstance(action, Seal):
            self._sealing.submit(partial(self._seal, action))
        elif isinstance(action, Discard):
            self._sealing.submit(partial(self._out.discard, Path(action.directory)))
        elif isinstance(action, GoesOn):
            self._out.goes_on(self._state.job)
        else:
            assert isinstance(action, SaveModel)
            summary = {
                **self._state.board.summary(self._runtime.clock.now()),
                "workers": self._state.job.worker.count,
                "servers": self._state.job.paramserver.count,
            }
            board = self._state.board
            self._beside.submit(
                partial(self._save, action, summary, list(board.epochs), list(board.evaluations))
            )

    def _seal(self, action: Seal) -> Sealed:
        try:
            self._out.seal(Path(action.directory), action.manifest, action.keep)
        except OSError as refused:
            self._out.discard(Path(action.directory))
            return Sealed(refused.strerror or str(refused))
        return Sealed()

    def _save(
        self,
        action: SaveModel,
        summary: dict[str, object],
        epochs: list[dict[str, object]],
        evaluations: list[dict[str, object]],
    ) -> Saved:
        self._out.save_model(action.vector, action.cluster.layout)
        self._out.save_curves(epochs, evaluations)
        self._out.save_summary(summary)
        return Saved()


def open_run(out: Path, job: Job) -> tuple[RunDirectory, Job, Resumed | None]:
    """The run directory, and what the job goes on from, if it does; `job.resume` then names the
    checkpoint itself, for all roles.

    Raises:
        UserError: the folder cannot be used, or the checkpoint does not fit the job.
    """
    if not job.job.resume:
        return RunDirectory.prepare(out, job), job, None
    run = RunDirectory.reopen(out)
    checkpoint = open_checkpoint(Path(job.job.resume), "job.resume")
    check_fits(job, checkpoint.manifest)
    named = replace(job.job, resume=str(checkpoint.path.resolve()))
    return run, replace(job, job=named), Resumed(checkpoint.manifest, run.rows())
