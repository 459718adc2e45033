"""`bench pushpull`: a model pushed, applied and pulled, against what the machine allows and peers.

One worker's end here, one real `dualshard paramserver` in a process of its own. Everything that is
compared is measured in interleaved rounds, each side in the variant that suits it best (`sides`).
"""

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from ..common.messages import Envelope, Form, Push
from ..common.runtime import keep_freed_memory
from ..common.sharding import SHARD_ELEMENTS
from ..common.wire import Frames, encode
from .account import account_rows
from .arena import IN_FLIGHT, Arena, arena
from .copying import Copies
from .echo import Echo
from .peers import Peer, installed, peer
from .processes import module_command, pause, running, started
from .report import Row, compare
from .sides import Side, in_turn
from .usage import cpu_seconds
from .worker_end import EPOCH, NOTHING, WorkerEnd

RAW = "raw ZeroMQ"
RAW_GOALS = {"sgd": 0.9, "adam": 0.8}
BF16_GOAL, TCP_GOAL, COPY_GOAL, SMALL_GOAL = 1.4, 5.0, 1.0, 2.5
COPY = "copy in memory, 2 threads"
PEERS = {"PyTorch RPC": ("torch", "peer_torch_rpc", 5.0), "Ray": ("ray", "peer_ray", 3.5)}
"""The package, the module and the goal of each."""
PROCESSOR = "processor time a round trip: "
"""Of both ends together, for 1 MiB there and 1 MiB back."""
SMALL_ELEMENTS = 25_000
"""A model of 100 kB."""
NAMES = {"tcp": "tcp", "ipc": "ipc", "shm": "shared memory"}
PUSHES = 1_000_000
"""A sequence number that is as long in a header as those of a long run."""

Rounds = Mapping[str, Sequence[float]]


def bench_push_pull(
    sizes: Sequence[int],
    rules: Sequence[str],
    rounds: int,
    seconds: float,
    say: Callable[[str], None],
) -> list[Row]:
    """GB/s of both directions together, exchanges/s of a small model, and where the time goes.

    Arguments:
        sizes: of the models, MiB.
        rounds: interleaved rounds; those in which variants are chosen go before them.
        seconds: how long each measurement of a round takes.
    Raises:
        RoleError: a side did not work, or the parameters are not what the pushes make of them.
    """
    keep_freed_memory()
    rows: list[Row] = []
    for name, (package, _, _) in PEERS.items():
        if not installed(package):
            say(f"{name} is not installed: nothing to compare with (pip install {package})")
    with TemporaryDirectory(prefix="dualshard-") as folder:
        for size in sizes:
            for rule in rules:
                say(f"{size} MiB, {rule}")
                here = Path(folder) / f"{size}-{rule}"
                here.mkdir()
                first = rule == rules[0]
                found = _measure(size * SHARD_ELEMENTS, rule, rounds, seconds, here, say, first)
                rows += make_rows(size, rule, found)
                rows += processor_rows(size, rule, found) if first else []
        say("a model of 100 kB")
        rows += small_rows(_measure_small(rounds, seconds, Path(folder)))
    return [*rows, *account_rows(rows, say)]


def _measure(
    elements: int,
    rule: str,
    rounds: int,
    seconds: float,
    folder: Path,
    say: Callable[[str], None],
    everyone: bool,
) -> dict[str, list[float]]:
    """GB/s by side; the copies, bf16 and the peers only where `everyone` is compared."""
    ways = [("tcp", "f32"), ("ipc", "f32"), ("shm", "f32")]
    with ExitStack() as stack:
        place = stack.enter_context(
            arena(rule, elements, [*ways, ("tcp", "bf16")] if everyone else ways, folder)
        )
        raw, pid = _raw_sides(stack, place, folder)
        sides = [*raw, *_our_sides(place)]
        busy = {side.name: [pid if side in raw else place.servers[0].pid] for side in sides}
        if everyone:
            sides.append(Side(COPY, stack.enter_context(Copies(elements)).variants))
            sides += _peer_sides(stack, elements, folder)
        found = in_turn(sides, rounds, seconds, say)
        if everyone:
            for side in sides:
                if side.name in busy:
                    found[PROCESSOR + side.name] = [processor(side, seconds, busy[side.name])]
        place.check_each()
    return found


def _our_sides(place: Arena) -> list[Side]:
    sides = []
    for (way, encoding), end in place.ends.items():
        name = NAMES[way] if encoding == "f32" else f"{NAMES[way]}, {encoding}"
        sides.append(our_side(name, place, end))
    return sides


def our_side(name: str, place: Arena, end: WorkerEnd) -> Side:
    """One way to the servers, with as many shards in flight as suit it."""
    variants = {
        f"{load} shards in flight": gigabytes(partial(end.measure, load)) for load in IN_FLIGHT
    }
    return Side(name, variants, place.awake)


def _raw_sides(stack: ExitStack, place: Arena, folder: Path) -> tuple[list[Side], int]:
    """The same frames past no protocol, over each transport that moves them; the other process."""
    announce = folder / "echo"
    process = stack.enter_context(
        started(module_command("bench.echo", announce), folder, patience=0)
    )
    messages = [_message(place, shard) for shard in range(place.model.shards.count)]
    sides = []
    for way in ("tcp", "ipc"):
        echo = stack.enter_context(Echo(process, announce, way))
        variants = {
            f"{load} messages in flight": gigabytes(partial(echo.measure, messages, load))
            for load in IN_FLIGHT
        }
        sides.append(Side(f"{RAW}, {way}", variants, [partial(running, process)]))
    pause(process)
    return sides, process.pid


def processor(side: Side, seconds: float, pids: Sequence[int]) -> float:
    """Microseconds of processor time, of this process and those of `pids`, for a MiB there and
    back: unlike speed it hardly depends on what else the machine does."""
    everyone = [os.getpid(), *pids]
    variant = next(iter(side.variants))
    before, begin = sum(map(cpu_seconds, everyone)), perf_counter()
    moved = side.measure(variant, seconds) * (perf_counter() - begin) * 1e9
    return 1e6 * (sum(map(cpu_seconds, everyone)) - before) * 2 * 4 * SHARD_ELEMENTS / moved


def _peer_sides(stack: ExitStack, elements: int, folder: Path) -> list[Side]:
    found: list[Peer] = [
        stack.enter_context(peer(name, module, folder, elements))
        for name, (package, module, _) in PEERS.items()
        if installed(package)
    ]
    return [Side(one.name, one.variants, [one.running]) for one in found]


def _message(place: Arena, shard: int) -> Frames:
    """The frames of a push as the worker's end sends them."""
    push = Push(
        EPOCH, [shard], [PUSHES], 0, 0, 1, 0.0, False, "f32", "f32", [],
        place.model.gradient_of(shard), NOTHING, NOTHING,
    )  # fmt: skip
    return encode(Envelope(secrets.randbits(62), Form.REQUEST, PUSHES, PUSHES, push))


def gigabytes(shards_a_second: Callable[[float], float]) -> Callable[[float], float]:
    """GB/s of both directions: a round trip moves a shard there and another one back."""
    return lambda seconds: shards_a_second(seconds) * 2 * 4 * SHARD_ELEMENTS / 1e9


def make_rows(size: int, rule: str, found: Rounds) -> list[Row]:
    """The rows of one model and rule, by what was measured beside it."""
    rows = []

    def row(ours: str, theirs: str, goal: float | None) -> None:
        name = f"{ours}, {rule}, {size} MiB, against {theirs}"
        rows.append(compare(name, "GB/s", found[ours], found[theirs], goal))

    shared = NAMES["shm"]
    for way in ("tcp", "ipc"):
        row(way, f"{RAW}, {way}", RAW_GOALS.get(rule))
    row(shared, "tcp", TCP_GOAL if rule == "sgd" else None)
    if "tcp, bf16" in found:
        row("tcp, bf16", "tcp", BF16_GOAL)
    for theirs, goal in [
        (COPY, COPY_GOAL),
        *((name, goal) for name, (_, _, goal) in PEERS.items()),
    ]:
        if theirs in found:
            row(shared, theirs, goal if rule == "sgd" else None)
    return rows


def processor_rows(size: int, rule: str, found: Rounds) -> list[Row]:
    """Processor time of both ends, against that of the raw exchange; less is better."""
    rows = []
    for way, raw in (("tcp", "tcp"), ("ipc", "ipc"), ("shm", "ipc")):
        ours, theirs = found[PROCESSOR + NAMES[way]], found[PROCESSOR + f"{RAW}, {raw}"]
        name = f"{PROCESSOR}{NAMES[way]}, {rule}, {size} MiB, against {RAW}, {raw}"
        rows.append(compare(name, "µs", ours, theirs, less_is_better=True))
    return rows


def _measure_small(rounds: int, seconds: float, folder: Path) -> dict[str, list[float]]:
    """Exchanges/s of a small model, one after the other, by way."""
    ways = [("tcp", "f32"), ("shm", "f32")]
    with arena("sgd", SMALL_ELEMENTS, ways, folder) as place:
        sides = [
            Side(NAMES[way], {"1 in flight": partial(end.measure, 1)}, place.awake)
            for (way, _), end in place.ends.items()
        ]
        found = in_turn(sides, rounds, seconds, lambda text: None)
        place.check()
    return found


def small_rows(found: Rounds) -> list[Row]:
    """The row of the small model."""
    shared, tcp = found[NAMES["shm"]], found[NAMES["tcp"]]
    name = "shared memory, sgd, 100 kB, against tcp"
    return [compare(name, "exchanges/s", shared, tcp, SMALL_GOAL)]
