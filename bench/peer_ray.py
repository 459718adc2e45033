"""The Ray side of `bench pushpull`: an actor holds the parameters, its calls carry gradients.

A call carries the gradient of some shards and returns their fresh values; both go through Ray's
object store in shared memory. The gradient is handed to the call, or put in the store first. What
comes back is copied to where a model would read it, as with the others.

`python -m dualshard.bench.peer_ray ELEMENTS FOLDER` starts a Ray of its own.
"""

import sys
from collections import deque
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import ray

from ..common.sharding import SHARD_ELEMENTS
from .answering import serve

RATE = np.float32(2.0**-10)
LOADS = ((1, 8), (8, 2), (8, 4), (16, 2), (32, 2), (64, 1))
"""MiB in a call, and calls in flight."""
STORE = 2 << 30
"""Bytes of the object store."""


class Holder:
    """The server: parameters in pieces, one a call."""

    def __init__(self, elements: int) -> None:
        self._whole = np.zeros(elements, np.float32)
        self._step = np.empty(elements, np.float32)

    def push(self, begin: int, gradient: Any) -> Any:
        """Apply a gradient of the elements from `begin` on, and return their fresh values."""
        here = slice(begin, begin + gradient.size)
        np.multiply(gradient, RATE, out=self._step[here])
        self._whole[here] -= self._step[here]
        return self._whole[here]


class Client:
    """The pushing side."""

    def __init__(self, elements: int) -> None:
        self._actor = ray.remote(Holder).remote(elements)
        drawn = np.random.default_rng(0).integers(-8, 9, SHARD_ELEMENTS)
        self._gradient = np.resize(drawn.astype(np.float32), elements)
        self._parameters = np.zeros(elements, np.float32)
        self._pushes = np.zeros(-(-elements // SHARD_ELEMENTS), np.int64)
        self._begin = 0

    def measure(self, size: int, in_flight: int, put: bool, seconds: float) -> float:
        """GB/s of both directions for about `seconds`; fails if the values are wrong."""
        waiting: deque[tuple[int, Any]] = deque()
        moved = 0
        begin = perf_counter()
        while True:
            while len(waiting) < in_flight and perf_counter() - begin < seconds:
                waiting.append(self._push(size * SHARD_ELEMENTS, put))
            if not waiting:
                break
            first, reference = waiting.popleft()
            fresh = ray.get(reference)
            np.copyto(self._parameters[first : first + fresh.size], fresh)
            moved += fresh.size
        taken = perf_counter() - begin
        self._check()
        return float(moved * 2 * 4 / taken / 1e9)

    def _push(self, elements: int, put: bool) -> tuple[int, Any]:
        begin = self._begin if self._begin < self._gradient.size else 0
        gradient = self._gradient[begin : begin + elements]
        self._begin = begin + gradient.size
        self._pushes[begin // SHARD_ELEMENTS : -(-self._begin // SHARD_ELEMENTS)] += 1
        return begin, self._actor.push.remote(begin, ray.put(gradient) if put else gradient)

    def _check(self) -> None:
        """Every step along a gradient of whole numbers is exact in float32."""
        steps = np.repeat(self._pushes, SHARD_ELEMENTS)[: self._gradient.size]
        if not np.array_equal(self._parameters, self._gradient * (-RATE * steps)):
            raise SystemExit("the parameters are not what the pushes make of them")


def main() -> None:
    """Start Ray, and answer."""
    elements, folder = int(sys.argv[1]), sys.argv[2]
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=STORE,
        log_to_driver=False,
        _temp_dir=folder,
        # It stands still while others are measured: that is no death.
        _system_config={"health_check_failure_threshold": 1000},
    )
    client = Client(elements)
    serve(
        {
            f"{size} MiB a call{', put first' if put else ''}, {load} in flight": partial(
                client.measure, size, load, put
            )
            for size, load in LOADS
            if size * SHARD_ELEMENTS <= elements
            for put in (False, True)
        }
    )
    ray.shutdown()


if __name__ == "__main__":
    main()
