"""What a checkpoint says about itself: index.json as data, and the header of a server's file. Pure.

A checkpoint is a directory of one safetensors file a server and an index; `checkpoint` reads and
writes them, docs/checkpoints.md has the whole format. Whatever is read is checked here, so that a
`Manifest` that exists is whole: each shard lies in one file, and there is no other.
"""

import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..common.cluster import Parameter, layout_rows, parse_layout, size_of
from ..common.sharding import ELEMENT_BYTES, Shards, check_starts

FORMAT = 4
"""Raised whenever an old reader could not read what a new writer has written."""
OLDER = (2, 3)
"""Formats that are read as well: 2 knows of no `begin`, and neither of `starts`."""
VALUES = "values"
"""The name of a shard's parameters among its tensors."""


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """A shard in a file, and its counts (see `ShardCopy`)."""

    shard: int
    version: int
    minibatches: int
    steps: int

    def to_row(self) -> list[int]:
        """As it stands in the index and in `Written`."""
        return [self.shard, self.version, self.minibatches, self.steps]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A server's file: `size` in bytes, `checksum` the SHA-256 of its bytes in hexadecimal."""

    name: str
    size: int
    checksum: str
    shards: tuple[ShardEntry, ...]

    @classmethod
    def of(cls, name: str, size: int, checksum: str, rows: Iterable[Any]) -> "FileEntry":
        """From plain values, checked. Raises ValueError or TypeError."""
        if "/" in name or not name.endswith(".safetensors"):
            raise ValueError(f"{name!r} is no name of a server's file")
        if len(checksum) != 64:
            raise ValueError(f"{name}: no SHA-256: {checksum!r}")
        shards = tuple(ShardEntry(*map(_natural, row)) for row in rows)
        return cls(name, _natural(size), checksum, shards)


@dataclass(frozen=True, slots=True)
class Position:
    """Where in the data a job stands, and what it has done so far.

    `epoch` is the one to go on with, `begin` how many samples of its order are done; `done` are
    portions behind them that are done, `measures` the epoch's sums so far, and `cut` what the order
    and the numbers of portions depend on. `totals` are those of the whole job.
    """

    epoch: int
    begin: int = 0
    done: tuple[int, ...] = ()
    measures: dict[str, float] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)

    @property
    def epochs(self) -> float:
        """How many epochs of samples are done."""
        beyond = self.begin + len(self.done) * self.cut.get("size", 0)
        return self.epoch + min(1.0, beyond / max(self.cut.get("samples", 0), 1))


@dataclass(frozen=True)
class Manifest:
    """The index of a checkpoint; `starts` are those of `Shards`."""

    number: int
    seed: int
    layout: tuple[Parameter, ...]
    shard_bytes: int
    buckets: int
    rule: str
    slots: tuple[str, ...]
    position: Position
    files: tuple[FileEntry, ...]
    starts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError where a shard is missing, or in two files, or not one of the job's, and
        for starts of parts that cannot be."""
        check_starts(self.starts, self.size)
        held = sorted(entry.shard for file in self.files for entry in file.shards)
        if held != list(range(self.shards.count)):
            raise ValueError(f"the files hold {len(held)} of {self.shards.count} shards, or others")

    @property
    def size(self) -> int:
        """float32 elements of all parameters."""
        return size_of(self.layout)

    @property
    def shards(self) -> Shards:
        """How the flat vector is cut."""
        return Shards(self.size, self.shard_bytes // ELEMENT_BYTES, self.buckets, self.starts)

    @property
    def bytes(self) -> int:
        """Of all servers' files."""
        return sum(file.size for file in self.files)


def file_name(rank: int) -> str:
    """The file of the server of this rank."""
    return f"server-{rank}.safetensors"


def to_json(manifest: Manifest) -> str:
    """The text of index.json."""
    position = manifest.position
    table = {
        "format": FORMAT,
        "number": manifest.number,
        "seed": manifest.seed,
        "layout": layout_rows(manifest.layout),
        "shard_bytes": manifest.shard_bytes,
        "buckets": manifest.buckets,
        "starts": list(manifest.starts),
        "rule": manifest.rule,
        "slots": list(manifest.slots),
        "position": {
            "epoch": position.epoch,
            "begin": position.begin,
            "done": list(position.done),
            "measures": position.measures,
            "cut": position.cut,
            "totals": position.totals,
        },
        "files": [
            {
                "name": file.name,
                "size": file.size,
                "checksum": file.checksum,
                "shards": [entry.to_row() for entry in file.shards],
            }
            for file in manifest.files
        ],
    }
    return json.dumps(table, indent=1) + "\n"


def from_json(text: str) -> Manifest:
    """The manifest that `to_json` wrote.

    Raises:
        ValueError, TypeError, KeyError: this is none, or of another format.
    """
    table = json.loads(text)
    if table["format"] not in (FORMAT, *OLDER):
        readable = ", ".join(map(str, (*OLDER, FORMAT)))
        raise ValueError(f"format {table['format']!r}, this version reads {readable}")
    where = table["position"]
    position = Position(
        _natural(where["epoch"]),
        _natural(where.get("begin", 0)),
        tuple(map(_natural, where["done"])),
        _numbers(where["measures"]),
        {str(name): _natural(value) for name, value in where["cut"].items()},
        _numbers(where["totals"]),
    )
    return Manifest(
        _natural(table["number"]),
        _natural(table["seed"]),
        parse_layout(table["layout"]),
        _natural(table["shard_bytes"]),
        _natural(table["buckets"]),
        str(table["rule"]),
        tuple(map(str, table["slots"])),
        position,
        tuple(
            FileEntry.of(file["name"], file["size"], file["checksum"], file["shards"])
            for file in table["files"]
        ),
        tuple(map(_natural, table.get("starts", ()))),
    )


def tensor_names(shard: int, slots: Sequence[str]) -> list[str]:
    """A shard's tensors in the order in which they lie in a file."""
    return [f"shard.{shard}.{name}" for name in (VALUES, *slots)]


def header(plan: Iterable[tuple[int, int]], slots: Sequence[str]) -> bytes:
    """The first bytes of a safetensors file whose tensors are written behind it, in this order.

    Arguments:
        plan: shards and their numbers of float32 elements.
    """
    table: dict[str, Any] = {"__metadata__": {"dualshard": str(FORMAT)}}
    begin = 0
    for shard, elements in plan:
        for name in tensor_names(shard, slots):
            end = begin + ELEMENT_BYTES * elements
            offsets = [begin, end]
            table[name] = {"dtype": "F32", "shape": [elements], "data_offsets": offsets}
            begin = end
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format asks for tensors at multiples of eight
    return struct.pack("<Q", len(text)) + text


def _natural(value: object) -> int:
    if type(value) is not int or value < 0:
        raise TypeError(f"expected an integer of at least 0, got {value!r}")
    return value


def _numbers(table: dict[str, Any]) -> dict[str, float]:
    return {str(name): float(value) for name, value in table.items()}
