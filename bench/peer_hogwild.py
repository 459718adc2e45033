"""The PyTorch side of `bench threads`: Hogwild with processes, as its documentation teaches it.

The parameters lie in shared memory; each of two processes makes forward, backward and a step of SGD
on them without locks, on one thread, with minibatches of its own. `python -m
dualshard.bench.peer_hogwild NET BATCH FOLDER` starts them and answers as `peers` says. Variants are
the implementations of SGD that PyTorch has.
"""

import json
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import multiprocessing

from .answering import serve, timed
from .nets import CLASSES, NETS
from .peer_lane import RATE
from .peer_lanes import MINIBATCHES
from .peer_torch_steps import OPTIMIZERS
from .torch_nets import BUILDERS

PROCESSES = 2


class Steps:
    """One process's minibatches and optimizers on the shared parameters."""

    def __init__(self, net: Any, name: str, batch: int, seed: int) -> None:
        drawn = torch.Generator().manual_seed(seed)
        height, width, *channels = NETS[name].sample_shape
        shape = (batch, *(channels or [1]), height, width)
        self._net = net
        self._minibatches = [
            (
                torch.rand(shape, generator=drawn),
                torch.randint(CLASSES, (batch,), generator=drawn),
            )
            for _ in range(MINIBATCHES)
        ]
        self._optimizers = [
            torch.optim.SGD(net.parameters(), lr=RATE, **how) for how in OPTIMIZERS.values()
        ]

    def measure(self, variant: int, seconds: float) -> float:
        """Samples/s of this process."""

        def step(number: int) -> None:
            inputs, labels = self._minibatches[number % MINIBATCHES]
            self._optimizers[variant].zero_grad()
            torch.nn.functional.cross_entropy(self._net(inputs), labels).backward()
            self._optimizers[variant].step()

        return timed(step, seconds) * len(self._minibatches[0][1])


def answer(pipe: Connection, net: Any, name: str, batch: int, seed: int) -> None:
    """One of the processes: a line asks, a line answers, an empty one ends it."""
    torch.set_num_threads(1)
    steps = Steps(net, name, batch, seed)
    while asked := pipe.recv_bytes():
        variant, seconds = json.loads(asked)
        pipe.send_bytes(json.dumps(steps.measure(variant, seconds)).encode())


def main() -> None:
    """Start the processes, then answer for all of them together."""
    name, batch = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(1)
    net = BUILDERS[name]()
    net.share_memory()
    start = [parameter.detach().clone() for parameter in net.parameters()]
    forked = multiprocessing.get_context("fork")  # nothing is pickled, and the net is there at once
    pipes = []
    for seed in range(PROCESSES):
        ours, theirs = forked.Pipe()
        forked.Process(target=answer, args=(theirs, net, name, batch, seed), daemon=True).start()
        pipes.append(ours)

    def measure(variant: int) -> Callable[[float], float]:
        def together(seconds: float) -> float:
            with torch.no_grad():
                for parameter, first in zip(net.parameters(), start, strict=True):
                    parameter.copy_(first)
            for pipe in pipes:
                pipe.send_bytes(json.dumps([variant, seconds]).encode())
            return sum(float(json.loads(pipe.recv_bytes())) for pipe in pipes)

        return together

    serve({f"{how} SGD": measure(number) for number, how in enumerate(OPTIMIZERS)})
    for pipe in pipes:
        pipe.send_bytes(b"")


if __name__ == "__main__":
    main()
