"""The index of a checkpoint: there and back, and nothing that is not whole."""

import json
import struct
from typing import Any

import pytest
from checkpoint_samples import LAYOUT, POSITION

from dualshard.paramserver.manifest import (
    FileEntry,
    Manifest,
    Position,
    ShardEntry,
    from_json,
    header,
    to_json,
)


def manifest(**changes: Any) -> Manifest:
    files = (
        FileEntry("server-0.safetensors", 100, "a" * 64, (ShardEntry(0, 5, 6, 7),)),
        FileEntry("server-1.safetensors", 50, "b" * 64, (ShardEntry(1, 1, 2, 3),)),
    )
    values: dict[str, Any] = {
        "number": 3,
        "seed": 9,
        "layout": LAYOUT,
        "shard_bytes": 128,
        "buckets": 16,
        "rule": "momentum",
        "slots": ("velocity",),
        "position": POSITION,
        "files": files,
        **changes,
    }
    return Manifest(**values)


def test_it_comes_back_as_it_was() -> None:
    assert from_json(to_json(manifest())) == manifest()
    assert manifest().bytes == 150
    assert manifest().size == 42


def test_a_cut_net_comes_back_with_its_parts() -> None:
    """42 elements in shards of 32: a whole net has two, one that is cut at 5 has three."""
    files = tuple(
        FileEntry(f"server-{n}.safetensors", 9, "a" * 64, (ShardEntry(n, 1, 2, 3),))
        for n in range(3)
    )
    cut = manifest(starts=(0, 5), files=files)
    assert from_json(to_json(cut)) == cut
    assert [cut.shards.span(n) for n in range(3)] == [(0, 5), (5, 37), (37, 42)]


@pytest.mark.parametrize("older", [2, 3])
def test_older_formats_are_of_whole_nets(older: int) -> None:
    table = json.loads(to_json(manifest()))
    table["format"] = older
    del table["starts"]
    assert from_json(json.dumps(table)) == manifest()


def test_the_position_counts_samples_and_portions() -> None:
    assert POSITION.epochs == 2.4
    assert Position(7).epochs == 7


@pytest.mark.parametrize("held", [(0,), (0, 0), (0, 2), (0, 1, 2)])
def test_each_shard_lies_in_one_file(held: tuple[int, ...]) -> None:
    entries = tuple(ShardEntry(shard, 0, 0, 0) for shard in held)
    with pytest.raises(ValueError, match="of 2 shards"):
        manifest(files=(FileEntry("server-0.safetensors", 1, "a" * 64, entries),))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), 1),
        (("number",), -1),
        (("seed",), "9"),
        (("position", "epoch"), 1.5),
        (("position", "done", 0), None),
        (("position", "totals", "seconds"), "long"),
        (("layout", 0, 2), 5),
        (("layout", 0, 3), 0),
        (("files", 0, "name"), "../server-0.safetensors"),
        (("files", 0, "name"), "job.toml"),
        (("files", 0, "checksum"), "a"),
        (("files", 0, "shards", 0), [0, 1, 2]),
        (("files", 0, "shards", 0, 1), True),
        (("files",), []),
        (("starts",), [0, 42]),
        (("starts",), [1]),
        (("starts",), [0, 30.0]),
        (("starts",), [0, 5]),
    ],
)
def test_anything_else_is_refused(path: tuple[Any, ...], value: Any) -> None:
    table = json.loads(to_json(manifest()))
    place = table
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises((ValueError, TypeError, KeyError)):
        from_json(json.dumps(table))


def test_the_header_is_aligned_and_leaves_no_holes() -> None:
    head = header([(3, 5), (4, 2)], ("slot",))
    (length,) = struct.unpack("<Q", head[:8])
    assert len(head) == 8 + length
    assert length % 8 == 0
    table = json.loads(head[8:])
    del table["__metadata__"]
    offsets = [tensor["data_offsets"] for tensor in table.values()]
    assert offsets == [[0, 20], [20, 40], [40, 48], [48, 56]]
