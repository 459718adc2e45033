"""`bench scale`: more servers for one worker, and more workers for one server, on one host.

Every worker's end and every server is a process of its own; sgd, a model of 64 MiB, all workers
push and pull all of it. What grows, and what stands in the way, is told by the processor time that
each process had meanwhile.
"""

import json
import os
import secrets
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from select import select
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from ..common.errors import RoleError
from ..common.sharding import SHARD_ELEMENTS, Shards
from .arena import all_alive, make_job, start_servers
from .processes import module_command, pause, running, started
from .report import Row, compare
from .stand_in import StandIn
from .usage import cpu_seconds, machine_seconds, saturated

SHARDS = 64
"""MiB of the model."""
IN_FLIGHT = 16
"""Shards of one worker under way at once."""
WAYS = {"tcp": "tcp", "shared memory": "shm"}
LAYOUTS = ((1, 1), (2, 1), (4, 1), (1, 2), (1, 4))
"""Servers and workers."""
PATIENCE = 60.0
"""Seconds that a worker's end has to answer."""


@dataclass
class Rounds:
    """What each round of one layout came to: GB/s of all workers together, both directions, and
    the cores that each process and the whole machine used."""

    gigabytes: list[float] = field(default_factory=list)
    busy: list[dict[str, float]] = field(default_factory=list)
    machine: list[float] = field(default_factory=list)

    def typical(self) -> tuple[dict[str, float], float]:
        """Medians of what was used: by process, and of the machine."""
        names = self.busy[0]
        return {n: median(one[n] for one in self.busy) for n in names}, median(self.machine)


Found = Mapping[tuple[str, int, int], Rounds]
"""By way, servers and workers."""


class Pen:
    """Servers and workers' ends that stand still but while they are measured together."""

    def __init__(
        self, stack: ExitStack, folder: Path, way: str, servers: int, workers: int, shards: int
    ) -> None:
        cut = Shards(shards * SHARD_ELEMENTS)
        incarnations = [secrets.randbits(62) for _ in range(workers)]
        stand_in = stack.enter_context(StandIn(make_job("sgd"), cut.size, servers, incarnations))
        self._servers = start_servers(stack, stand_in, folder, servers)
        command = module_command("bench.worker_end")
        self._workers = [
            stack.enter_context(started(command, folder, output=subprocess.PIPE, patience=0))
            for _ in incarnations
        ]
        alive = partial(all_alive, [*self._servers, *self._workers])
        addresses = stand_in.gather(alive)
        owners = [stand_in.table.owners[cut.bucket(shard)] for shard in range(cut.count)]
        for worker, incarnation in zip(self._workers, incarnations, strict=True):
            told = {"elements": cut.size, "owners": owners, "servers": addresses}
            _tell(worker, json.dumps({**told, "incarnation": incarnation, "way": way}))
            _hear(worker)
        self._ask("start", self._workers[:1])
        stand_in.wait_until_ready(alive)
        for process in (*self._servers, *self._workers):
            pause(process)

    def measure(self, seconds: float, into: Rounds) -> None:
        """All workers at once for about `seconds`."""
        named = [
            *((f"worker {n}", worker) for n, worker in enumerate(self._workers)),
            *((f"server {n}", server) for n, server in enumerate(self._servers)),
        ]
        with ExitStack() as stack:
            for _, process in named:
                stack.enter_context(running(process))
            before = {name: cpu_seconds(process.pid) for name, process in named}
            machine, begin = machine_seconds(), perf_counter()
            rates = self._ask(f"measure {IN_FLIGHT} {seconds}", self._workers)
            taken = perf_counter() - begin
            into.machine.append((machine_seconds() - machine) / taken)
            into.busy.append(
                {name: (cpu_seconds(one.pid) - before[name]) / taken for name, one in named}
            )
        into.gigabytes.append(sum(rates) * 2 * 4 * SHARD_ELEMENTS / 1e9)

    def check(self) -> None:
        """Every shard is what the pushes of all workers make of it, and counts each of them once.

        Raises:
            RoleError: one is not.
        """
        with ExitStack() as stack:
            for process in (*self._servers, *self._workers):
                stack.enter_context(running(process))
            pushes = [
                sum(counts) for counts in zip(*self._ask("pushes", self._workers), strict=True)
            ]
            wrong = self._ask(f"check {' '.join(map(str, pushes))}", self._workers[:1])[0]
        if wrong is not None:
            raise RoleError(f"shard {wrong} is not what {pushes[wrong]} pushes make of it")

    def _ask(self, line: str, workers: Sequence["subprocess.Popen[str]"]) -> list[Any]:
        """The answers of these workers to a line that all of them get first."""
        for worker in workers:
            _tell(worker, line)
        return [_hear(worker) for worker in workers]


def _tell(worker: "subprocess.Popen[str]", line: str) -> None:
    assert worker.stdin is not None
    worker.stdin.write(f"{line}\n")
    worker.stdin.flush()


def _hear(worker: "subprocess.Popen[str]") -> Any:
    assert worker.stdout is not None
    line = worker.stdout.readline() if select([worker.stdout], [], [], PATIENCE)[0] else ""
    if not line:
        raise RoleError("a worker's end has ended, or is silent")
    return json.loads(line)


def bench_scale(
    rounds: int, seconds: float, say: Callable[[str], None], shards: int = SHARDS
) -> list[Row]:
    """GB/s of all workers together, by number of servers and workers, against one of each.

    Arguments:
        rounds: interleaved rounds; one more, which does not count, goes before them.
        seconds: how long each measurement of a round takes.
    Raises:
        RoleError: a side did not work, or the parameters are not what the pushes make of them.
    """
    found: dict[tuple[str, int, int], Rounds] = {}
    with TemporaryDirectory(prefix="dualshard-") as folder, ExitStack() as stack:
        say("starting all servers and workers' ends")
        pens = {
            (name, *layout): Pen(stack, Path(folder), way, *layout, shards)
            for name, way in WAYS.items()
            for layout in LAYOUTS
        }
        for turn in range(rounds + 1):
            say(f"round {turn} of {rounds}" if turn else "warming up")
            for key, pen in pens.items():
                pen.measure(seconds, found.setdefault(key, Rounds()) if turn else Rounds())
        for pen in pens.values():
            pen.check()
    for key, one in found.items():
        busy, machine = one.typical()
        say(f"{layout_name(*key)}: {told(busy, machine)}")
    return make_rows(found)


def told(busy: Mapping[str, float], machine: float) -> str:
    """What the processes used, and what is saturated, in one line."""
    cores = len(os.sched_getaffinity(0))
    used = ", ".join(f"{name} {share:.2f}" for name, share in busy.items())
    limit = saturated(cores, busy, machine)
    return f"cores used: {used}, the machine {machine:.2f} of {cores}: {limit}"


def layout_name(way: str, servers: int, workers: int) -> str:
    """`tcp, 2 servers, 1 worker`."""
    counted = [
        f"{n} {what}{'' if n == 1 else 's'}"
        for n, what in ((servers, "server"), (workers, "worker"))
    ]
    return ", ".join([way, *counted])


def make_rows(found: Found) -> list[Row]:
    """The rows of all layouts, each against one server and one worker the same way."""
    rows = []
    for (way, servers, workers), one in found.items():
        name, alone = layout_name(way, servers, workers), found[way, 1, 1].gigabytes
        theirs = alone if (servers, workers) != (1, 1) else ()
        name += ", against one of each" if theirs else ""
        rows.append(compare(name, "GB/s", one.gigabytes, theirs))
    return rows
