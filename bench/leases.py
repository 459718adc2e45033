"""`bench data --part state`: what a data server's state costs by the number of portions left.

The state alone, without sockets, data or threads: it is handed the messages of a controller and two
workers (`Serve`, `Fetch`, `Done`) and the events of its process (`Prepared`), as they would send
them. Handing out a portion must not take longer when many are left, and of those no more than the
numbers may be kept. Where steps close each worker has its own portions: that order is measured too.
"""

import gc
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np

from ..common.cluster import EMPTY, make_view
from ..common.delivery import Courier, Peer, Send
from ..common.job import Job
from ..common.messages import (
    Ack,
    DataFacts,
    Done,
    Envelope,
    Fetch,
    Form,
    Join,
    Message,
    Portion,
    Serve,
    Welcome,
)
from ..common.node import Action
from ..common.session import Welcomed, own_versions
from ..common.types import Member, Role
from ..dataserver.events import Opened, Prepare, Prepared
from ..dataserver.state import DataServer
from .report import Row, compare

MANY, FEW = 100_000, 1_000
"""Portions of an epoch."""
SERVED = 500
"""Portions that are timed, from the first on."""
CHUNKS = 10
"""In which they are timed; the fastest counts."""
GOAL = 0.8
MODES: Mapping[str, Mapping[str, Any]] = {"async": {}, "bsp": {"train": {"mode": "bsp"}}}
WORKERS = 2
CONTROLLER = "tcp://127.0.0.1:1"


class Ledger:
    """One state with an epoch of `portions`, and all who speak with it."""

    def __init__(self, portions: int, settings: Mapping[str, Any]) -> None:
        self._job = Job.from_dict({**settings, "worker": {"count": WORKERS}})
        self._couriers = [Courier(10 + rank) for rank in range(WORKERS)]
        self._governing = Courier(9)
        self._arrays = (np.zeros((1, 1), np.uint8), np.zeros(1, np.int64))
        self._leased: list[int] = []
        self._state = DataServer(
            Courier(1),
            controller=CONTROLLER,
            address="tcp://127.0.0.1:2",
            host="bench",
            pid=1,
            versions=own_versions(),
        )
        self._perform(self._state.start(0.0))
        workers = [
            Member(Role.WORKER, rank, courier.incarnation, "", "bench", rank)
            for rank, courier in enumerate(self._couriers)
        ]
        view = make_view(replace(EMPTY, number=1, phase="training", members=tuple(workers)))
        self._hear(CONTROLLER, self._governing.notify(b"server", view).envelope)
        facts = DataFacts(portions, 1, 2, [1], 1)
        self._perform(self._state.local(Opened(facts), 0.0))
        self._ask(CONTROLLER, self._governing, Serve(0, 0, 0, list(range(portions))))

    def serve(self, count: int) -> list[int]:
        """Each worker in turn takes a portion and is done with it; the portions, in order."""
        taken = []
        for turn in range(count):
            rank = turn % WORKERS
            peer, courier = b"worker %d" % rank, self._couriers[rank]
            self._ask(peer, courier, Fetch(False, 0))
            taken.append(self._leased.pop())
            self._ask(peer, courier, Done(0, taken[-1], {}))
        return taken

    def _ask(self, peer: Peer, courier: Courier, message: Message) -> None:
        self._hear(peer, courier.ask(b"server", message, 0.0).envelope)

    def _hear(self, peer: Peer, envelope: Envelope) -> None:
        self._perform(self._state.receive(peer, envelope, 0.0))

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Prepare):
                self._perform(self._state.local(Prepared(action, False, self._arrays), 0.0))
            elif isinstance(action, Welcomed):
                self._state.configure(self._job)
            elif isinstance(action, Send):
                self._deliver(action)

    def _deliver(self, send: Send) -> None:
        """A message of the state has come to whom it was sent."""
        envelope = send.envelope
        if envelope.form is Form.REQUEST:
            joins = isinstance(envelope.message, Join)
            answer = Welcome(0, self._job.to_dict(), 3600.0) if joins else Ack()
            self._hear(CONTROLLER, Envelope(9, Form.REPLY, envelope.sequence, 0, answer))
            return
        if isinstance(envelope.message, Portion):
            self._leased.append(envelope.message.portion)
        for peer, courier in enumerate(self._couriers):
            if send.peer == b"worker %d" % peer:
                courier.receive(b"server", envelope)
        if send.peer == CONTROLLER:
            self._governing.receive(b"server", envelope)


def bench_leases(rounds: int, say: Callable[[str], None]) -> list[Row]:
    """Rows of microseconds for a portion, with many left against few, and of what is kept."""
    say(f"the state of a data server with {MANY:,} portions left, and with {FEW:,}")
    rows = []
    for mode, settings in MODES.items():
        found: dict[int, list[float]] = {MANY: [], FEW: []}
        for _ in range(rounds):
            for portions, times in found.items():
                times.append(time_of_one(Ledger(portions, settings), SERVED))
        rows.append(make_row(mode, found[MANY], found[FEW]))
    kept = [kept_bytes(MANY, settings) for settings in MODES.values()]
    name = f"state of a data server: memory for each of {MANY:,} portions left"
    return [*rows, compare(name, "bytes", [max(kept) / MANY])]


def make_row(mode: str, many: Sequence[float], few: Sequence[float]) -> Row:
    """Microseconds a portion."""
    name = f"state of a data server, {mode}: a portion with {MANY:,} left, against {FEW:,}"
    return compare(name, "µs", many, few, GOAL, less_is_better=True)


def time_of_one(ledger: Ledger, count: int) -> float:
    """Microseconds from `Fetch` to `Done` of a portion, everyone's part in it included."""
    times = []
    for _ in range(CHUNKS):
        begin = perf_counter()
        ledger.serve(count // CHUNKS)
        times.append(perf_counter() - begin)
    return 1e6 * min(times) * CHUNKS / count


def kept_bytes(portions: int, settings: Mapping[str, Any]) -> int:
    """Bytes that an epoch of `portions` takes in the state, after some have been served."""
    tracemalloc.start()
    try:
        ledger = Ledger(portions, settings)
        ledger.serve(SERVED)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
