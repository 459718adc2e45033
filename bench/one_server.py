"""One real parameter server in a process of its own, and a worker's end of its wire.

This side is the smallest controller and worker that the server will follow: it welcomes it, shows
it one view, starts its shards, and then pushes and pulls with the real messages, delivery, wire
and transport. The server is the command `dualshard paramserver`, whole and unchanged.
"""

import os
import secrets
import socket
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter, sleep
from typing import Self

import numpy as np

from ..common.cluster import EMPTY, Parameter, make_view
from ..common.delivery import Courier
from ..common.errors import RoleError
from ..common.job import Job
from ..common.messages import (
    Ack,
    Attach,
    Envelope,
    Heartbeat,
    Join,
    Message,
    Pull,
    Push,
    Pushed,
    Ready,
    Shard,
    Start,
    View,
    Welcome,
    WrongOwner,
)
from ..common.segment import Segment, place
from ..common.sharding import BUCKETS, SHARD_ELEMENTS, Table
from ..common.transport import ZmqTransport
from ..common.types import Float32, Member, Role
from ..common.wire import decode, encode

RATE = 2.0**-10
"""The learning rate. With whole numbers as gradients every update is exact in float32, so that the
result of n pushes is NumPy's to the last bit, however the kernel rounds."""
JOB = Job.from_dict(
    {
        "optimizer": {"rule": "sgd", "lr": RATE, "schedule": "constant"},
        "train": {"staleness_scaling": 0.0},
        "paramserver": {"count": 1},
    }
)
LEASE = 3600.0
"""Seconds; so long that no heartbeat falls into a measurement, and none is missed by a server that
stands still."""
PATIENCE = 60.0
"""Seconds that the server has to come to stand, or to answer."""
TABLE = Table(1, (0,) * BUCKETS)
NOTHING: Float32 = np.empty(0, np.float32)


class OneServer:
    """This side's two ends; the server is to be started with `--controller ADDRESS`. A context:
    when it is left, the transports are closed.

    `parameters` and `gradients` are float32 (shards, 262144), in memory that the server shares.
    """

    def __init__(self, shards: int) -> None:
        self._segment = Segment.create(2 * shards * SHARD_ELEMENTS)
        self.parameters, self.gradients = self._segment.array.reshape(2, shards, SHARD_ELEMENTS)
        self.gradients[:] = np.random.default_rng(0).integers(-8, 9, self.gradients.shape)
        self.pushes = [0] * shards
        self._versions = [0] * shards
        self._controller = Courier(secrets.randbits(62))
        self._worker = Courier(secrets.randbits(62))
        self._listening = ZmqTransport(self._controller.incarnation, "127.0.0.1:0")
        self._asking = ZmqTransport(self._worker.incarnation)
        self._asking.lend(self._segment.array)
        self.address = self._listening.address.removeprefix("tcp://")
        self._server = ""
        self._view: View | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._listening.close(0)
        self._asking.close(0)
        os.close(self._segment.descriptor)

    # The controller's end.

    def stand(self, alive: Callable[[], bool]) -> None:
        """Bring the server up: welcome, view, first values, shared memory.

        Raises:
            RoleError: it has ended, or does not answer.
        """
        self._govern_until(Heartbeat, alive)
        for shard, values in enumerate(self.parameters):
            self._settle(Start(TABLE.epoch, shard, values))
        self._govern_until(Ready, alive)
        rows, size = 2, self.parameters.size
        self._settle(Attach(place(), os.getpid(), self._segment.descriptor, rows, size))

    def _govern_until(self, kind: type[Message], alive: Callable[[], bool]) -> None:
        """Answer the server's requests up to the first one of this kind."""
        deadline = perf_counter() + PATIENCE
        while alive() and perf_counter() < deadline:
            for peer, frames in self._listening.receive(0.1):
                envelope = decode(frames)
                self._controller.receive(peer, envelope)
                send = self._controller.answer(peer, envelope, self._decide(envelope))
                self._listening.send(peer, encode(send.envelope))
                if isinstance(envelope.message, kind):
                    return
        raise RoleError("the parameter server did not come to stand")

    def _decide(self, envelope: Envelope) -> Message:
        """The controller's answer."""
        if isinstance(envelope.message, Join):
            self._view = self._first_view(envelope.source, envelope.message)
            return Welcome(0, JOB.to_dict(), LEASE)
        if isinstance(envelope.message, Heartbeat) and self._view is not None:
            return self._view
        return Ack()

    def _first_view(self, source: int, join: Join) -> View:
        self._server = join.address
        host, ours = socket.gethostname(), os.getpid()
        members = (
            Member(Role.PARAMSERVER, 0, source, join.address, join.host, join.pid),
            Member(Role.WORKER, 0, self._worker.incarnation, "", host, ours),
        )
        layout = (Parameter("weights", False, self.parameters.shape),)
        cluster = replace(
            EMPTY, number=1, phase="training", members=members, table=TABLE, layout=layout
        )
        return make_view(cluster)

    # The worker's end.

    def measure(self, shards: int, in_flight: int, seconds: float, *, shared: bool) -> float:
        """Push-and-pulls a second over the first `shards` shards in turn, for about `seconds`.

        Each pushes a gradient and takes the fresh shard; `shared`: both by shared memory.

        Raises:
            RoleError: the server answers with something else, or not at all.
        """
        asked = answered = 0
        begin = perf_counter()
        while True:
            while asked - answered < in_flight and perf_counter() - begin < seconds:
                self._push(asked % shards, shared)
                asked += 1
            if asked == answered:
                return answered / (perf_counter() - begin)
            for reply in self._replies():
                self._take(reply)
                answered += 1

    def _push(self, shard: int, shared: bool) -> None:
        gradient = NOTHING if shared else self.gradients[shard]
        self._ask(push(shard, self._versions[shard], gradient, shared=shared))
        self.pushes[shard] += 1

    def _take(self, reply: Message) -> None:
        """Note a fresh shard; one that has come by the wire is copied to its place."""
        if isinstance(reply, Shard):
            np.copyto(self.parameters[reply.shard], reply.values)
            self._versions[reply.shard] = reply.version
        elif isinstance(reply, Pushed):
            self._versions[reply.shards[0]] = reply.versions[0]
        else:
            raise RoleError(f"the parameter server answered a push with {reply}")

    def check(self) -> None:
        """Compare the parameters, here and on the server, with NumPy's.

        Raises:
            RoleError: a shard is not what its pushes make of it.
        """
        for shard, count in enumerate(self.pushes):
            expected = self.gradients[shard] * np.float32(-RATE * count)
            held = self._settle(Pull(TABLE.epoch, shard))
            assert isinstance(held, Shard)
            for values in (self.parameters[shard], held.values):
                if held.version != count or not np.array_equal(values, expected):
                    raise RoleError(f"shard {shard} is not what {count} pushes make of it")

    def _ask(self, message: Message) -> None:
        send = self._worker.ask(self._server, message, perf_counter())
        self._asking.send(send.peer, encode(send.envelope))

    def _replies(self) -> list[Message]:
        """The replies that are there, at least one."""
        arrived = self._asking.receive(PATIENCE)
        if not arrived:
            raise RoleError(f"the parameter server did not answer for {PATIENCE:g} s")
        envelopes = [(peer, decode(frames)) for peer, frames in arrived]
        for peer, envelope in envelopes:
            self._worker.receive(peer, envelope)
        return [envelope.message for _, envelope in envelopes]

    def _settle(self, message: Message) -> Message:
        """The reply to a request while nothing else is open."""
        while True:
            self._ask(message)
            (reply,) = self._replies()
            if not isinstance(reply, WrongOwner):
                break
            sleep(0.02)  # the server has not seen the view yet
        if not isinstance(reply, Ack | Shard):
            raise RoleError(f"the parameter server answered {type(message).__name__} with {reply}")
        return reply


def push(shard: int, version: int, gradient: Float32, *, shared: bool) -> Push:
    """A push of one shard for the fresh shard, as a worker's first lane sends it in epoch 0."""
    return Push(
        TABLE.epoch, [shard], [version], 0, 0, 1, 0.0, shared, "f32", "f32", [], gradient, NOTHING
    )
