"""`dualshard bench data`: what data servers do, image by image and from end to end. The table of
its parts."""

from collections.abc import Callable, Mapping, Sequence

from .augmenting import bench_augmenting
from .delivered import CASES, bench_delivered
from .jpegs import bench_jpegs
from .leases import bench_leases
from .report import Row
from .waits import bench_waits

Part = Callable[[int, float, Callable[[str], None]], list[Row]]
"""Measures in so many rounds, each of so many seconds where that can be chosen."""

PARTS: Mapping[str, Part] = {
    "pixels": bench_augmenting,
    "jpeg": bench_jpegs,
    "end-to-end": lambda rounds, seconds, say: bench_delivered(CASES, rounds, seconds, say),
    "wait": lambda rounds, seconds, say: bench_waits(rounds, say),
    "state": lambda rounds, seconds, say: bench_leases(rounds, say),
}


def bench_data(
    parts: Sequence[str], rounds: int, seconds: float, say: Callable[[str], None]
) -> list[Row]:
    """The rows of these parts.

    Arguments:
        seconds: how long each measurement of a round takes, at least.
    Raises:
        RoleError: a process failed.
    """
    return [row for part in parts for row in PARTS[part](rounds, seconds, say)]
