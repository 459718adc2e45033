"""The answering end of a peer of `bench pushpull` and `bench compute`: see `peers`."""

import json
import sys
from collections.abc import Callable, Mapping
from time import perf_counter


def serve(variants: Mapping[str, Callable[[float], float]]) -> None:
    """Tell the names of the variants, then measure the one that each line asks for, until the
    benchmark closes its end."""
    measures = list(variants.values())
    print(json.dumps(list(variants)), flush=True)
    for line in sys.stdin:
        number, seconds = line.split()
        print(json.dumps(measures[int(number)](float(seconds))), flush=True)


def timed(
    act: Callable[[int], object], seconds: float, wait: Callable[[], object] = lambda: None
) -> float:
    """How often a second `act`, which is handed its number, is done in at least `seconds`.

    Arguments:
        wait: for a device that goes on by itself: returns when it has done everything.
    """
    done, begin = 0, perf_counter()
    while not done or perf_counter() - begin < seconds:
        act(done)
        done += 1
    wait()
    return done / (perf_counter() - begin)
