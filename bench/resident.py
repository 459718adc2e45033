"""`bench memory`: what a parameter server holds in memory beside the parameters and their state.

A worker's segment that the server maps counts in VmRSS once it has been touched, and is not the
server's own: what is compared is RssAnon, the server's own pages, programs and their libraries
included as far as they were written to. The others are told beside it.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from ..common.job import OptimizerSection
from ..common.rules import make_rule
from ..common.runtime import keep_freed_memory
from ..common.sharding import SHARD_ELEMENTS
from .arena import arena
from .report import Row, compare
from .usage import resident

RULES = ("sgd", "momentum", "adagrad", "rmsprop", "adam")
WAYS = {"tcp": "tcp", "shared memory": "shm"}
FRACTION, BASE = 1.15, 64.0
"""What a server may hold: 15 % more than parameters and state, and so many MiB."""
IN_FLIGHT = 32
PASSES = 3.0
"""Times that the model is exchanged before one looks, at least."""
GUESS = 1.0
"""Seconds of the first exchanges, after which it is known how long the passes take."""


def bench_memory(size: int, say: Callable[[str], None]) -> list[Row]:
    """Rows of each rule and way: MiB of the server's own memory against what it may hold.

    Arguments:
        size: of the model, MiB.
    Raises:
        RoleError: a server did not work, or the parameters are not what the pushes make of them.
    """
    keep_freed_memory()
    rows = []
    with TemporaryDirectory(prefix="dualshard-") as folder:
        for rule in RULES:
            for name, way in WAYS.items():
                held = _held(rule, size, way, Path(folder))
                rows += make_rows(rule, name, size, held["RssAnon"])
                told = ", ".join(f"{kind} {value:,.0f} MiB" for kind, value in held.items())
                say(f"{rule}, {name}: {told}")
    return rows


def _held(rule: str, size: int, way: str, folder: Path) -> dict[str, float]:
    """MiB of one server by kind, after it has exchanged the model some times."""
    with arena(rule, size * SHARD_ELEMENTS, [(way, "f32")], folder) as place:
        (end,) = place.ends.values()
        with place.running():
            rate = end.measure(IN_FLIGHT, GUESS)
            end.measure(IN_FLIGHT, PASSES * size / rate)
        held = dict(resident(place.servers[0].pid))
        place.check()
    return held


def make_rows(rule: str, name: str, size: int, held: float) -> list[Row]:
    """The row of one server that holds `held` MiB of its own, for a model of `size` MiB."""
    needed = size * (1 + len(make_rule(OptimizerSection(rule=rule)).slots))
    limit = FRACTION * needed + BASE
    title = f"{rule}, {name}: own memory, against parameters and state + 15 % + 64 MiB"
    return [compare(title, "MiB", [held], [limit], 1.0, less_is_better=True)]
