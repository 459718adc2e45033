"""One published file from its mirrors onto the disk, checked. What is shown of it, `fetch` says.

A file grows as `NAME.part`, which a later call goes on with, and has its name only once its size
and its SHA-256 are right.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from ..common.errors import UserError
from ..common.locks import Lock
from .published import File
from .web import Broken, chunks, open_at

Progress = Callable[[int], None]
"""Told how many bytes of a file are there."""


class NoMirror(Exception):
    """No mirror has brought the file; says why, mirror by mirror."""


class _Damaged(Broken):
    """What came is not the published file."""


def is_there(file: File, folder: Path) -> bool:
    """Whether the folder has the file already.

    Raises:
        UserError: it has another one of that name, which is left alone, or one that is unreadable.
    """
    path = folder / file.name
    with writing(folder):
        if not path.exists():
            return False
        size, actual = path.stat().st_size, sha256(path)
    if (size, actual) == (file.size, file.sha256):
        return True
    raise UserError(
        "--to",
        str(folder),
        f"{file} with the SHA-256 {file.sha256}, it has {size:,} bytes and the SHA-256 {actual}",
        f"remove {path}, or name another folder",
    )


def download(file: File, mirrors: tuple[str, ...], folder: Path, progress: Progress) -> str:
    """Bring the file into the folder, from the first mirror that has it.

    Returns:
        Why mirrors failed before one did not, in one line; empty where the first one has it.

    Raises:
        NoMirror: each mirror failed; what has come stays in `NAME.part`.
        UserError: the folder cannot be written or the disk is full; another process downloads
            the same file into it.
    """
    part = folder / f"{file.name}.part"
    failed: dict[str, Broken] = {}
    waiting = list(mirrors)
    with writing(folder), _locked(part):
        while waiting:
            mirror, begin = waiting.pop(0), _size(part)
            try:
                _append(mirror + file.name, file, part, progress)
                _settle(file, part)
                return _told(failed)
            except Broken as reason:
                # Who brought bytes may bring the rest; a wrong beginning may be another's, once.
                damaged = isinstance(reason, _Damaged)
                again = begin > 0 if damaged else _size(part) > begin
                if again and not isinstance(failed.get(mirror), _Damaged):
                    waiting.append(mirror)
                failed[mirror] = reason
    raise NoMirror(_told(failed))


def _told(failed: dict[str, Broken]) -> str:
    return ", ".join(f"{urlsplit(mirror).netloc}: {reason}" for mirror, reason in failed.items())


def sha256(path: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Puts what the disk refuses into one line."""
    try:
        yield
    except OSError as refused:
        why = refused.strerror or str(refused)
        fix = f"{why}: choose another with --to DIR"
        raise UserError("--to", str(folder), "a folder that can be written", fix) from None


@contextmanager
def _locked(part: Path) -> Iterator[None]:
    """Keep other processes from this file; one without a byte is not left behind."""
    lock = Lock.take(part)
    if lock is None:
        raise UserError(
            "--to",
            str(part.parent),
            f"a folder into which nobody downloads, another process writes {part.name}",
            "wait for it, or name another folder",
        )
    try:
        yield
    finally:
        if part.exists() and not _size(part):
            part.unlink()
        lock.release()


def _append(url: str, file: File, part: Path, progress: Progress) -> None:
    """Add to `part` what the file still lacks."""
    have = _size(part)
    if have == file.size:
        return
    if have > file.size:
        have = 0
    with open_at(url, have) as answer:
        have = _begin(answer, have, file)
        with part.open("ab" if have else "wb") as out:
            progress(have)
            for chunk in chunks(answer):
                have += out.write(chunk[: file.size - have])
                progress(have)
                if have == file.size:
                    break
    if have < file.size:
        raise Broken(f"it ended after {have:,} of {file.size:,} bytes")


def _settle(file: File, part: Path) -> None:
    """Give a file its name if it is the published one; else delete it."""
    actual = sha256(part)
    if actual != file.sha256:
        os.truncate(part, 0)  # it is locked until it is deleted
        raise _Damaged(f"SHA-256 {actual}, expected {file.sha256}, deleted")
    os.replace(part, part.with_suffix(""))


def _begin(answer: HTTPResponse, have: int, file: File) -> int:
    """The byte that an answer begins with: `have`, or 0 from a server that knows no ranges."""
    begin, total = 0, answer.headers.get("Content-Length", "")
    if answer.status == 206:
        span, _, total = answer.headers.get("Content-Range", "").partition("/")
        first = span.removeprefix("bytes ").partition("-")[0]
        if first != str(have):
            raise Broken(f"it sent bytes from {first or 'nowhere'} on, not from {have:,}")
        begin = have
    if total.isdigit() and int(total) != file.size:
        raise Broken(f"it offers {int(total):,} bytes, expected {file.size:,}")
    return begin


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
