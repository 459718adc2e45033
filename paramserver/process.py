"""The parameter server's process: joins its state to the transport and the disk."""

import os
from functools import partial

import numpy as np

from ..common.codecs import CODECS, warm_up_codec
from ..common.job import Job
from ..common.loop import Background, Crew
from ..common.node import Action, Exit
from ..common.rates import Segment
from ..common.runtime import Options, Runtime
from ..common.session import Welcomed
from ..common.types import Role
from .disk import Disk
from .modes import make_store
from .saving import CloseFile, OpenFile, Restore, WriteShard
from .sharing import SharedLanes
from .state import ParameterServer, WarmedUp
from .store import ShardPush
from .updates import Part

CREW = 2
"""Threads that apply a push of several shards: one cannot move memory as fast as the machine."""


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
        self._crew = Crew(min(CREW, len(os.sched_getaffinity(0))), "shards")

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
        assert self._state.store is not None
        self._state.store.together = self._crew.run
        # Beside the loop: where they have to be compiled first that lasts longer than a lease.
        self._state.warm_up()
        self._beside.submit(partial(warm_up, job))


def warm_up(job: Job) -> WarmedUp:
    """Load the kernels of the job's mode, so that the first push does not wait for them."""
    store, pair = make_store(job), [(0, 0), (1, 0)]
    store.crowd.see(pair, training=False)
    store.crowd.turn(0)
    # One segment of each kind: averaged state is moved by a kernel that the rule may not use.
    store.start(0, np.zeros(16, np.float32), (Segment(0, 8), Segment(8, 16, averaged=True)))
    for who in pair:
        gradient = np.zeros(16, np.float32)
        store.push(who, [ShardPush(0, 0, Part(gradient, 1), gradient.copy())])
        store.settle(0)
        ours = job.train.mode in ("async", "ssp")
        store.push(who, [ShardPush(0, 0, Part(gradient, 1, ours))])
        store.settle(0)
    for name in {job.train.compression, job.train.pull_encoding} & CODECS.keys():
        warm_up_codec(name)
    return WarmedUp()
