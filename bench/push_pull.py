"""`bench wire`: push-and-pull of 1 MiB shards between two processes, against a raw ZeroMQ echo."""

import secrets
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ..common.messages import Envelope, Form
from ..common.runtime import keep_freed_memory
from ..common.sharding import SHARD_ELEMENTS
from ..common.wire import Frames, encode
from .echo import Echo
from .one_server import OneServer, push
from .processes import module_command, pause, running, started
from .report import Row, compare

SHARDS = 32
"""A net of 8.4 million parameters."""
LOADS = {"32 shards, 8 in flight": (SHARDS, 8), "1 shard, 1 in flight": (1, 1)}
"""Shards, and requests in flight: what a worker's exchange does, and the bare round trip."""
RAW = "raw ZeroMQ echo"
WAYS = {"tcp": False, "shared memory": True}

Side = tuple["subprocess.Popen[str]", Callable[[int, int], float]]
"""The process at the other end, and what measures round trips/s, given shards and in flight."""
Rounds = dict[tuple[str, str], list[float]]
"""Round trips/s by side and load, a number a round."""


def bench_wire(rounds: int, seconds: float, say: Callable[[str], None]) -> list[Row]:
    """Round trips/s, and GB/s of both directions together, for each way and load.

    Arguments:
        rounds: interleaved rounds; one more, which does not count, goes before them.
        seconds: how long each of the six measurements of a round takes.
    Raises:
        RoleError: a side did not work, or the parameters are not what the pushes make of them.
    """
    keep_freed_memory()
    found: Rounds = {}
    with TemporaryDirectory(prefix="dualshard-bench-") as folder, ExitStack() as stack:
        say(f"starting a parameter server and a {RAW}")
        server = stack.enter_context(OneServer(SHARDS))
        sides = _start(stack, Path(folder), server, seconds)
        for turn in range(rounds + 1):
            say(f"round {turn} of {rounds}" if turn else "warming up")
            for load, (shards, in_flight) in LOADS.items():
                for name, (process, measure) in sides.items():
                    with running(process):
                        rate = measure(shards, in_flight)
                    if turn:
                        found.setdefault((name, load), []).append(rate)
        with running(sides["tcp"][0]):
            server.check()
    return make_rows(found)


def _start(stack: ExitStack, folder: Path, server: OneServer, seconds: float) -> dict[str, Side]:
    """Start the processes of both sides; each stands still until it is measured."""
    command = module_command("deploy", "paramserver", "--controller", server.address)
    one = stack.enter_context(started([*command, "--end-with-stdin"], folder, patience=0))
    announce = folder / "port"
    other = stack.enter_context(started(module_command("bench.echo", announce), folder, patience=0))
    server.stand(lambda: one.poll() is None)
    echo = stack.enter_context(Echo(other, announce))
    messages = [_message(server, shard) for shard in range(SHARDS)]

    def raw(shards: int, in_flight: int) -> float:
        return echo.measure(messages[:shards], in_flight, seconds)

    sides: dict[str, Side] = {RAW: (other, raw)}
    for way, shared in WAYS.items():
        sides[way] = (one, partial(server.measure, seconds=seconds, shared=shared))
    pause(one)
    pause(other)
    return sides


def _message(server: OneServer, shard: int) -> Frames:
    """The frames of a push as the worker sends them, for the echo; without the last, empty one."""
    message = push(shard, 1000, server.gradients[shard], shared=False)
    return encode(Envelope(secrets.randbits(62), Form.REQUEST, 1000, 1000, message))[:2]


def make_rows(found: Rounds) -> list[Row]:
    """Two rows for each way and load, each against the echo under the same load."""
    rows = []
    for load in LOADS:
        for way in WAYS:
            ours, theirs = found[way, load], found[RAW, load]
            what = f"{way}, {load}, against {RAW}"
            rows.append(compare(f"round trips: {what}", "round trips/s", ours, theirs))
            rows.append(compare(f"bandwidth: {what}", "GB/s", _gigabytes(ours), _gigabytes(theirs)))
    return rows


def _gigabytes(rates: list[float]) -> list[float]:
    """GB/s of both directions: a round trip moves a shard there and another one back."""
    return [rate * 2 * 4 * SHARD_ELEMENTS / 1e9 for rate in rates]
