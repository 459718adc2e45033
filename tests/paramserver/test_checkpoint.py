"""Checkpoints on disk: read back as written, whole or not at all, damage named."""

import errno
import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from checkpoint_samples import POSITION, SLOTS, copies_of, write_checkpoint, write_file
from safetensors.numpy import load_file

from dualshard.common.errors import UserError
from dualshard.paramserver import checkpoint as module
from dualshard.paramserver.checkpoint import (
    all_checkpoints,
    check_file,
    next_number,
    open_checkpoint,
    read_shards,
    read_vector,
    run_of,
)


@pytest.mark.parametrize("servers", [1, 3, 8])
def test_all_comes_back_from_any_number_of_files(tmp_path: Path, servers: int) -> None:
    """Eight servers hold six shards: two files are empty."""
    path = write_checkpoint(tmp_path, servers)
    found = open_checkpoint(tmp_path, "RUN")
    assert found.path == path == tmp_path / "checkpoints" / "000001"
    assert found.manifest.position.done == POSITION.done
    assert found.manifest.position.totals == POSITION.totals
    assert len(found.manifest.files) == servers
    copies = sorted(read_shards(found, range(6), "RUN"), key=lambda copy: copy.shard)
    for copy, expected in zip(copies, copies_of(1), strict=True):
        np.testing.assert_array_equal(copy.values, expected.values)
        for slot in SLOTS:
            np.testing.assert_array_equal(copy.slots[slot], expected.slots[slot])
            assert copy.slots[slot].flags.writeable
        for name in ("shard", "version", "minibatches", "steps"):
            assert getattr(copy, name) == getattr(expected, name)
    vector = np.concatenate([copy.values for copy in copies_of(1)])
    np.testing.assert_array_equal(read_vector(found, "RUN"), vector)


def test_a_file_is_plain_safetensors_and_its_checksum_that_of_its_bytes(tmp_path: Path) -> None:
    """Oracle: the library's own reader, and hashlib over the whole file."""
    copies = copies_of(4)[1:4]
    entry = write_file(tmp_path / "new", 7, copies)
    path = tmp_path / "new" / "server-7.safetensors"
    tensors = load_file(path)
    assert len(tensors) == 9
    np.testing.assert_array_equal(tensors["shard.2.values"], copies[1].values)
    np.testing.assert_array_equal(tensors["shard.3.second"], copies[2].slots["second"])
    assert entry.checksum == hashlib.sha256(path.read_bytes()).hexdigest()
    assert entry.size == path.stat().st_size
    assert os.listdir(path.parent) == [path.name]


def test_only_the_files_that_hold_a_wanted_shard_are_read(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, servers=3)
    (path / "server-1.safetensors").unlink()
    copies = list(read_shards(open_checkpoint(tmp_path, "RUN"), {0, 5}, "RUN"))
    assert [copy.shard for copy in copies] == [0, 5]


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for _ in range(3):
        write_checkpoint(tmp_path, keep=2)
    half = tmp_path / "checkpoints" / "000004"
    half.mkdir()
    write_checkpoint(tmp_path, keep=2)
    names = [path.name for path in all_checkpoints(tmp_path)]
    assert names == ["000003", "000005"]
    assert open_checkpoint(tmp_path, "RUN").manifest.number == 5
    assert next_number(tmp_path) == 6
    write_checkpoint(tmp_path, keep=1)
    assert [path.name for path in all_checkpoints(tmp_path)] == ["000006"]
    for _ in range(4):
        write_checkpoint(tmp_path, keep=7)
    assert len(all_checkpoints(tmp_path)) == 5


def test_what_latest_names_is_never_discarded(tmp_path: Path) -> None:
    first, latest = write_checkpoint(tmp_path), write_checkpoint(tmp_path)
    for path in (first, latest):
        module.discard(path)
    assert not first.exists()
    assert open_checkpoint(tmp_path, "RUN").path == latest


def test_a_checkpoint_may_be_named_by_itself(tmp_path: Path) -> None:
    first = write_checkpoint(tmp_path)
    write_checkpoint(tmp_path)
    assert open_checkpoint(first, "RUN").manifest.number == 1
    assert run_of(first, "RUN") == run_of(tmp_path, "RUN") == tmp_path


def test_a_new_file_is_not_seen_before_its_mark_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at every possible moment: the checkpoint before stays the latest."""
    write_checkpoint(tmp_path)
    replace, failed = os.replace, 0
    for allowed in range(6):
        left = allowed

        def full(source: Path, target: Path) -> None:
            nonlocal left
            if not left:
                raise OSError(errno.ENOSPC, "No space left on device")
            left -= 1
            replace(source, target)

        monkeypatch.setattr(module.os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            write_checkpoint(tmp_path)
        failed += 1
        assert open_checkpoint(tmp_path, "RUN").manifest.number == 1
    monkeypatch.setattr(module.os, "replace", replace)
    assert failed == 6
    write_checkpoint(tmp_path)
    assert all_checkpoints(tmp_path)[0].name == "000001"
    assert open_checkpoint(tmp_path, "RUN").manifest.number == next_number(tmp_path) - 1


@pytest.mark.parametrize(
    "name", ["server-0.safetensors", "server-1.safetensors", "server-2.safetensors"]
)
@pytest.mark.parametrize("place", [0.0, 0.2, 0.9999])
def test_a_flipped_bit_is_named_with_both_checksums(
    tmp_path: Path, name: str, place: float
) -> None:
    path = write_checkpoint(tmp_path)
    flip(path / name, place)
    found = open_checkpoint(tmp_path, "job.resume")
    (entry,) = [file for file in found.manifest.files if file.name == name]
    actual = hashlib.sha256((path / name).read_bytes()).hexdigest()
    with pytest.raises(UserError) as refused:
        list(read_shards(found, range(6), "job.resume"))
    assert refused.value.key == "job.resume"
    assert refused.value.expected == f"{name} with SHA-256 {entry.checksum}, it has {actual}"
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["index.json", "_SUCCESS"])
def test_a_flipped_bit_in_the_index_or_its_mark_is_named(tmp_path: Path, name: str) -> None:
    path = write_checkpoint(tmp_path)
    flip(path / name, 0.5)
    with pytest.raises(UserError, match=r"index\.json with SHA-256 .* as in _SUCCESS, it has"):
        open_checkpoint(tmp_path, "RUN")


def test_what_latest_names_is_said_where_it_is_bad(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    mark = tmp_path / "checkpoints" / "latest"
    mark.write_text("000009\n")
    with pytest.raises(UserError, match="checkpoints/latest names, it names '000009'"):
        open_checkpoint(tmp_path, "RUN")
    mark.write_text("../..\n")
    with pytest.raises(UserError, match=r"it names '\.\./\.\.'"):
        open_checkpoint(tmp_path, "RUN")
    mark.write_bytes(b"00000\xb1\n")
    with pytest.raises(UserError, match="it names "):
        open_checkpoint(tmp_path, "RUN")


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path)
    found = open_checkpoint(tmp_path, "RUN")
    (path / "server-2.safetensors").unlink()
    with pytest.raises(UserError, match=r"a readable server-2\.safetensors; No such file"):
        check_file(path, found.manifest.files[2], "RUN")
    (path / "index.json").unlink()
    with pytest.raises(UserError, match=r"a readable index\.json and _SUCCESS; No such file"):
        open_checkpoint(tmp_path, "RUN")
    (path / "_SUCCESS").unlink()
    with pytest.raises(UserError, match="a complete checkpoint, 000001 has no _SUCCESS"):
        open_checkpoint(tmp_path, "RUN")
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(UserError, match="a run with a complete checkpoint"):
        open_checkpoint(tmp_path, "RUN")
    with pytest.raises(UserError, match="there is no such folder"):
        open_checkpoint(tmp_path / "nowhere", "RUN")
    with pytest.raises(UserError, match=r"there is no job\.toml in it"):
        open_checkpoint(tmp_path.parent, "RUN")


def test_a_file_of_another_size_is_not_sealed(tmp_path: Path) -> None:
    """As where a server has written to a disk that the controller does not see."""
    found = open_checkpoint(write_checkpoint(tmp_path), "RUN")
    with (found.path / "server-0.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(OSError, match=r"server-0\.safetensors holds \d+ bytes here"):
        module.seal(found.path, found.manifest, 3)


def flip(path: Path, place: float) -> None:
    """Turn one bit of a file."""
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 16
    path.write_bytes(data)
