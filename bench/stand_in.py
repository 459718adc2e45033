"""The smallest controller that parameter servers will follow, in the benchmark's own process.

It welcomes them, shows all of them one view, in which the benchmark's own ends are the workers, and
waits until they hold their shards. The servers are the command `dualshard paramserver`, whole and
unchanged.
"""

import os
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Self

from ..common.cluster import EMPTY, Parameter, make_view
from ..common.delivery import Courier, Peer
from ..common.errors import RoleError
from ..common.job import Job
from ..common.keys import KeyRing
from ..common.messages import Ack, Envelope, Join, Message, Ready, View, Welcome
from ..common.sharding import BUCKETS, Table
from ..common.transport import ZmqTransport
from ..common.types import Member, Role
from ..common.wire import decode, encode

LEASE = 3600.0
"""Seconds; so long that no heartbeat falls into a measurement, and none is missed by a server that
stands still."""
PATIENCE = 60.0
"""Seconds that the servers have to come to stand."""


class StandIn:
    """The controller's end. A context: when it is left, its transport is closed.

    Arguments:
        elements: float32 elements of the model.
        servers: how many will join.
        workers: incarnations of those who will push; they never join.
    """

    def __init__(
        self,
        job: Job,
        elements: int,
        servers: int,
        workers: Sequence[int],
        keys: KeyRing | None = None,
    ) -> None:
        self._job, self._elements, self._count = job, elements, servers
        self._workers = workers
        self._courier = Courier(secrets.randbits(62))
        self._transport = ZmqTransport(self._courier.incarnation, "127.0.0.1:0", keys=keys)
        self._joined: dict[Peer, Member] = {}
        self._view: View | None = None
        self.address = self._transport.address.removeprefix("tcp://")
        self.table = Table(1, tuple(bucket % servers for bucket in range(BUCKETS)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._transport.close(0)

    def gather(self, alive: Callable[[], bool]) -> list[str]:
        """Welcome all servers and show them the view; their addresses, by rank.

        Raises:
            RoleError: one has ended, or does not come.
        """
        self._govern(alive, lambda: len(self._joined) == self._count)
        self._view = self._first_view()
        for peer in self._joined:
            send = self._courier.notify(peer, self._view)
            self._transport.send(peer, encode(send.envelope))
        return [member.address for member in self._joined.values()]

    def wait_until_ready(self, alive: Callable[[], bool]) -> None:
        """Wait until every server says that it has its first values.

        Raises:
            RoleError: one has ended, or does not say so.
        """
        ready: set[Peer] = set()
        self._govern(alive, lambda: len(ready) == self._count, ready)

    def _govern(
        self, alive: Callable[[], bool], done: Callable[[], bool], ready: set[Peer] | None = None
    ) -> None:
        """Answer the servers' requests until it is `done`."""
        deadline = perf_counter() + PATIENCE
        while not done():
            if not alive() or perf_counter() > deadline:
                raise RoleError("the parameter server did not come to stand")
            for peer, frames in self._transport.receive(0.1):
                envelope = decode(frames)
                self._courier.receive(peer, envelope)
                send = self._courier.answer(peer, envelope, self._decide(peer, envelope))
                self._transport.send(peer, encode(send.envelope))
                if ready is not None and isinstance(envelope.message, Ready):
                    ready.add(peer)

    def _decide(self, peer: Peer, envelope: Envelope) -> Message:
        join = envelope.message
        if not isinstance(join, Join):
            return Ack()
        rank = self._joined[peer].rank if peer in self._joined else len(self._joined)
        self._joined[peer] = Member(
            Role.PARAMSERVER, rank, envelope.source, join.address, join.host, join.pid
        )
        return Welcome(rank, self._job.to_dict(), LEASE)

    def _first_view(self) -> View:
        host, ours = socket.gethostname(), os.getpid()
        workers = (
            Member(Role.WORKER, rank, incarnation, "", host, ours)
            for rank, incarnation in enumerate(self._workers)
        )
        cluster = replace(
            EMPTY,
            number=1,
            phase="training",
            members=(*self._joined.values(), *workers),
            table=self.table,
            layout=(Parameter("weights", False, (self._elements,)),),
        )
        return make_view(cluster)
