"""The key files of one host: read, checked, written, and read again when they change. Files alone:
what the keys are used for stands in `transport.curve`.

    DIR/NAME.key           the pair of one holder: only its owner may read it (mode 600)
    DIR/public/NAME.pub    the public key of everyone who may take part

A NAME is a role, or a role and more words (`worker-gpu1`); `NAME-old-N` is an earlier public key of
NAME that is still accepted. Keys are Curve25519 in Z85 (rfc.zeromq.org/spec/32), 40 characters.
"""

import os
import re
import shlex
import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from .errors import UserError
from .permissions import OPERATOR
from .types import Role

ROLES = (*map(str, Role), OPERATOR)
"""Whoever can have a key."""
NAME = re.compile(rf"({'|'.join(ROLES)})(-[A-Za-z0-9][A-Za-z0-9._-]*)?")
OLD = re.compile(r"-old-([0-9]+)$")
Z85 = string.digits + string.ascii_letters + ".-:+=^!/*?&<>()[]{}@%$#"
"""The digits, base 85; five of them make a number of 32 bits."""
KEY_LENGTH = 40
FILE_LIMIT = 4096
"""Bytes of a key file; a longer one is something else."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A public key and its secret, which no `repr` shows."""

    public: str
    secret: str

    def __repr__(self) -> str:
        return f"Pair({self.public!r})"


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose a public key is: `name` stays when the key is changed for another. `age` is 0 for the
    key in use; of earlier ones, the younger the less."""

    role: str
    name: str
    age: int = 0


class KeyRing:
    """What one role has of a folder of keys: its own pair, and everyone's public keys.

    Not thread-safe: it belongs to the loop.

    Arguments:
        folder: DIR.
        role: a `Role`, or `OPERATOR`; its pair is ROLE.key, or the one file ROLE-*.key.

    Raises:
        UserError: a file is missing, malformed, or a secret that others may read.
    """

    def __init__(self, folder: Path, role: str) -> None:
        self.folder, self.role = folder, str(role)
        self.trouble = ""
        """Why the files could not be read again; empty if they could. What they held before is
        still in force then."""
        self._public_of: Callable[[str], str] | None = None
        self._stamp = self._look()
        self.own, self.holders = self._read()

    def reload(self) -> bool:
        """Read the files again if any has changed; whether that changed anything. Cheap: a few
        calls of stat(2)."""
        try:
            stamp = self._look()
            if stamp == self._stamp:
                self.trouble = ""
                return False
            before = self.own, self.holders
            self.own, self.holders = self._read()
        except UserError as wrong:
            self.trouble = str(wrong)
            return False
        self._stamp, self.trouble = stamp, ""
        return (self.own, self.holders) != before

    @property
    def own_name(self) -> str:
        """The name of our own file."""
        return own_file(self.folder, self.role).stem

    def check_pairs(self, public_of: Callable[[str], str]) -> None:
        """From now on refuse a pair of ours whose public key is not that of its secret.

        Raises:
            UserError: the one that is there now.
        """
        self._public_of = public_of
        self._check(self.own)

    def _check(self, own: Pair) -> None:
        if self._public_of is not None and self._public_of(own.secret) != own.public:
            raise UserError(
                "--keys",
                str(own_file(self.folder, self.role)),
                "a public key that belongs to its secret",
                "copy the file again from where `dualshard keygen` made it",
            )

    def keys_of(self, *, role: str = "", name: str = "") -> list[str]:
        """The public keys of a role or of a holder, those in use before earlier ones."""
        found = [
            (holder.age, holder.name, key)
            for key, holder in self.holders.items()
            if role in ("", holder.role) and name in ("", holder.name)
        ]
        return [key for _, _, key in sorted(found)]

    def _look(self) -> tuple[object, ...]:
        """What changes when a file does."""
        try:
            paths = [own_file(self.folder, self.role), *public_files(self.folder)]
            stats = [path.stat() for path in paths]
        except OSError as refused:
            raise _unreadable(self.folder, refused) from None
        marks = [(s.st_ino, s.st_mtime_ns, s.st_size, s.st_mode) for s in stats]
        return tuple(zip(map(str, paths), marks, strict=True))

    def _read(self) -> tuple[Pair, dict[str, Holder]]:
        own = read_pair(own_file(self.folder, self.role))
        self._check(own)
        names: dict[str, str] = {}
        for path in public_files(self.folder):
            key = read_public(path)
            before = names.get(key, path.stem)
            if base_of(before) != base_of(path.stem):
                raise UserError(
                    "--keys",
                    str(path),
                    f"a key of its own, not that of {before}.pub",
                    "remove one of the two files",
                )
            names[key] = min(before, path.stem, key=len)  # the same while a pair is changed
        return own, holders(names)


def holders(names: dict[str, str]) -> dict[str, Holder]:
    """Who holds these public keys, by the names of their files."""
    return {
        key: Holder(role_of(name), base_of(name), _age(name, names.values()))
        for key, name in names.items()
    }


def base_of(name: str) -> str:
    """Whose key a file holds, whether it is the one in use or an earlier one."""
    return OLD.sub("", name)


def _number(name: str) -> int:
    old = OLD.search(name)
    return int(old[1]) if old else 0


def _age(name: str, names: Iterable[str]) -> int:
    """How many keys of the same holder came after this one."""
    if not _number(name):
        return 0
    return sum(base_of(one) == base_of(name) and _number(one) >= _number(name) for one in names)


def next_old(folder: Path, name: str) -> int:
    """The number under which an earlier public key of this name is to be kept."""
    numbers = (_number(p.stem) for p in public_files(folder) if base_of(p.stem) == name)
    return 1 + max(numbers, default=0)


def role_of(name: str) -> str:
    """The role of a holder: its name up to the first dash.

    Raises:
        UserError: it does not begin with a role.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise UserError(
            "--name",
            name,
            f"a role ({', '.join(ROLES)}), or a role, a dash, and letters or digits",
            "for example worker-gpu1",
        )
    return match[1]


def own_file(folder: Path, role: str) -> Path:
    """The file with the pair of a role.

    Raises:
        UserError: there is none, or no telling which.
    """
    usual = folder / f"{role}.key"
    if usual.exists():
        return usual
    others = sorted(folder.glob(f"{role}-*.key"))
    if len(others) == 1:
        return others[0]
    if not folder.is_dir():
        fix = f"make it with `dualshard keygen {shlex.quote(str(folder))}`, or name another"
        raise UserError("--keys", str(folder), "a folder of keys", fix)
    if others:
        found = ", ".join(path.name for path in others)
        raise UserError("--keys", str(folder), f"one key of role {role}, not {found}", "keep one")
    fix = f"copy it from where `dualshard keygen` made it (`dualshard keygen DIR --copy {role} OUT`"
    raise UserError(
        "--keys", str(folder), f"the key of this role in {usual.name}", f"{fix} makes OUT)"
    )


def public_files(folder: Path) -> list[Path]:
    """The files of public keys. Raises `UserError` if the folder has none."""
    found = sorted((folder / "public").glob("*.pub"))
    if not found:
        raise UserError(
            "--keys",
            str(folder / "public"),
            "the public keys of everyone who takes part",
            "copy the folder public/ from where `dualshard keygen` made it",
        )
    return found


def read_pair(path: Path) -> Pair:
    """The pair in a file that only its owner can read; where that is root and we are not, as in a
    pod of Kubernetes, our group may, too.

    Raises:
        UserError: it is missing, malformed, or others may read it.
    """
    try:
        found = path.stat()
    except OSError as refused:
        raise _unreadable(path, refused) from None
    mode, of_root = found.st_mode & 0o777, found.st_uid == 0 != os.geteuid()
    if mode & (0o037 if of_root else 0o077):
        raise UserError(
            "--keys",
            str(path),
            f"a secret that only its owner may read, not mode {mode:o}",
            f"chmod 600 {shlex.quote(str(path))}",
        )
    values = _values(path)
    return Pair(_key(path, values, "public"), _key(path, values, "secret"))


def read_public(path: Path) -> str:
    """The public key in a file. Raises `UserError` if there is none."""
    if NAME.fullmatch(path.stem) is None:
        expected = f"a file whose name begins with a role ({', '.join(ROLES)})"
        raise UserError("--keys", str(path), expected, "rename it or remove it")
    return _key(path, _values(path), "public")


def write_pair(folder: Path, name: str, pair: Pair) -> None:
    """Write DIR/NAME.key, readable by its owner alone from the first moment, and
    DIR/public/NAME.pub. What is there is replaced.

    Raises:
        UserError: the folder cannot be written.
    """
    lines = f"# Secret. Whoever has this can act as a {role_of(name)}.\n"
    lines += f"public = {pair.public}\nsecret = {pair.secret}\n"
    write_public(folder, name, pair.public)  # first: nobody may have a key that none accepts
    _write(folder / f"{name}.key", lines, 0o600)


def write_public(folder: Path, name: str, key: str) -> None:
    """Write DIR/public/NAME.pub; as `write_pair`."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "public").mkdir(exist_ok=True)
    except OSError as refused:
        raise _unwritable(folder, refused) from None
    _write(folder / "public" / f"{name}.pub", f"public = {key}\n", 0o644)


def _write(path: Path, text: str, mode: int) -> None:
    """Put a whole file in place: whoever reads meanwhile sees the old one or the new one."""
    fresh = path.with_name(path.name + ".new")
    try:
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.replace(fresh, path)
    except OSError as refused:
        raise _unwritable(path, refused) from None


def _values(path: Path) -> dict[str, str]:
    """The `key = value` lines of a file."""
    try:
        with path.open("rb") as file:
            text = file.read(FILE_LIMIT).decode("ascii", "replace")
    except OSError as refused:
        raise _unreadable(path, refused) from None
    return dict(_lines(text))


def _lines(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, sign, value = line.partition(" = ")
        if sign and not name.startswith("#"):
            yield name.strip(), value.strip()


def _key(path: Path, values: dict[str, str], name: str) -> str:
    """One key of a file. A wrong one is never shown: it may be a secret."""
    key = values.get(name, "")
    if not _is_key(key):
        raise UserError(
            "--keys",
            str(path),
            f"a line `{name} = ` and {KEY_LENGTH} characters of Z85",
            "copy the file again from where `dualshard keygen` made it",
        )
    return key


def _is_key(text: str) -> bool:
    if len(text) != KEY_LENGTH or not set(Z85).issuperset(text):
        return False
    groups = [text[at : at + 5] for at in range(0, KEY_LENGTH, 5)]
    numbers = [reduce(lambda sum, digit: 85 * sum + Z85.index(digit), group, 0) for group in groups]
    return max(numbers) < 1 << 32


def _unreadable(path: Path, refused: OSError) -> UserError:
    why = refused.strerror or str(refused)
    return UserError(
        "--keys", str(path), "key files that can be read", f"{why}: check path and owner"
    )


def _unwritable(path: Path, refused: OSError) -> UserError:
    why = refused.strerror or str(refused)
    return UserError("DIR", str(path), "a folder that can be written", f"{why}: choose another DIR")
