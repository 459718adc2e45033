"""Update rules against a copy in memory: how near each one comes to what the memory allows.

One thread goes through 64 shards of 1 MiB in turn, more than the caches hold. A rule is counted by
the bytes that it streams, 4 for each element read and 4 for each written: 12 for sgd (gradient and
parameter read, parameter written), 28 for adam with its two slots; a copy streams 8.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter

import numpy as np

from ..common.clipping import clip
from ..common.errors import RoleError
from ..common.job import OptimizerSection
from ..common.rule_kernels import compensate, finite
from ..common.rules import RULES, Rule, RuleState, make_rule
from ..common.sharding import SHARD_ELEMENTS
from ..common.types import Array, Float32
from .report import Row, compare

SHARDS = 64
COPY = "np.copyto"
RATE = 1e-4
NAMES = tuple(name for name in RULES if name != "adamw")  # the same loop as adam
GOAL = 0.8
AFTER, WITHIN = "sgd, then np.copyto of the fresh values", "sgd, which writes them twice"
TWICE_GOAL = 1.1
OTHERS = {
    "check for NaN and infinity": 4,
    "norm of the gradient": 4,
    "clipping by value": 8,
    "delay compensation": 16,
}
"""What else is done with each gradient, and the bytes that it streams for each element."""

Times = dict[str, list[float]]
"""Seconds for all shards by what was done, a number a round."""


@dataclass
class Side:
    """One rule at work on a vector of its own, cut into shards."""

    rule: Rule
    parameters: list[Float32]
    states: list[RuleState]

    @property
    def bytes_streamed(self) -> int:
        """For each element."""
        return 12 + 8 * len(self.rule.slots)

    def apply(self, shard: int, gradient: Float32, copy_to: Float32 | None = None) -> None:
        """One update of one shard."""
        self.rule.apply(self.parameters[shard], gradient, self.states[shard], copy_to=copy_to)

    def check(self, gradients: list[Float32]) -> None:
        """Whether the parameters are what as many updates in plain NumPy make of them.

        Raises:
            RoleError: they are not.
        """
        for shard in (0, len(self.parameters) - 1):
            expected = start(1, 0.1, 1)[0].astype(float)
            slots = {name: np.zeros(SHARD_ELEMENTS) for name in ("mean", "squares", "velocity")}
            g, steps = gradients[shard].astype(float), self.states[shard].steps
            for step in range(1, steps + 1):
                expected -= RATE * plain(self.rule.kernel, g, slots, step)
            if not np.allclose(self.parameters[shard], expected, rtol=1e-4, atol=1e-6):
                raise RoleError(
                    f"{self.rule.kernel}: shard {shard} is not what {steps} updates make of it"
                )


def plain(name: str, g: Array, slots: dict[str, Array], step: int) -> Array:
    """The direction of a rule's step in plain NumPy, its slots advanced."""
    match name:
        case "sgd":
            return g
        case "momentum" | "nesterov":
            slots["velocity"] = 0.9 * slots["velocity"] + g
            return slots["velocity"] if name == "momentum" else g + 0.9 * slots["velocity"]
        case "adagrad":
            slots["squares"] = slots["squares"] + g * g
            return g / (np.sqrt(slots["squares"]) + 1e-10)
    keep, keep2 = {"rmsprop": (0.0, 0.99), "adam": (0.9, 0.999)}[name]
    slots["mean"] = keep * slots["mean"] + (1 - keep) * g
    slots["squares"] = keep2 * slots["squares"] + (1 - keep2) * g * g
    root = np.sqrt(slots["squares"] / (1 - keep2**step)) + 1e-8
    return slots["mean"] / (1 - keep**step) / root


def start(seed: int, size: float, shards: int) -> list[Float32]:
    """The shards of a fresh vector, all equal, of normal numbers times `size`; no page is new."""
    drawn = np.random.default_rng(seed).standard_normal(SHARD_ELEMENTS).astype(np.float32)
    whole = np.tile(np.float32(size) * drawn, shards)
    return [whole[a:b] for a, b in pairwise(range(0, whole.size + 1, SHARD_ELEMENTS))]


def start_side(name: str, shards: int) -> Side:
    """A rule at its start."""
    rule = make_rule(OptimizerSection(rule=name, lr=RATE))
    slots = {name: start(0, 0.0, shards) for name in rule.slots}
    states = [RuleState(0, {name: slots[name][n] for name in slots}) for n in range(shards)]
    return Side(rule, start(1, 0.1, shards), states)


def bench_apply(rounds: int, say: Callable[[str], None], shards: int = SHARDS) -> list[Row]:
    """GB/s of each rule and of what else is done with a gradient, against a copy of equal sizes.

    Arguments:
        rounds: interleaved rounds; one more, which does not count, goes before them.
    Raises:
        RoleError: the parameters are not what the updates make of them.
    """
    say("compiling and touching all memory")
    gradients, second = start(2, 0.01, shards), start(3, 0.1, shards)
    sides = {name: start_side(name, shards) for name in NAMES}
    sides |= {name: start_side("sgd", shards) for name in (AFTER, WITHIN)}
    actions = make_actions(sides, gradients, second)
    times: Times = {name: [] for name in actions}
    for turn in range(rounds + 1):
        say(f"round {turn} of {rounds}" if turn else "warming up")
        for name, action in actions.items():
            begin = perf_counter()
            for shard in range(shards):
                action(shard)
            if turn:
                times[name].append(perf_counter() - begin)
    for side in sides.values():
        side.check(gradients)
    streamed = OTHERS | {name: sides[name].bytes_streamed for name in NAMES}
    return make_rows(times, streamed, shards)


def make_actions(
    sides: dict[str, Side], gradients: list[Float32], second: list[Float32]
) -> dict[str, Callable[[int], object]]:
    """What is measured, by name: functions of the number of a shard."""
    rules = {name: lambda n, side=sides[name]: side.apply(n, gradients[n]) for name in NAMES}
    far = OptimizerSection(clip=1e30), OptimizerSection(clip_value=1e30)

    def after(shard: int) -> None:
        sides[AFTER].apply(shard, gradients[shard])
        np.copyto(second[shard], sides[AFTER].parameters[shard])

    others = (
        lambda n: finite(gradients[n]),
        lambda n: clip(gradients[n], far[0]),
        lambda n: clip(gradients[n], far[1]),
        lambda n: compensate(
            gradients[n], sides["sgd"].parameters[n], sides[AFTER].parameters[n], 0.1, second[n]
        ),
    )
    return {
        COPY: lambda n: np.copyto(second[n], gradients[n]),
        **rules,
        AFTER: after,
        WITHIN: lambda n: sides[WITHIN].apply(n, gradients[n], second[n]),
        **dict(zip(OTHERS, others, strict=True)),
    }


def make_rows(times: Times, streamed: dict[str, int], shards: int) -> list[Row]:
    """A row for each rule and for what else is done, and one for writing the values twice."""
    gigabytes = shards * SHARD_ELEMENTS / 1e9

    def speeds(name: str, per_element: int) -> list[float]:
        return [per_element * gigabytes / seconds for seconds in times[name]]

    copied = speeds(COPY, 8)
    rows = [
        compare(f"{name}, against {COPY}", "GB/s", speeds(name, streamed[name]), copied, goal)
        for names, goal in ((NAMES, GOAL), (OTHERS, None))
        for name in names
    ]
    within, after = ([1e3 * seconds for seconds in times[name]] for name in (WITHIN, AFTER))
    twice = f"{WITHIN}, against {AFTER}"
    return [*rows, compare(twice, "ms", within, after, TWICE_GOAL, less_is_better=True)]
