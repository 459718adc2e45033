"""What is measured in turn: sides with variants, the best of each chosen beforehand.

A variant is a number of requests in flight, or another way to ask: whoever is measured is measured
in the way that suits it best. The choice is made in rounds that do not count.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

Measure = Callable[[float], float]
"""Measures for about so many seconds; more is better."""


@dataclass
class Side:
    """One that is measured: its ways, and the contexts in which its processes run.

    `awake` are entered while it is measured; outside of them its processes stand still.
    """

    name: str
    variants: Mapping[str, Measure]
    awake: Sequence[Callable[[], AbstractContextManager[None]]] = ()

    def measure(self, variant: str, seconds: float) -> float:
        """One measurement, with its processes running."""
        with ExitStack() as stack:
            for context in self.awake:
                stack.enter_context(context())
            return self.variants[variant](seconds)


def in_turn(
    sides: Sequence[Side], rounds: int, seconds: float, say: Callable[[str], None]
) -> dict[str, list[float]]:
    """A number for each round and side, in interleaved rounds, each side in its best variant.

    Arguments:
        seconds: how long each measurement takes; one that only helps to choose takes half of it.
    """
    best = {side.name: choose(side, seconds / 2) for side in sides}
    for name, variant in best.items():
        say(f"  {name}: {variant}")
    found: dict[str, list[float]] = {side.name: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            found[side.name].append(side.measure(best[side.name], seconds))
    return found


def choose(side: Side, seconds: float) -> str:
    """The variant that does best, once everything has been touched by a first one."""
    names = list(side.variants)
    side.measure(names[0], seconds)
    if len(names) == 1:
        return names[0]
    return max(names, key=lambda name: side.measure(name, seconds))
