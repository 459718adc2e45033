"""PyTorch's side of `bench data`: a DataLoader in batch mode, in a process of its own.

`python -m dualshard.bench.peer_loader SOURCE AUGMENT BATCH WORKERS FOLDER`: the sampler gives lists
of `BATCH` indices, and the data set answers each with one batch, which our own pipeline has read
and augmented: the same transform of whole batches on both sides. Batches travel as uint8 and are
scaled to float32 where they arrive. It answers as `peers` says, with images/s.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

from ..common.data_sections import DataSection
from ..dataserver.augment import parse_augment
from ..dataserver.pipeline import Pipeline, Portions
from ..dataserver.source import open_source
from .answering import serve

PREFETCHED = (2, 8)
"""Batches that a process prepares ahead; 2 is PyTorch's default."""


class Batches(Dataset[Any]):  # type: ignore[misc]
    """Whole batches, by lists of indices."""

    def __init__(self, source: str, augment: list[str]) -> None:
        train = open_source(DataSection(source), seed=0).train
        cut = Portions(len(train), len(train))
        self._pipeline = Pipeline(train, parse_augment(augment), 0, cut)

    def __len__(self) -> int:
        return self._pipeline.cut.samples

    def __getitem__(self, indices: list[int]) -> tuple[Any, Any]:
        inputs, labels = self._pipeline.samples(0, np.array(indices))
        return torch.from_numpy(inputs), torch.from_numpy(labels)


def make_measure(
    data: Batches, batch: int, workers: int, prefetched: int
) -> Callable[[float], float]:
    """Images/s of one loader, whose processes stay between epochs."""
    loader: DataLoader[Any] = DataLoader(
        data,
        sampler=BatchSampler(RandomSampler(data), batch, drop_last=False),
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=prefetched if workers else None,
    )
    batches, room = endless(loader), torch.empty(0)

    def run(seconds: float) -> tuple[int, float]:
        nonlocal room
        samples, begin = 0, perf_counter()
        while not samples or perf_counter() - begin < seconds:
            inputs, labels = next(batches)
            if room.shape != inputs.shape:
                room = torch.empty(inputs.shape)
            torch.mul(inputs, 1 / 255, out=room)
            samples += len(labels)
        return samples, perf_counter() - begin

    def measure(seconds: float) -> float:
        run(seconds / 3)  # what lay ready while this process stood still
        samples, took = run(seconds)
        return samples / took

    return measure


def endless(loader: "DataLoader[Any]") -> Iterator[Any]:
    """One epoch after the other."""
    while True:
        yield from loader


def main() -> None:
    """Answer with each depth of prefetching."""
    source, augment, batch, workers = sys.argv[1:5]
    torch.set_num_threads(1)
    data = Batches(source, augment.split(","))
    make = partial(make_measure, data, int(batch), int(workers))
    serve({f"{count} batches ahead": make(count) for count in PREFETCHED})


if __name__ == "__main__":
    main()
