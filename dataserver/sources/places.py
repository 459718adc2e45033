"""Where the files of a source are: a local path, or any URL that fsspec knows (s3, gs, http, ...).

A format asks a `Place` for names, sizes and bytes, and never learns which kind it is. What goes
wrong with a place is put into one line here; what is wrong with the bytes, by the format.

Secrets stay where the field keeps them (the environment or the files of the AWS and Google SDKs,
fsspec's own configuration), and those within a URL are never shown (`common.urls`).
"""

import gzip
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import fsspec
from fsspec.config import conf
from fsspec.core import url_to_fs

from ...common.errors import UserError
from ...common.urls import without_secrets
from .samples import Origin

CONNECT_TIMEOUT = 10.0
"""Seconds that a server may take to answer a connection."""
READ_TIMEOUT = 60.0
"""Seconds without a byte after which a transfer is given up."""
GZIP = b"\x1f\x8b"

_BUCKETS = {"s3", "s3a", "gs", "gcs"}
_EXTRA = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "http": "http", "https": "http"}


@dataclass(frozen=True, slots=True)
class Place:
    """A file or a folder that may be there or not. Any thread may use it.

    Every method raises a `UserError` that blames the setting which named the place when the place
    cannot be reached or read.
    """

    origin: Origin
    text: str
    """What to call it in an error: the user's words, without secrets."""
    path: str
    """Its name within its file system."""
    _files: Any = field(repr=False)
    _known: dict[str, Any] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, origin: Origin, text: str) -> "Place":
        """The place that `text` names: a path (`~` is the home folder), or a URL.

        Raises:
            UserError: a protocol that fsspec does not know, or whose package is not installed.
        """
        shown = without_secrets(text)
        if "://" not in text:
            path = os.path.abspath(os.path.expanduser(text))
            return cls(origin, shown, path, fsspec.filesystem("file"))
        protocol = text.rpartition("::")[2].partition("://")[0]
        try:
            with _reaching(origin, shown):
                files, path = url_to_fs(text, **_limits(text, protocol))
        except ImportError as error:
            extra = _EXTRA.get(protocol)
            install = f"dualshard[{extra}]" if extra else f"the package of fsspec for {protocol}"
            expected = f"the package for {protocol}://, it is not installed ({_words(error)})"
            fix = f"pip install '{install}'" if extra else f"install {install}"
            raise origin.error(expected, fix) from error
        return cls(origin, shown, path, files)

    def __truediv__(self, name: str) -> "Place":
        """The file or folder `name` in this folder."""
        path = f"{self.path.rstrip('/')}/{name}"
        return Place(self.origin, f"{self.text.rstrip('/')}/{name}", path, self._files)

    @property
    def name(self) -> str:
        """The last part of its name."""
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def is_local(self) -> bool:
        """Whether `path` is one of this machine."""
        return "file" in self._protocols

    def exists(self) -> bool:
        """Whether a file or folder is there."""
        return self._info() is not None

    def is_folder(self) -> bool:
        """Whether it is a folder. Behind http nothing is."""
        info = self._info()
        return info is not None and info["type"] == "directory"

    def lack(self) -> str:
        """Why a file is not in this folder, in words: it is not there, or no folder, or its bucket
        or a folder above it is not there."""
        if self.is_folder():
            return "there is none"
        if self._is_web:
            return "its server has none there"
        return "which is no folder" if self.exists() else _no(self._first_missing())

    def size(self) -> int:
        """The bytes of a file."""
        info = self._info()
        if info is None:
            raise self._missing("file")
        if info["type"] == "directory":
            raise self.origin.error(f"a file {self.text}, it is a folder", "name a file in it")
        # A web server need not say how long a file is before it sends it.
        return len(self.read()) if info["size"] is None else int(info["size"])

    def list(self) -> "Sequence[Place]":
        """What is directly in this folder, sorted by name."""
        with self._reaching("folder"):
            return self._placed(self._files.ls(self.path, detail=True))

    def walk(self) -> "Sequence[Place]":
        """All files in this folder and in those below it, sorted by path."""
        with self._reaching("folder"):
            found = self._files.find(self.path, detail=True)
        return self._placed(found.values())

    def glob(self) -> "Sequence[Place]":
        """What fits this place's name with `*`, `?` and `[...]` in it, sorted by path."""
        with self._reaching("file"):
            return self._placed(self._files.glob(self.path, detail=True).values())

    def below(self, folder: "Place") -> str:
        """Its path from `folder` on, with `/` between the parts."""
        return self.path.removeprefix(folder.path.rstrip("/")).lstrip("/")

    def read(self, offset: int = 0, size: int | None = None) -> bytes:
        """`size` bytes from `offset` on; all that follow where `size` is None."""
        with self._reaching("file"):
            if not offset and size is None:
                return bytes(self._files.cat_file(self.path))
            end = None if size is None else offset + size
            data = bytes(self._files.cat_file(self.path, start=offset, end=end))
        if size is not None and len(data) > size:
            data = data[offset : offset + size]  # a web server without ranges sends everything
        if size is not None and len(data) < size:
            raise self.origin.error(
                f"{self.text} to hold {offset + size:,} bytes, from {offset:,} on there are "
                f"{len(data):,} of {size:,}",
                "write or download the file again",
            )
        return data

    def contents(self) -> bytes:
        """All bytes, unpacked where they are gzip; which is read off the bytes, not the name."""
        data = self.read()
        if data[:2] != GZIP:
            return data
        try:
            return gzip.decompress(data)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            expected = f"{self.name} to be a whole gzip file, it is damaged ({error})"
            raise self.origin.error(expected, "download the file again") from error

    @property
    def _protocols(self) -> set[str]:
        """All names of what it is reached by: s3 and s3a, http and https."""
        known = self._files.protocol
        return {known} if isinstance(known, str) else set(known)

    @property
    def _is_web(self) -> bool:
        """Whether it has no folders, only addresses."""
        return bool(self._protocols & {"http", "https"})

    def _first_missing(self) -> "Place":
        """The bucket, or the outermost folder of its path, that is not there; or itself."""
        missing, begin = self, self.text.removesuffix(self.path)
        begin = "" if begin == self.text else begin
        with suppress(UserError):  # who may read a folder need not be allowed to read those above
            while path := missing.path.rstrip("/").rpartition("/")[0]:
                above = Place(self.origin, begin + path, path, self._files)
                if self._is_web or above.exists():
                    break
                missing = above
        return missing

    def _info(self) -> dict[str, Any] | None:
        """What fsspec says of it: `type` and `size`; None if it is not there."""
        if self._known is not None:
            return self._known
        try:
            with _reaching(self.origin, self.text):
                return dict(self._files.info(self.path))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _placed(self, found: Any) -> "Sequence[Place]":
        """Places for what fsspec listed; a folder of S3 may list itself."""
        begin = self.text.removesuffix(self.path)
        begin = "" if begin == self.text else begin  # a local path or an http one is whole already
        places = [
            Place(self.origin, without_secrets(begin + one["name"]), one["name"], self._files, one)
            for one in found
            if one["name"].rstrip("/") != self.path.rstrip("/")
        ]
        return sorted(places, key=lambda place: place.path)

    @contextmanager
    def _reaching(self, kind: str) -> Iterator[None]:
        try:
            with _reaching(self.origin, self.text):
                yield
        except (FileNotFoundError, NotADirectoryError) as error:
            raise self._missing(kind) from error

    def _missing(self, kind: str) -> UserError:
        first = self._first_missing()
        lack = "it is not there" if first is self else _no(first)
        return self.origin.error(f"a {kind} {self.text}, {lack}", "name one that is there")


def _no(missing: Place) -> str:
    bucket = missing._protocols & _BUCKETS and "/" not in missing.path
    return f"there is no {'bucket' if bucket else 'folder'} {missing.text}"


@contextmanager
def _reaching(origin: Origin, text: str) -> Iterator[None]:
    """Turns what a file system raises into one line; a missing file or package passes.

    The libraries behind fsspec share no base of their errors, hence every `Exception`.
    """
    try:
        yield
    except (UserError, ImportError):
        raise
    except Exception as error:
        chain = list(_chain(error))
        if isinstance(error, FileNotFoundError | NotADirectoryError) and not any(
            _is_network(one) for one in chain
        ):
            raise
        expected, fix = _told(chain)
        raise origin.error(f"{text} to be readable, {expected}", fix) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_network(error: BaseException) -> bool:
    """Whether a connection failed; the names are those of aiohttp and botocore."""
    names = {kind.__name__ for kind in type(error).__mro__}
    network = {"ClientConnectionError", "HTTPClientError", "ConnectionError", "gaierror"}
    return bool(names & network) or isinstance(error, TimeoutError)


def _told(chain: list[BaseException]) -> tuple[str, str]:
    """What is wrong, and what to do about it."""
    words = _words(chain[0])
    if any(
        type(one).__name__ in ("NoCredentialsError", "PartialCredentialsError") for one in chain
    ):
        fix = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or FSSPEC_S3_ANON=true"
        return "there are no credentials for it", fix
    if isinstance(chain[0], PermissionError):
        return f"it is not allowed ({words})", "give this user or these credentials access to it"
    if isinstance(chain[0], IsADirectoryError):
        return "it is a folder", "name a file in it"
    if any(_is_network(one) for one in chain):
        reason = _words(next(one for one in chain if _is_network(one)))
        return f"its server cannot be reached ({reason})", "check the address and the network"
    if isinstance(chain[0], ValueError) and "rotocol" in words:
        return words, "name a path, or a URL of a protocol such as s3://, gs:// or https://"
    return f"it is not ({words})", "name a place that can be read"


def _words(error: BaseException) -> str:
    """An error in a few words, without secrets."""
    reason = getattr(error, "strerror", None) or str(error).strip()
    return without_secrets(" ".join(str(reason).split())) or type(error).__name__


def _limits(text: str, protocol: str) -> dict[str, Any]:
    """Options that keep a dead server from holding a job up; the user's own options win."""
    options: dict[str, Any] = {}
    if protocol in ("s3", "s3a") and "config_kwargs" not in conf.get("s3", {}):
        retries = {"max_attempts": 2}
        limits = {"connect_timeout": CONNECT_TIMEOUT, "read_timeout": READ_TIMEOUT}
        options = {"config_kwargs": {**limits, "retries": retries}}
    if protocol in ("http", "https") and "client_kwargs" not in conf.get(protocol, {}):
        import aiohttp  # an optional package; its absence is told by `Place.of`

        limit = aiohttp.ClientTimeout(None, sock_connect=CONNECT_TIMEOUT, sock_read=READ_TIMEOUT)
        options = {"client_kwargs": {"timeout": limit}}
    return {protocol: options} if options and "::" in text else options
