"""The answering end of a peer of `bench pushpull`: see `peers`."""

import json
import sys
from collections.abc import Callable, Mapping


def serve(variants: Mapping[str, Callable[[float], float]]) -> None:
    """Tell the names of the variants, then measure the one that each line asks for, until the
    benchmark closes its end."""
    measures = list(variants.values())
    print(json.dumps(list(variants)), flush=True)
    for line in sys.stdin:
        number, seconds = line.split()
        print(json.dumps(measures[int(number)](float(seconds))), flush=True)
