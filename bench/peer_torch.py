"""The PyTorch side of `bench train`: the same net, data and minibatch, eager, as one would write it.

`python -m dualshard.bench.peer_torch` trains once and prints its result as one line of JSON. The
data set lies in memory as float32 tensors; each epoch is a fresh permutation of it. Four times an
epoch the test set is evaluated; the clock runs on meanwhile, as it does for our cluster. It begins
when data, model and optimizer are there and some steps have been made with another model.
"""

import argparse
import json
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import distributed, nn

from ..dataserver.dataset import Dataset
from ..dataserver.source import open_source
from .recipes import RECIPES, Recipe

BATCH = 32
WARM_UP = 50
"""Steps before the clock begins."""
EVALUATIONS = 4
"""In an epoch."""
ENOUGH = 0.975
"""The test accuracy at which the training ends."""


def main() -> None:
    """Train as the command line says; rank 0 prints the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--recipe", choices=RECIPES, required=True)
    for name in ("seed", "limit", "threads", "world", "rank"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--meet", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.world > 1:
        distributed.init_process_group(
            "gloo",
            init_method=options.meet.as_uri(),
            rank=options.rank,
            world_size=options.world,
        )
    split = open_source(f"idx:{options.data}", "", 0, 0.2)
    peer = Peer(RECIPES[options.recipe], options.rank, options.world, tensors(split.train))
    peer.steps(options.seed, WARM_UP)
    result = peer.train(options.seed, tensors(split.test), options.limit)
    if options.rank == 0:
        print(json.dumps(result))
    if options.world > 1:
        distributed.destroy_process_group()


def tensors(data: Dataset) -> tuple[Any, Any]:
    """All inputs, float32 (n, values) from 0 to 1, and labels (n,)."""
    inputs, labels = data.read(np.arange(len(data)))
    flat = inputs.reshape(len(inputs), -1).astype(np.float32) / np.float32(255)
    return torch.from_numpy(flat), torch.from_numpy(labels)


class Peer:
    """One process's part of the training; `world` processes average their gradients.

    Arguments:
        data: inputs (n, values) and labels (n,); each process reads its share of a permutation
            that is the same in all.
    """

    def __init__(self, recipe: Recipe, rank: int, world: int, data: tuple[Any, Any]) -> None:
        self._recipe, self._rank, self._world = recipe, rank, world
        self._inputs, self._labels = data
        self.steps_per_epoch = -(-len(self._labels) // (BATCH * world))
        self._planned = recipe.epochs * self.steps_per_epoch

    def steps(self, seed: int, count: int) -> Any:
        """Make the first `count` steps of a fresh model, as a generator that yields after each."""
