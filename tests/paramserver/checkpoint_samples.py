"""Checkpoints made of random numbers, for tests of the format."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np

from dualshard.common.cluster import Parameter
from dualshard.paramserver.checkpoint import ServerFile, directory_of, next_number, seal
from dualshard.paramserver.manifest import FileEntry, Manifest, Position, ShardEntry
from dualshard.paramserver.snapshots import ShardCopy

SLOTS = ("first", "second")
LAYOUT = (Parameter("dense.weight", True, (5, 7)), Parameter("dense.bias", False, (7,)))
SHARD_BYTES = 32
POSITION = Position(
    2,
    12,
    (0, 3),
    {"samples": 96.0},
    {"samples": 80, "size": 10, "seed": 1},
    {"seconds": 1.5, "samples": 480.0},
)


def copies_of(
    number: int,
    elements: int = 42,
    per: int = SHARD_BYTES // 4,
    starts: tuple[int, ...] = (),
) -> list[ShardCopy]:
    """All shards of checkpoint `number`: the same numbers each time."""
    random = np.random.default_rng(number)
    borders = list(itertools.pairwise([*(starts or (0,)), elements]))
    spans = [min(per, end - at) for begin, end in borders for at in range(begin, end, per)]

    def some(size: int) -> np.ndarray:
        return random.normal(size=size).astype(np.float32)

    return [
        ShardCopy(n, some(size), {slot: some(size) for slot in SLOTS}, n + 1, 2 * n + 1, 3 * n)
        for n, size in enumerate(spans)
    ]


def write_file(directory: Path, rank: int, copies: list[ShardCopy]) -> FileEntry:
    """One server's file."""
    plan = [(copy.shard, copy.values.size) for copy in copies]
    file = ServerFile(directory, rank, plan, SLOTS)
    for copy in copies:
        file.add(copy)
    size, checksum = file.close()
    counts = (ShardEntry(c.shard, c.version, c.minibatches, c.steps) for c in copies)
    return FileEntry(file.name, size, checksum, tuple(counts))


def write_checkpoint(
    run: Path,
    servers: int = 3,
    keep: int = 3,
    layout: tuple[Parameter, ...] = LAYOUT,
    starts: tuple[int, ...] = (),
) -> Path:
    """The next checkpoint of a run; its shards lie on the servers in turn."""
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    (run / "job.toml").touch()
    number = next_number(run)
    directory = directory_of(run, number)
    elements = sum(int(np.prod(parameter.shape)) for parameter in layout)
    copies = copies_of(number, elements, starts=starts)
    files = tuple(write_file(directory, r, copies[r::servers]) for r in range(servers))
    place = replace(POSITION, epoch=number)
    index = Manifest(number, 9, layout, SHARD_BYTES, 16, "x", SLOTS, place, files, starts)
    seal(directory, index, keep)
    return directory
