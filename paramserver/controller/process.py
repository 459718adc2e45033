"""The controller's process: joins its state to the transport and the run directory."""

import os
from functools import partial
from pathlib import Path

from ...common.job import Job
from ...common.loop import Background
from ...common.node import Action, Exit
from ...common.runtime import Options, Runtime
from ...common.session import own_versions
from ...common.types import Role
from .admission import Record
from .rundir import RunDirectory
from .state import Controller, Saved, SaveModel


class ControllerProcess:
    """Performs the controller's actions. `announce` is a file that gets its address."""

    def __init__(self, options: Options, job: Job, out: Path, announce: Path | None) -> None:
        self._out = RunDirectory.prepare(out, job)
        self._runtime = Runtime(Role.CONTROLLER, options, listens=True)
        self._runtime.telemetry.rename("controller-0")
        address = self._runtime.transport.address
        self._state = Controller(self._runtime.courier(), job, address, own_versions())
        self._loop = self._runtime.loop(self._state, self._perform)
        self._beside = Background(self._loop.post, "run directory")
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
