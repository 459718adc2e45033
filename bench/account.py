"""Where the time of a round trip over tcp goes: its parts, measured apart in one process.

In the exchange two processes work at the same time, so that parts may add up to more than the
whole; what is left over is the loop, the queues and waiting.
"""

from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np

from ..common.delivery import Courier
from ..common.messages import Push, Shard
from ..common.rule_kernels import finite
from ..common.sharding import SHARD_ELEMENTS
from ..common.types import Float32
from ..common.wire import decode, encode
from .apply import SHARDS, start, start_side
from .report import Row

TIMES = 4
"""Passes over all shards; the fastest counts."""
MICROSECONDS = 2 * 4 * SHARD_ELEMENTS / 1e3
"""A shard there and back at 1 GB/s."""


def account_rows(rows: Sequence[Row], say: Callable[[str], None]) -> list[Row]:
    """Microseconds of each part of a round trip of 1 MiB with sgd, after the whole of it.

    Arguments:
        rows: those of the benchmark; the first of tcp with sgd tells whole and raw exchange.
    """
    whole = next((row for row in rows if row.name.startswith("tcp, sgd")), None)
    if whole is None or not whole.value or not whole.against:
        return []
    say("where the time goes")
    parts = {
        "raw ZeroMQ exchange": MICROSECONDS / whole.against,
        **{name: time_of(part) for name, part in make_parts().items()},
    }
    total = MICROSECONDS / whole.value
    told = [Row("account of tcp, sgd: a round trip of 1 MiB", total, "µs")]
    told += [Row(f"account: {name}, measured apart", value, "µs") for name, value in parts.items()]
    rest = total - sum(parts.values())
    return [*told, Row("account: the rest (negative: parts ran at the same time)", rest, "µs")]


def make_parts() -> dict[str, Callable[[int], object]]:
    """What is done with each shard beside moving it: functions of the number of a shard."""
    gradients, values, targets, taken = (start(seed, 0.1, SHARDS) for seed in (1, 2, 3, 4))
    side = start_side("sgd", SHARDS)

    def update(shard: int) -> None:
        side.rule.apply(side.parameters[shard], taken[shard], side.states[shard], absorb=True)

    return {
        "check for NaN and infinity": lambda shard: finite(gradients[shard]),
        "sgd, into the memory that the gradient came in": update,
        "copy to its place, on the worker": lambda shard: np.copyto(targets[shard], values[shard]),
        "wire and delivery, on both ends": make_protocol(gradients, values),
    }


def make_protocol(gradients: list[Float32], values: list[Float32]) -> Callable[[int], object]:
    """All that both ends do to a push and its reply but moving and applying it."""
    asking, answering = Courier(1), Courier(2)
    nothing = np.empty(0, np.float32)

    def exchange(shard: int) -> None:
        gradient = gradients[shard]
        push = Push(
            1, [shard], [9], 0, 0, 1, 0.0, False, "f32", "f32", [], gradient, nothing, nothing
        )  # fmt: skip
        asked = decode(encode(asking.ask("tcp://there", push, 0.0).envelope))
        answering.receive(b"here", asked)
        fresh = Shard(shard, 9, 9, 0, False, 0, "f32", values[shard])
        reply = answering.answer(b"here", asked, fresh, remember=False)
        asking.receive("tcp://there", decode(encode(reply.envelope)))

    return exchange


def time_of(part: Callable[[int], object]) -> float:
    """Microseconds for a shard, all shards in turn so that none is in the cache."""
    best = float("inf")
    for _ in range(TIMES):
        begin = perf_counter()
        for shard in range(SHARDS):
            part(shard)
        best = min(best, perf_counter() - begin)
    return 1e6 * best / SHARDS
