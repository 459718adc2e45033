"""The hostfile: which hosts a job may use, one a line, and what is special about each. Pure text.

    # name         what is special about it; * is for all lines below
    *              python=/opt/dualshard/bin/python
    alice@gpu-1    slots=4 device=cuda:0
    gpu-2:4        address=10.0.0.12 roles=worker
    store          roles=controller,paramserver,dataserver directory="/srv/my job"

A name is what ssh is told; ports, jumps and identities belong into ssh's own configuration.
"""

import ipaddress
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from ...common.errors import UserError
from ...common.job import SETTINGS
from ...common.suggest import did_you_mean
from ...common.types import Role

SLOTS = 4096
"""The most workers that one host may be given."""
LOOPBACK = "127.0.0.1"
ALL = "*"
"""The name of a line whose keys are for all lines below it."""

_COMMENT = re.compile(r"(^|\s)#.*")
_NAME = re.compile(r"(?:([A-Za-z0-9_][A-Za-z0-9._-]*)@)?([A-Za-z0-9](?:[A-Za-z0-9._-]*))")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,14}")


@dataclass(frozen=True)
class Host:
    """One host.

    Attributes:
        target: what ssh is told: `host` or `user@host`.
        slots: how many workers fill it.
        address: where others reach it, a name or an IPv4 address; empty: the host's name.
        bind: the address that its roles listen on; empty: see `listening`.
        interface: the network card whose address they listen on instead.
        device, threads: `worker.device` and `worker.threads` of its workers; empty, 0: the job's.
        roles: which may stand there.
        directory: where its roles run; empty: where the launcher runs, or else ssh's own.
        command: how `dualshard` is called there.
        keys: the folder of its keys; empty: the same as everywhere.
        line: where it stands in the hostfile.
    """

    target: str
    slots: int = 1
    address: str = ""
    bind: str = ""
    interface: str = ""
    device: str = ""
    threads: int = 0
    roles: frozenset[Role] = frozenset(Role)
    directory: str = ""
    command: tuple[str, ...] = ("dualshard",)
    keys: str = ""
    line: int = 0

    @property
    def name(self) -> str:
        """The host without the user: how it is called in output."""
        return self.target.rpartition("@")[2]

    @property
    def reached_at(self) -> str:
        """Where others reach its roles: a name or an address, without a port."""
        return self.address or (LOOPBACK if self.name == "localhost" else self.name)

    @property
    def listening(self) -> str:
        """The address that its roles listen on: `bind`; or the address where it is reached, if
        that is one in numbers; or all addresses, since what a name leads to is often another
        address on the host itself."""
        if self.bind:
            return self.bind
        return self.reached_at if _is_ipv4(self.reached_at) else "0.0.0.0"  # noqa: S104


def read_hosts(text: str, file: str) -> tuple[Host, ...]:
    """The hosts of a hostfile, in its order.

    Arguments:
        text: what the file holds.
        file: how it is called in errors.
    Raises:
        UserError: for the first line that is wrong, with its number; or there is no host.
    """
    hosts: dict[str, Host] = {}
    usual = Host(ALL)
    for number, line in enumerate(text.splitlines(), 1):
        words = _Line(f"{file} line {number}", line)
        host = words.host(replace(usual, line=number))
        if host is None:
            continue
        if host.target == ALL:
            usual = host
            continue
        if earlier := hosts.get(host.name.lower()):
            raise words.refused(
                host.name,
                "a host that is not there yet",
                f"line {earlier.line} has it already: join the two, with slots=N for more workers",
            )
        hosts[host.name.lower()] = host
    if not hosts:
        raise UserError("--hostfile", file, "at least one host", "write one host name a line")
    return tuple(hosts.values())


@dataclass(frozen=True)
class _Line:
    """One line, and how errors call it."""

    place: str
    text: str

    def refused(self, value: object, expected: str, fix: str) -> UserError:
        return UserError(self.place, value, expected, fix)

    def host(self, usual: Host) -> Host | None:
        """What the line says, beside what is usual; None if it says nothing."""
        words = self._words()
        if not words:
            return None
        target, slots = (ALL, None) if words[0] == ALL else self._name(words[0])
        host = replace(usual, target=target, slots=usual.slots if slots is None else slots)
        seen = set() if slots is None else {"slots"}
        for key, value in map(self._pair, words[1:]):
            field = "command" if key == "python" else key
            if field in seen:
                raise self.refused(key, "each key once", "leave one of the two out")
            seen.add(field)
            host = replace(host, **{field: _READERS[key](self, key, value)})
        return host

    def _words(self) -> list[str]:
        try:
            return shlex.split(_COMMENT.sub("", self.text))
        except ValueError as wrong:
            raise self.refused(
                self.text.strip(), "balanced quotes", str(wrong).lower().rstrip(".")
            ) from None

    def _name(self, word: str) -> tuple[str, int | None]:
        name, colon, slots = word.partition(":")
        if not _NAME.fullmatch(name):
            expected = "host, user@host or host:SLOTS, with a name or an IPv4 address"
            fix = "give anything else a name in ssh's configuration (~/.ssh/config)"
            raise self.refused(word, expected, fix)
        return name, self.number("host:SLOTS", slots, SLOTS) if colon else None

    def _pair(self, word: str) -> tuple[str, str]:
        key, equals, value = word.partition("=")
        if not equals:
            raise self.refused(word, "key=value behind the host", "write one host a line")
        if key not in _READERS:
            keys = f"keys are {', '.join(_READERS)}"
            raise self.refused(word, "a key of the hostfile", did_you_mean(key, _READERS, keys))
        if not value:
            raise self.refused(word, f"a value for {key}", "write one, or leave the key out")
        return key, value

    def number(self, key: str, value: str, most: int = SLOTS) -> int:
        if not (value.isascii() and value.isdigit() and 1 <= int(value[:9]) <= most):
            raise self.refused(f"{key}={value}", f"a whole number from 1 to {most}", "correct it")
        return int(value)

    def word(self, key: str, value: str) -> str:
        """A name or an IPv4 address."""
        if not _PLAIN.fullmatch(value):
            fix = f"write it without a port, for example {key}=10.0.0.12"
            raise self.refused(f"{key}={value}", "a host name or an IPv4 address", fix)
        return value

    def card(self, key: str, value: str) -> str:
        if not _CARD.fullmatch(value):
            expected = "the name of a network card"
            raise self.refused(f"{key}={value}", expected, "for example interface=eth0")
        return value

    def device(self, key: str, value: str) -> str:
        rule = SETTINGS["worker.device"]
        try:
            return str(rule.check(key, value))
        except UserError as wrong:
            raise self.refused(f"{key}={value}", wrong.expected, wrong.fix) from None

    def roles(self, key: str, value: str) -> frozenset[Role]:
        names = [str(role) for role in Role]
        for name in value.split(","):
            if name not in names:
                fix = did_you_mean(name, names, f"roles are {', '.join(names)}")
                raise self.refused(f"{key}={value}", "roles with commas between", fix)
        return frozenset(map(Role, value.split(",")))

    def path(self, key: str, value: str) -> str:
        if not value.isprintable():
            raise self.refused(f"{key}={value}", "a path that can be printed", "rename it")
        return value

    def command(self, key: str, value: str) -> tuple[str, ...]:
        return (self.path(key, value),)

    def python(self, key: str, value: str) -> tuple[str, ...]:
        # -P: a file in the working directory must not hide a module of the standard library.
        return (self.path(key, value), "-P", "-m", "dualshard.deploy")


_READERS: dict[str, Callable[[_Line, str, str], Any]] = {
    "slots": _Line.number,
    "address": _Line.word,
    "bind": _Line.word,
    "interface": _Line.card,
    "device": _Line.device,
    "threads": _Line.number,
    "roles": _Line.roles,
    "directory": _Line.path,
    "command": _Line.command,
    "python": _Line.python,
    "keys": _Line.path,
}
"""How the value of each key is read; all but `python` are fields of `Host`."""


def lonely_loopback(hosts: tuple[Host, ...]) -> Iterator[Host]:
    """Hosts that others are told to reach at an address which leads everyone to itself."""
    if len(hosts) > 1:
        for host in hosts:
            if _is_ipv4(host.reached_at) and ipaddress.ip_address(host.reached_at).is_loopback:
                yield host


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
