"""The worker's end of the wire, without the worker: pushes a model's gradient, takes fresh shards.

Real messages, delivery, wire, codecs and transports. `python -m dualshard.bench.worker_end` is one
in a process of its own, that does what it is told line by line (see `main`).
"""

import json
import os
import sys
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter, sleep
from typing import Self

import numpy as np

from ..common.codecs import Encoder, decode, make_codec
from ..common.delivery import Courier
from ..common.errors import RoleError
from ..common.keys import KeyRing
from ..common.messages import Ack, Attach, Message, Pull, Push, Pushed, Shard, Start, WrongOwner
from ..common.runtime import keep_freed_memory
from ..common.segment import Segment, place
from ..common.sharding import SHARD_ELEMENTS, Shards
from ..common.transport import ZmqTransport
from ..common.types import Float32, Role
from ..common.wire import decode as decode_frames
from ..common.wire import encode as encode_frames
from ..worker.exchanging import GROUP

EPOCH = 1
"""Of the bucket table."""
RATE = 2.0**-10
"""The learning rate. With whole numbers as gradients every update of sgd is exact in float32, so
that the result of n pushes is NumPy's to the last bit, however the kernel rounds."""
PATIENCE = 60.0
"""Seconds that a server has to answer."""
NOTHING: Float32 = np.empty(0, np.float32)


@dataclass
class Model:
    """Parameters and a gradient of whole numbers that never changes, in memory that can be shared.

    `pushes` counts the pushes of each shard, `versions` are those that came back last, `encodings`
    in which they came, `owners` the rank of the server of each shard. A context: when it is left,
    the segment is closed.
    """

    elements: int
    owners: Sequence[int]
    shards: Shards = field(init=False)
    versions: list[int] = field(init=False)
    pushes: list[int] = field(init=False)
    encodings: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.shards = Shards(self.elements)
        self.segment = Segment.create(2 * self.elements)
        self.parameters, self.gradient = self.segment.array.reshape(2, self.elements)
        drawn = np.random.default_rng(0).integers(-8, 9, SHARD_ELEMENTS)
        self.gradient[:] = np.resize(drawn, self.elements)
        self.parameters[:] = 0
        self.versions, self.pushes = [0] * self.shards.count, [0] * self.shards.count
        self.encodings = ["f32"] * self.shards.count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.segment.descriptor)

    def gradient_of(self, shard: int) -> Float32:
        """The slice of the gradient that a shard is."""
        begin, end = self.shards.span(shard)
        return self.gradient[begin:end]

    def parameters_of(self, shard: int) -> Float32:
        """The slice of the parameters that a shard is."""
        begin, end = self.shards.span(shard)
        return self.parameters[begin:end]

    def groups(self, size: int) -> list[list[int]]:
        """All shards, in lists of up to `size` of one owner."""
        found = []
        for owner in sorted(set(self.owners)):
            owned = [s for s in range(self.shards.count) if self.owners[s] == owner]
            found.append([owned[at : at + size] for at in range(0, len(owned), size)])
        # In turn, so that every server has something to do at any time.
        longest = max(map(len, found))
        return [groups[at] for at in range(longest) for groups in found if at < len(groups)]


class Counts(Counter[str]):
    """A transport's report that only counts."""

    def count(self, counter: str, by: int = 1) -> None:
        """As `Report`."""
        self[counter] += by

    def log_rarely(self, level: str, text: str) -> None:
        """As `Report`."""


class WorkerEnd:
    """One way to the servers. A context: when it is left, its transport is closed.

    Arguments:
        way: a value of `train.transport`; with keys, `curve` or `sealed`: tcp without and with
            sealed lanes for what is large.
        encoding: in which pushes and pulls travel, `f32` or `bf16`; past the wire they do not.
    """

    def __init__(
        self,
        model: Model,
        servers: Sequence[str],
        incarnation: int,
        way: str,
        encoding: str,
        keys: KeyRing | None = None,
    ) -> None:
        self._model, self._servers, self._way = model, servers, way
        self.encoding = encoding
        self._courier = Courier(incarnation)
        self._transport = ZmqTransport(incarnation, keys=keys, lanes=way == "sealed")
        self.counted = Counts()
        """What the transport counts: messages that were sealed, or refused."""
        self._transport.report = self.counted
        self._transport.lend(model.segment.array)
        self._groups = deque(model.groups(GROUP if way == "shm" else 1))
        self._encoder: Encoder | None = None
        if encoding != "f32":
            self._encoder = Encoder(make_codec(encoding, 0.01), model.shards, True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._transport.close(0)

    def connect(self) -> None:
        """Reach the servers, by their Unix sockets or the worker's memory where that is the way.

        Raises:
            RoleError: a server refuses, or does not answer.
        """
        for address in self._servers:
            self._transport.expect(address, Role.PARAMSERVER)
            # Past tcp control messages use the Unix socket, as a worker's do.
            if self._way in ("ipc", "shm") and not self._transport.shortcut(address):
                raise RoleError(f"no Unix socket beside {address}")
            if self._way == "shm":
                descriptor, size = self._model.segment.descriptor, self._model.elements
                self._settle(Attach(place(), os.getpid(), descriptor, 2, size), address)

    def start(self) -> None:
        """Give every shard its first values."""
        for shard in range(self._model.shards.count):
            values = self._model.parameters_of(shard)
            self._settle(Start(EPOCH, shard, values), self._owner(shard))

    def measure(self, in_flight: int, seconds: float) -> float:
        """Shards pushed and pulled a second, all shards in turn, for about `seconds`.

        Arguments:
            in_flight: shards under way at once; by shared memory some go in one message.
        Raises:
            RoleError: a server answers with something else, or not at all.
        """
        under_way = done = 0
        begin = perf_counter()
        while True:
            while perf_counter() - begin < seconds:
                group = self._groups[0]
                if under_way and under_way + len(group) > in_flight:
                    break
                self._groups.rotate(-1)
                self._push(group)
                under_way += len(group)
            if not under_way:
                return done / (perf_counter() - begin)
            for reply in self._replies():
                settled = self._take(reply)
                under_way -= settled
                done += settled

    def _owner(self, shard: int) -> str:
        return self._servers[self._model.owners[shard]]

    def _push(self, group: list[int]) -> None:
        gradient, extra, encoding, fetch = NOTHING, NOTHING, "f32", "f32"
        if self._way != "shm":
            gradient = self._model.gradient_of(group[0])
            if self._encoder is not None:
                code = self._encoder.encode(group[0], gradient)
                gradient, extra, encoding, fetch = code.payload, code.extra, code.name, code.name
        push = Push(
            EPOCH,
            group,
            [self._model.versions[shard] for shard in group],
            0,
            0,
            1,
            0.0,
            self._way == "shm",
            fetch,
            encoding,
            [],
            gradient,
            extra,
            NOTHING,
        )
        self._ask(push, self._owner(group[0]))
        for shard in group:
            self._model.pushes[shard] += 1

    def _take(self, reply: Message) -> int:
        """Note fresh shards; one that has come by the wire is copied to its place. How many."""
        model = self._model
        if isinstance(reply, Shard):
            decode(reply.encoding, reply.values, NOTHING, model.parameters_of(reply.shard))
            model.versions[reply.shard] = reply.version
            model.encodings[reply.shard] = reply.encoding
            return 1
        if not isinstance(reply, Pushed):
            raise RoleError(f"the parameter server answered a push with {reply}")
        for shard, version in zip(reply.shards, reply.versions, strict=True):
            model.versions[shard] = version
            model.encodings[shard] = "f32"
        return len(reply.shards)

    def pull(self, shard: int) -> Shard:
        """A shard as the server holds it."""
        reply = self._settle(Pull(EPOCH, shard), self._owner(shard))
        assert isinstance(reply, Shard)
        return reply

    def wrong(self, pushes: Sequence[int]) -> int | None:
        """The first shard on the servers that is not what these numbers of pushes by sgd make of
        it, bit for bit; None if there is none."""
        for shard, count in enumerate(pushes):
            held = self.pull(shard)
            expected = self._model.gradient_of(shard) * np.float32(-RATE * count)
            if held.version != count or not np.array_equal(held.values, expected):
                return shard
        return None

    def _ask(self, message: Message, address: str) -> None:
        send = self._courier.ask(address, message, perf_counter())
        self._transport.send(send.peer, encode_frames(send.envelope))

    def _replies(self) -> list[Message]:
        """The replies that are there, at least one."""
        arrived, begin = self._transport.receive(PATIENCE), perf_counter()
        while not arrived:  # with keys the transport has wakings of its own
            if perf_counter() - begin > PATIENCE:
                raise RoleError(f"the parameter server did not answer for {PATIENCE:g} s")
            arrived = self._transport.receive(PATIENCE)
        envelopes = [(peer, decode_frames(frames)) for peer, frames in arrived]
        for peer, envelope in envelopes:
            self._courier.receive(peer, envelope)
        return [envelope.message for _, envelope in envelopes]

    def _settle(self, message: Message, address: str) -> Message:
        """The reply to a request while nothing else is open."""
        while True:
            self._ask(message, address)
            (reply,) = self._replies()
            if not isinstance(reply, WrongOwner):
                break
            sleep(0.02)  # the server has not seen the view yet
        if not isinstance(reply, Ack | Shard):
            raise RoleError(f"the parameter server answered {type(message).__name__} with {reply}")
        return reply


def main() -> None:
    """Do what standard input says, a line each, answering each with a line of JSON.

    First comes a JSON object: `elements`, `owners`, `servers`, `incarnation`, `way`. Then `start`
    (this end gives the first values), `measure IN_FLIGHT SECONDS` (shards/s), `pushes` (of each
    shard), or `check PUSHES...`, those of all ends: the first shard that is not what as many pushes
    by sgd make of it, or null.
    """
    keep_freed_memory()
    told = json.loads(sys.stdin.readline())
    with Model(told["elements"], told["owners"]) as model:
        end = WorkerEnd(model, told["servers"], told["incarnation"], told["way"], "f32")
        with end:
            end.connect()
            print(json.dumps("connected"), flush=True)
            for line in sys.stdin:
                what, *arguments = line.split()
                answer: object = None
                if what == "start":
                    end.start()
                elif what == "measure":
                    answer = end.measure(int(arguments[0]), float(arguments[1]))
                elif what == "check":
                    answer = end.wrong(list(map(int, arguments)))
                else:
                    answer = model.pushes
                print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
