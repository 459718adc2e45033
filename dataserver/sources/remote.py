"""Files and folders by local path or fsspec URL (s3://, gs://, http://, memory://, ...)."""

import glob
import os
from dataclasses import dataclass
from typing import Any

import fsspec


@dataclass(frozen=True, slots=True)
class Folder:
    """What lies below a folder: paths relative to it. Any thread may call it."""

    root: str
    system: Any

    @classmethod
    def of(cls, text: str) -> "Folder":
        """The folder that a path or URL names. Raises `OSError`, `ImportError`, `ValueError`."""
        if "://" not in text:
            return cls(os.path.abspath(os.path.expanduser(text)), None)
        system, root = fsspec.core.url_to_fs(text)
        return cls(root.rstrip("/"), system)

    def names(self) -> list[str]:
        """All files below, sorted. Raises `OSError` if there is no such folder."""
        if self.system is None:
            return sorted(_walk(self.root))
        cut = len(self.root) + 1 if self.root else 0
        found = [path[cut:] for path in self.system.find(self.root)]
        if not found and not self.system.exists(self.root):
            raise FileNotFoundError(2, "No such file or directory")
        return sorted(found)

    def empty_folders(self) -> list[str]:
        """Folders right below that hold no file; stores of objects have none."""
        if self.system is not None:
            return []
        inner = sorted(entry.name for entry in os.scandir(self.root) if entry.is_dir())
        return [name for name in inner if not _walk(os.path.join(self.root, name))]

    def read(self, name: str, begin: int = 0, size: int | None = None) -> bytes:
        """Bytes [begin, begin + size) of a file, to its end without `size`. Raises `OSError`."""
        path = f"{self.root}/{name}" if name else self.root
        if self.system is not None:
            end = None if size is None else begin + size
            return bytes(self.system.cat_file(path, start=begin, end=end))
        with open(path, "rb", buffering=0) as file:
            if begin:
                file.seek(begin)
            return file.read() if size is None else file.read(size)

    def size(self, name: str) -> int:
        """Bytes of a file. Raises `OSError`."""
        path = f"{self.root}/{name}" if name else self.root
        return os.path.getsize(path) if self.system is None else int(self.system.size(path))


def matching(text: str) -> tuple[Folder, list[str]]:
    """The files that a pattern matches, as a folder and sorted names in it; braces `{000..009}`
    stand for each number, `*` and `?` for any letters. Raises `OSError`."""
    folder = Folder.of(text.rpartition("/")[0] or ("/" if text.startswith("/") else "."))
    last = text.rpartition("/")[2]
    names: list[str] = []
    for one in expand(last):
        if glob.has_magic(one):
            import fnmatch

            names += sorted(n for n in folder.names() if fnmatch.fnmatchcase(n, one))
        else:
            names.append(one)
    return folder, names


def expand(text: str) -> list[str]:
    """`a-{08..10}.tar` as a-08.tar, a-09.tar, a-10.tar; `{x,y}` as x and y; as it is without."""
    before, brace, rest = text.partition("{")
    inner, closed, after = rest.partition("}")
    if not (brace and closed):
        return [text]
    first, dots, last = inner.partition("..")
    if dots and first.isdigit() and last.isdigit():
        middles = [str(n).zfill(len(first)) for n in range(int(first), int(last) + 1)]
    else:
        middles = inner.split(",")
    return [before + middle + end for middle in middles for end in expand(after)]


def _walk(root: str) -> list[str]:
    found = []
    for entry in os.scandir(root):
        if entry.is_dir():
            found += [f"{entry.name}/{inner}" for inner in _walk(entry.path)]
        else:
            found.append(entry.name)
    return found
