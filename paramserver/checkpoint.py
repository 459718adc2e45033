"""Checkpoints on disk: the one file that writes and reads them. docs/checkpoints.md says it all.

    RUN/checkpoints/000003/server-0.safetensors    one a parameter server
                           index.json              see `manifest`
                           _SUCCESS                the SHA-256 of index.json; written last
    RUN/checkpoints/latest                         `000003`, moved last of all

Every file is written beside its place, flushed to the disk and moved there, and its folder is
flushed as well. A reader goes by `latest` and `_SUCCESS`, so it never meets anything half-written;
what it reads it checks against the SHA-256 that was taken while it was written.
"""

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open

from ..common.errors import UserError
from ..common.types import Float32
from .manifest import FileEntry, Manifest, file_name, from_json, header, tensor_names, to_json
from .snapshots import ShardCopy

FOLDER = "checkpoints"
INDEX, SUCCESS, LATEST = "index.json", "_SUCCESS", "latest"
BLOCK = 1 << 20
"""Bytes read at once for a checksum."""
OLDER = "the file is damaged: go on from an older checkpoint"

_NAME = re.compile(r"[0-9]{6,}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint: where it lies, and its index."""

    path: Path
    manifest: Manifest

    def holders(self, shards: Collection[int]) -> Iterator[tuple[FileEntry, list[int]]]:
        """The files that hold these shards, and which of them each holds."""
        wanted = set(shards)
        for file in self.manifest.files:
            if held := [entry.shard for entry in file.shards if entry.shard in wanted]:
                yield file, held


# Writing.


def directory_of(run: Path, number: int) -> Path:
    """Where checkpoint `number` of a run lies."""
    return run / FOLDER / f"{number:06d}"


def next_number(run: Path) -> int:
    """A number above those of all checkpoints of a run, complete or not."""
    return max(_numbered(run / FOLDER), default=0) + 1


class ServerFile:
    """One server's file in the making. Only the shards that are being written are in memory.

    Arguments:
        directory: of the checkpoint; its parent must exist.
        plan: the shards in the order in which they will be added, with their numbers of elements.
        slots: names of the update rule's slots.
    Raises:
        OSError: here and from every method: the disk is full, or something else is wrong with it.
    """

    def __init__(
        self, directory: Path, rank: int, plan: Sequence[tuple[int, int]], slots: Sequence[str]
    ) -> None:
        self.name = file_name(rank)
        self._place = directory / self.name
        self._fresh = directory / f".new-{self.name}"
        self._slots, self._size, self._hash = tuple(slots), 0, hashlib.sha256()
        directory.mkdir(exist_ok=True)
        self._file = self._fresh.open("wb", buffering=0)
        self._write(memoryview(header(plan, slots)))

    def add(self, copy: ShardCopy) -> None:
        """Write the next shard."""
        for array in (copy.values, *(copy.slots[name] for name in self._slots)):
            assert array.dtype == np.float32
            self._write(array.data.cast("B"))

    def close(self) -> tuple[int, str]:
        """Bring the file to the disk and to its place; its size and SHA-256."""
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._fresh, self._place)
        _sync(self._place.parent)
        return self._size, self._hash.hexdigest()

    def abandon(self) -> None:
        """Remove what was written; never raises."""
        with contextlib.suppress(OSError):
            self._file.close()
            self._fresh.unlink(missing_ok=True)

    def _write(self, data: memoryview) -> None:
        self._size += len(data)
        self._hash.update(data)
        while data:
            data = data[self._file.write(data) :]


def seal(directory: Path, manifest: Manifest, keep: int) -> None:
    """Complete a checkpoint whose server files are there; keep the newest `keep` of the run.

    Raises:
        OSError: it is not complete; the one before stays the latest.
    """
    for file in manifest.files:
        size = (directory / file.name).stat().st_size
        if size != file.size:
            raise OSError(f"{file.name} holds {size} bytes here, its server wrote {file.size}")
    text = to_json(manifest).encode()
    _put(directory / INDEX, text)
    _put(directory / SUCCESS, f"{hashlib.sha256(text).hexdigest()}\n".encode())
    _sync(directory.parent)  # the entry of the directory itself
    _put(directory.parent / LATEST, f"{directory.name}\n".encode())
    with contextlib.suppress(OSError):  # the new one is complete, whatever becomes of the old
        _remove_old(directory, keep)


def discard(directory: Path) -> None:
    """Remove a checkpoint that was not completed; never raises."""
    mark = directory.parent / LATEST
    if mark.exists() and mark.read_bytes().strip() == directory.name.encode():
        return  # it was completed after all: what failed came later
    with contextlib.suppress(OSError):
        (directory / SUCCESS).unlink(missing_ok=True)  # never looks complete when half is gone
    shutil.rmtree(directory, ignore_errors=True)


def _remove_old(newest: Path, keep: int) -> None:
    older = sorted(number for number in _numbered(newest.parent) if number < int(newest.name))
    paths = [newest.parent / f"{number:06d}" for number in older]
    complete = [path for path in paths if is_complete(path)]
    kept = complete[max(0, len(complete) + 1 - keep) :]
    for path in set(paths) - set(kept):
        discard(path)


def _numbered(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return [int(entry.name) for entry in folder.iterdir() if _NAME.fullmatch(entry.name)]


def _put(path: Path, text: bytes) -> None:
    """A small file, whole or not at all."""
    fresh = path.with_name(f".new-{path.name}")
    with fresh.open("wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Reading.


def run_of(path: Path, key: str) -> Path:
    """The run directory that `path` names, itself or by one of its checkpoints.

    Raises:
        UserError: it is neither.
    """
    if path.parent.name == FOLDER and _NAME.fullmatch(path.name):
        path = path.parent.parent
    if (path / "job.toml").is_file():
        return path
    fix = "there is no job.toml in it" if path.is_dir() else "there is no such folder"
    raise UserError(key, str(path), "a run directory, or a checkpoint in one", fix)


def open_checkpoint(path: Path, key: str) -> Checkpoint:
    """A checkpoint, or the latest one of a run directory; its index is checked, its files not.

    Raises:
        UserError: there is none, or it is incomplete or damaged.
    """
    run = run_of(path, key)
    if path == run:
        path = _latest(run, key)
    if not is_complete(path):
        fix = "it was never completed: go on from another one"
        raise UserError(key, str(path), f"a complete checkpoint, {path.name} has no {SUCCESS}", fix)
    return Checkpoint(path, _read_index(path, key))


def is_complete(path: Path) -> bool:
    """Whether a checkpoint was completed."""
    return (path / SUCCESS).is_file()


def has_checkpoint(run: Path) -> bool:
    """Whether a run has ever completed a checkpoint."""
    return (run / FOLDER / LATEST).is_file()


def _latest(run: Path, key: str) -> Path:
    mark = run / FOLDER / LATEST
    if not mark.is_file():
        fix = "its job has made none yet; train with job.checkpoint_every above 0"
        raise UserError(key, str(run), f"a run with a complete checkpoint in {FOLDER}", fix)
    name = mark.read_bytes().decode("ascii", "replace").strip()
    if not _NAME.fullmatch(name) or not (mark.parent / name).is_dir():
        raise UserError(
            key, str(run), f"a checkpoint that {FOLDER}/{LATEST} names, it names {name!r}", OLDER
        )
    return mark.parent / name


def _read_index(path: Path, key: str) -> Manifest:
    try:
        text = (path / INDEX).read_bytes()
        expected = (path / SUCCESS).read_bytes().decode("ascii", "replace").strip()
        actual = hashlib.sha256(text).hexdigest()
        if actual != expected:
            raise damaged(key, path, INDEX, f"{expected} as in {SUCCESS}", actual)
        return from_json(text.decode())
    except OSError as refused:
        fix = f"{refused.strerror}: {OLDER}"
        raise UserError(key, str(path), f"a readable {INDEX} and {SUCCESS}", fix) from None
    except (ValueError, TypeError, KeyError) as broken:
        raise UserError(key, str(path), f"an {INDEX} of this version", str(broken)) from None


def damaged(key: str, path: Path, name: str, expected: str, actual: str) -> UserError:
    """The error of a file whose bytes are not the ones that were written."""
    return UserError(key, str(path), f"{name} with SHA-256 {expected}, it has {actual}", OLDER)


def check_file(path: Path, file: FileEntry, key: str) -> None:
    """Compare a server's file with its checksum.

    Raises:
        UserError: it cannot be read, or is damaged.
    """
    checksum = hashlib.sha256()
    try:
        with (path / file.name).open("rb") as stream:
            while block := stream.read(BLOCK):
                checksum.update(block)
    except OSError as refused:
        fix = f"{refused.strerror}: {OLDER}"
        raise UserError(key, str(path), f"a readable {file.name}", fix) from None
    if checksum.hexdigest() != file.checksum:
        raise damaged(key, path, file.name, file.checksum, checksum.hexdigest())


def read_shards(checkpoint: Checkpoint, shards: Collection[int], key: str) -> Iterator[ShardCopy]:
    """These shards, one after the other, from whichever files hold them; each file is checked.

    Raises:
        UserError: a file that is needed is damaged or gone.
    """
    manifest = checkpoint.manifest
    for file, held in checkpoint.holders(shards):
        check_file(checkpoint.path, file, key)
        counts = {entry.shard: entry for entry in file.shards}
        with safe_open(checkpoint.path / file.name, framework="numpy") as tensors:
            for shard in held:
                names = tensor_names(shard, manifest.slots)
                values, *slots = (np.array(tensors.get_tensor(name)) for name in names)
                entry, own = counts[shard], dict(zip(manifest.slots, slots, strict=True))
                yield ShardCopy(shard, values, own, entry.version, entry.minibatches, entry.steps)


def read_vector(checkpoint: Checkpoint, key: str) -> Float32:
    """All parameters as one flat vector. Raises `UserError` as `read_shards` does."""
    shards = checkpoint.manifest.shards
    vector = np.zeros(shards.size, np.float32)
    for copy in read_shards(checkpoint, range(shards.count), key):
        begin, end = shards.span(copy.shard)
        vector[begin:end] = copy.values
    return vector


def all_checkpoints(run: Path) -> list[Path]:
    """The directories of a run's checkpoints, complete or not, by number."""
    folder = run / FOLDER
    return [folder / f"{number:06d}" for number in sorted(_numbered(folder))]
