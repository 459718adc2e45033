"""The parameter server's process: joins its state to the transport and the disk."""

from functools import partial

import numpy as np

from ..common.job import Job
from ..common.loop import Background
from ..common.node import Action, Exit
from ..common.runtime import Options, Runtime
from ..common.session import Welcomed
from ..common.types import Role
from .disk import Disk
from .saving import CloseFile, OpenFile, Restore, WriteShard
from .sharing import SharedLanes
from .state import ParameterServer
from .store import ShardStore


class ParameterServerProcess:
    """Performs a parameter server's actions."""

    def __init__(self, options: Options) -> None:
        self._runtime = Runtime(Role.PARAMSERVER, options, listens=True)
        self._state = ParameterServer(
            self._runtime.courier(), lanes=SharedLanes(), **self._runtime.session()
        )
        self._loop = self._runtime.loop(self._state, self._perform)
        self._beside = Background(self._loop.post, "checkpoint")
        self._disk = Disk()

    def run(self) -> Exit:
        """From joining to the end."""
        return self._runtime.run(self._loop, self._state.start(self._runtime.clock.now()))

    def _perform(self, action: Action) -> None:
        if isinstance(action, OpenFile | WriteShard | CloseFile | Restore):
            self._beside.submit(partial(self._disk.perform, action))
            return
        assert isinstance(action, Welcomed)
        self._runtime.telemetry.rename(f"paramserver-{action.rank}")
        self._state.configure(Job.from_dict(action.job))
        assert self._state.store is not None
        warm_up(self._state.store)


def warm_up(store: ShardStore) -> None:
    """Load the rule's kernels now, so that the first push does not wait for them."""
    nobody = (0, 0)
    store.start(-1, np.zeros(16, np.float32), ())
    store.check(-1, nobody, 0, 1, np.zeros(16, np.float32))
    store.push(-1, nobody, 0, 1, np.zeros(16, np.float32))
    store.settle(-1)
    del store.shards[-1]
