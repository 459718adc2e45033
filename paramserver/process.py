"""The parameter server's process: joins its state to the transport and the disk."""

from functools import partial

import numpy as np

from ..common.codecs import CODECS, warm_up_codec
from ..common.job import Job
from ..common.loop import Background
from ..common.node import Action, Exit
from ..common.runtime import Options, Runtime
from ..common.session import Welcomed
from ..common.types import Role
from .disk import Disk
from .modes import make_store
from .saving import CloseFile, OpenFile, Restore, WriteShard
from .sharing import SharedLanes
from .state import ParameterServer, WarmedUp
from .updates import Part


class ParameterServerProcess:
    """Performs a parameter server's actions."""

    def __init__(self, options: Options) -> None:
        self._runtime = Runtime(Role.PARAMSERVER, options, listens=True)
        self._state = ParameterServer(
            self._runtime.courier(), lanes=SharedLanes(), **self._runtime.session()
        )
        self._loop = self._runtime.loop(self._state, self._perform)
        self._beside = Background(self._loop.post, "parameter server")
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
        job = Job.from_dict(action.job)
        self._state.configure(job)
        # Beside the loop: where they have to be compiled first that lasts longer than a lease.
        self._state.warm_up()
        self._beside.submit(partial(warm_up, job))


def warm_up(job: Job) -> WarmedUp:
    """Load the kernels of the job's mode, so that the first push does not wait for them."""
    store, pair = make_store(job), [(0, 0), (1, 0)]
    store.crowd.see(pair, training=False)
    store.crowd.turn(0)
    store.start(0, np.zeros(16, np.float32), ())
    for who in pair:
        gradient = np.zeros(16, np.float32)
        store.check(0, who, 0, 1, gradient)
        store.push(0, who, 0, Part(gradient, 1), gradient.copy())
        store.settle(0)
        store.push(0, who, 0, Part(gradient, 1, ours=job.train.mode in ("async", "ssp")))
        store.settle(0)
    for name in {job.train.compression, job.train.pull_encoding} & CODECS.keys():
        warm_up_codec(name)
    return WarmedUp()
