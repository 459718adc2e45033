"""The smallest controller that one data server and one worker follow, on a thread of the benchmark.

It welcomes both, and once the data is open it lets one epoch follow the other: all portions are
given to the data server, and the next epoch begins when each of them is done. Both ends are real
processes; the data server is the command `dualshard dataserver`, whole and unchanged.
"""

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from threading import Event, Thread
from typing import Self

from ..common.clock import SystemClock
from ..common.cluster import EMPTY, Cluster, DataShape, make_view
from ..common.delivery import Courier, Peer
from ..common.errors import RoleError
from ..common.job import Job
from ..common.loop import Loop
from ..common.messages import (
    Ack,
    DataFacts,
    Envelope,
    Heartbeat,
    Join,
    Leave,
    Progress,
    Serve,
    Welcome,
)
from ..common.node import Action, Exit, Failed, Node
from ..common.telemetry import Telemetry
from ..common.transport import ZmqTransport
from ..common.types import Member, Role

LEASE = 3600.0
"""Seconds; so long that no heartbeat falls into a measurement, and none is missed by a process
that stands still."""
PATIENCE = 60.0
"""Seconds that both have to come to stand."""


class Governor(Node):
    """The state: who is here, and how the epoch stands. `trains` is called with the first epoch."""

    def __init__(self, courier: Courier, job: Job, trains: Callable[[], object]) -> None:
        super().__init__(courier)
        self._job, self._trains = job, trains
        self._cluster: Cluster = EMPTY
        self._peers: dict[Role, Peer] = {}
        self._done = 0
        self.requests |= {
            Join: self._on_join,
            DataFacts: self._on_facts,
            Progress: self._on_progress,
            Heartbeat: self._on_word,
            Leave: self._on_word,
        }
        self.replies[Serve] = lambda request, reply: None

    def happened(self, event: object) -> None:
        assert isinstance(event, Failed)
        self.do(Exit(event.status, event.reason))

    def _on_word(self, peer: Peer, envelope: Envelope) -> None:
        self.answer(peer, envelope, Ack())

    def _on_join(self, peer: Peer, envelope: Envelope) -> None:
        join = envelope.message
        assert isinstance(join, Join)
        self.answer(peer, envelope, Welcome(0, self._job.to_dict(), LEASE))
        role = Role(join.role)
        member = Member(role, 0, envelope.source, join.address, join.host, join.pid)
        self._peers[role] = peer
        self._cluster = replace(self._cluster, members=(*self._cluster.members, member))
        self._go_on()

    def _on_facts(self, peer: Peer, envelope: Envelope) -> None:
        facts = envelope.message
        assert isinstance(facts, DataFacts)
        self.answer(peer, envelope, Ack())
        self._cluster = replace(self._cluster, data=DataShape.of(facts))
        self._go_on()

    def _go_on(self) -> None:
        if len(self._peers) == 2 and self._cluster.data is not None:
            self._begin(0)
            self._trains()

    def _on_progress(self, peer: Peer, envelope: Envelope) -> None:
        progress, data = envelope.message, self._cluster.data
        assert isinstance(progress, Progress)
        assert data is not None
        self.answer(peer, envelope, Ack())
        self._done += len(progress.done)
        if self._done == _portions(data):
            self._begin(self._cluster.leg + 1)

    def _begin(self, epoch: int) -> None:
        """Show both the view of this epoch, and give all of it to the data server."""
        data = self._cluster.data
        assert data is not None
        number = self._cluster.number + 1
        self._cluster = replace(self._cluster, number=number, phase="training", leg=epoch)
        self._done = 0
        for peer in self._peers.values():
            self.do(self.courier.notify(peer, make_view(self._cluster)))
        self.ask(self._peers[Role.DATASERVER], Serve(epoch, epoch, 0, list(range(_portions(data)))))


def _portions(data: DataShape) -> int:
    """Of an epoch, which is one leg here."""
    return -(-data.samples // data.portion_size)


class Governed:
    """A governor at work. A context: when it is left, its thread and its transport are gone."""

    def __init__(self, job: Job) -> None:
        courier, clock = Courier(secrets.randbits(62)), SystemClock()
        self._transport = ZmqTransport(courier.incarnation, "127.0.0.1:0")
        self.address = self._transport.address.removeprefix("tcp://")
        self._training = Event()
        node = Governor(courier, job, self._training.set)
        self._loop = Loop(node, self._transport, clock, Telemetry("bench", clock), _nothing)
        self._thread = Thread(target=self._run, name="governor", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):
            self._loop.post(Failed(0, ""))
        self._thread.join(PATIENCE)

    def wait(self, alive: Callable[[], bool]) -> None:
        """Until the first epoch has begun.

        Raises:
            RoleError: one has ended, or does not come.
        """
        for _ in range(int(PATIENCE / 0.1)):
            if self._training.wait(0.1):
                return
            if not alive():
                break
        raise RoleError("the data server did not come to stand")

    def _run(self) -> None:
        self._loop.run()
        self._transport.close(0)


def _nothing(action: Action) -> None:
    """A governor has no actions of its own."""
