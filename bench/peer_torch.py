"""The PyTorch side of `bench train` and `bench accuracy`: the same net, data and minibatch, eager,
as one would write.

`python -m dualshard.bench.peer_torch` trains once and prints its result as one line of JSON. The
data set lies in memory as float32 tensors; each epoch is a fresh permutation of it. Four times an
epoch the test set is evaluated; the clock runs on meanwhile, as it does for our cluster. It begins
when data, model and optimizer are there and some steps have been made with another model.
"""

import argparse
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import distributed, nn

from ..common.data_sections import DataSection
from ..common.schedules import Schedule
from ..dataserver.dataset import Dataset
from ..dataserver.source import open_source
from .recipes import Recipe
from .torch_nets import BUILDERS, as_images

WARM_UP = 50
"""Steps before the clock begins."""
EVALUATIONS = 4
"""In an epoch."""
ROWS = 1000
"""Test samples at a time."""


def main() -> None:
    """Train as the command line says; rank 0 prints the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--recipe", type=json.loads, required=True)
    for name in ("seed", "threads", "world", "rank"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--limit", type=float, required=True)
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
    split = open_source(DataSection(f"idx:{options.data}"), seed=0)
    data, test = tensors(split.train), tensors(split.test)
    recipe = Recipe(**options.recipe)
    arguments = (recipe, options.seed, options.rank, options.world, data)
    warm = Peer(*arguments)
    for number, minibatch in enumerate(islice(warm.minibatches(), WARM_UP)):
        warm.step(number, *minibatch)
    result = train(Peer(*arguments), options.rank, options.world, test, options.limit)
    if options.rank == 0:
        print(json.dumps(result))
    if options.world > 1:
        distributed.destroy_process_group()


def tensors(data: Dataset) -> tuple[Any, Any]:
    """All inputs, float32 (n, channels, height, width) from 0 to 1, and labels (n,)."""
    inputs, labels = data.read(np.arange(len(data)))
    return as_images(inputs.astype(np.float32) / np.float32(255)), torch.from_numpy(labels)


def shifted(images: Any, pixels: float) -> Any:
    """Images (n, channels, height, width), each moved by up to `pixels` either way, in x and y."""
    n, _, height, width = images.shape
    maps = torch.eye(2, 3).repeat(n, 1, 1)
    # From -1 to 1 is the whole width or height.
    maps[:, :, 2] = (2 * torch.rand(n, 2) - 1) * torch.tensor([2 / width, 2 / height]) * pixels
    places = nn.functional.affine_grid(maps, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, places, align_corners=False)


class Peer:
    """One process's model, optimizer and place in the data; `world` processes average gradients.

    Arguments:
        data: inputs (n, channels, height, width) and labels (n,); each process reads its share of
            permutations that are the same in all.
    """

    def __init__(
        self, recipe: Recipe, seed: int, rank: int, world: int, data: tuple[Any, Any]
    ) -> None:
        self.recipe, self._rank, self._world, self._data = recipe, rank, world, data
        self.steps = -(-len(data[1]) // (recipe.batch * world))  # in an epoch
        self._schedule = Schedule(recipe.schedule, recipe.warmup)
        torch.manual_seed(seed)
        self._shuffling = torch.Generator().manual_seed(seed)
        self.net = BUILDERS[recipe.net]()
        torch.manual_seed(seed + rank)  # nets are alike, and what happens to images is not
        self._model = nn.parallel.DistributedDataParallel(self.net) if world > 1 else self.net
        rule = getattr(torch.optim, recipe.optimizer)
        self._optimizer = rule(self._model.parameters(), **recipe.arguments)

    def minibatches(self) -> Iterator[Any]:
        """This process's part of each minibatch, over all epochs."""
        inputs, labels = self._data
        for _ in range(self.recipe.epochs):
            permutation = torch.randperm(len(labels), generator=self._shuffling)
            for rows in permutation.split(self.recipe.batch * self._world):
                mine = rows.tensor_split(self._world)[self._rank]
                images, shift = inputs[mine], self.recipe.shift
                yield shifted(images, shift) if shift else images, labels[mine]

    def step(self, number: int, inputs: Any, labels: Any) -> None:
        """Step `number` of the training, counted from 0."""
        factor = self._schedule.factor(number / (self.recipe.epochs * self.steps))
        for group in self._optimizer.param_groups:
            group["lr"] = self.recipe.arguments["lr"] * factor
        self._optimizer.zero_grad()
        nn.functional.cross_entropy(self._model(inputs), labels).backward()
        self._optimizer.step()

    def accuracy(self, inputs: Any, labels: Any) -> float:
        """The fraction of right answers."""
        self.net.eval()
        with torch.no_grad():
            right = [
                self.net(some).argmax(1) == answers
                for some, answers in zip(inputs.split(ROWS), labels.split(ROWS), strict=True)
            ]
        self.net.train()
        return float(torch.cat(right).float().mean())


def train(peer: Peer, rank: int, world: int, test: tuple[Any, Any], limit: float) -> dict[str, Any]:
    """Train until the accuracy is enough, the epochs are over, or `limit` seconds have passed.

    Returns:
        `samples` of all processes, `seconds` up to the last step, and `evaluations`: pairs of
        seconds, the evaluation's own included, and accuracy.
    """
    evaluations: list[tuple[float, float]] = []
    samples, trained = 0, 0.0
    looks = {round(peer.steps * (n + 1) / EVALUATIONS) for n in range(EVALUATIONS)}
    begin = perf_counter()
    for number, (inputs, labels) in enumerate(peer.minibatches()):
        peer.step(number, inputs, labels)
        samples += len(labels) * world
        if number % peer.steps + 1 not in looks:
            continue
        trained = perf_counter() - begin
        stop = torch.zeros(1)
        if rank == 0:
            accuracy = peer.accuracy(*test)
            evaluations.append((perf_counter() - begin, accuracy))
            stop[0] = accuracy >= peer.recipe.enough or perf_counter() - begin > limit
        if world > 1:
            distributed.broadcast(stop, 0)
        if stop:
            break
    return {"samples": samples, "seconds": trained, "evaluations": evaluations}


if __name__ == "__main__":
    main()
