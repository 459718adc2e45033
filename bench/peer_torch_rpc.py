"""The PyTorch RPC side of `bench pushpull`: two processes over TensorPipe, asynchronous calls.

A call carries the gradient of a shard; the other process applies SGD at once and returns the fresh
values, which this one copies to where a model would read them. TensorPipe chooses its transports by
itself, which on one host are shared memory and copies across processes.

`python -m dualshard.bench.peer_torch_rpc ELEMENTS FOLDER` starts the other process by itself.
"""

import subprocess
import sys
from collections import deque
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch.distributed import rpc

from ..common.runtime import keep_freed_memory
from ..common.sharding import SHARD_ELEMENTS
from .answering import serve
from .processes import module_command, started

RATE = 2.0**-10
IN_FLIGHT = (2, 4, 8, 16)
"""Calls under way at once: more were slower."""
HELD: list[Any] = []
"""The server's shards."""


def hold(elements: int) -> None:
    """Make the parameters, on the server."""
    HELD.extend(torch.zeros(elements).split(SHARD_ELEMENTS))


def held(shard: int) -> Any:
    """One of the server's shards."""
    return HELD[shard]


def push(shard: int, gradient: Any) -> Any:
    """Apply a gradient and return the fresh values."""
    return HELD[shard].add_(gradient, alpha=-RATE)


class Client:
    """The pushing side."""

    def __init__(self, elements: int) -> None:
        rpc.rpc_sync("server", hold, args=(elements,))
        drawn = torch.randint(-8, 9, (elements,), generator=torch.Generator().manual_seed(0))
        self._gradients = drawn.float().split(SHARD_ELEMENTS)
        self._parameters = torch.zeros(elements).split(SHARD_ELEMENTS)
        self._pushes = [0] * len(self._gradients)
        self._next = 0

    def measure(self, in_flight: int, seconds: float) -> float:
        """GB/s of both directions for about `seconds`; fails if the values are wrong."""
        waiting: deque[tuple[int, Any]] = deque()
        moved = 0
        begin = perf_counter()
        while True:
            while len(waiting) < in_flight and perf_counter() - begin < seconds:
                shard = self._next % len(self._gradients)
                self._next += 1
                self._pushes[shard] += 1
                call = rpc.rpc_async("server", push, args=(shard, self._gradients[shard]))
                waiting.append((shard, call))
            if not waiting:
                break
            shard, future = waiting.popleft()
            self._parameters[shard].copy_(future.wait())
            moved += self._parameters[shard].numel()
        taken = perf_counter() - begin
        self._check(shard)
        return moved * 2 * 4 / taken / 1e9

    def _check(self, shard: int) -> None:
        """Every step along a gradient of whole numbers is exact in float32."""
        expected = self._gradients[shard] * (-RATE * self._pushes[shard])
        for values in (self._parameters[shard], rpc.rpc_sync("server", held, args=(shard,))):
            if not torch.equal(values, expected):
                raise SystemExit("the parameters are not what the pushes make of them")


def main() -> None:
    """Both sides."""
    elements, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    keep_freed_memory()  # as our roles do
    options = rpc.TensorPipeRpcBackendOptions(
        num_worker_threads=2, init_method=(folder / "rpc-meet").as_uri()
    )
    if sys.argv[3:] == ["server"]:
        rpc.init_rpc("server", rank=0, world_size=2, rpc_backend_options=options)
        rpc.shutdown()
        return
    command = module_command("bench.peer_torch_rpc", elements, folder, "server")
    with started(command, folder, output=subprocess.DEVNULL, patience=2):
        rpc.init_rpc("client", rank=1, world_size=2, rpc_backend_options=options)
        client = Client(elements)
        serve({f"{load} calls in flight": partial(client.measure, load) for load in IN_FLIGHT})


if __name__ == "__main__":
    main()
