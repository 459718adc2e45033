"""Programs that are measured in processes of their own, and told what to do line by line.

A peer is a module `bench.peer_*`. It writes one line of JSON with the names of its variants when it
is ready, and then answers each line `VARIANT SECONDS` with what this variant made a second: GB/s of
both directions together where it pushes and pulls, samples where it trains. What it computes it
checks by itself, and fails if it is wrong.
"""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from select import select

from ..common.errors import RoleError
from .processes import clean_environment, module_command, started

PATIENCE = 120.0
"""Seconds that a peer may take for one answer, its start included."""


class Peer:
    """The benchmark's end of one peer that runs."""

    def __init__(self, process: "subprocess.Popen[str]", name: str, log: Path) -> None:
        self._process, self.name, self._log = process, name, log
        names = self._listen()
        assert isinstance(names, list)
        self.variants: dict[str, Callable[[float], float]] = {
            label: partial(self._measure, number) for number, label in enumerate(names)
        }

    @property
    def pid(self) -> int:
        """Of its first process."""
        return self._process.pid

    def _measure(self, number: int, seconds: float) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{number} {seconds}\n")
        self._process.stdin.flush()
        return float(str(self._listen()))

    def _listen(self) -> object:
        """Its next line. Raises `RoleError` if it has ended, or is silent."""
        pipe = self._process.stdout
        assert pipe is not None
        line = pipe.readline() if select([pipe], [], [], PATIENCE)[0] else ""
        if not line:
            said = self._log.read_text(errors="replace").strip().splitlines() or ["nothing"]
            raise RoleError(f"{self.name} failed; the last that it wrote: {said[-1][:200]}")
        return json.loads(line)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let it and all its processes run while the context lasts."""
        signal_tree(self._process.pid, signal.SIGCONT)
        try:
            yield
        finally:
            self.pause()

    def pause(self) -> None:
        """Let it and all its processes stand still."""
        signal_tree(self._process.pid, signal.SIGSTOP)


@contextmanager
def peer(name: str, module: str, folder: Path, *arguments: object) -> Iterator[Peer]:
    """A peer that stands still; its processes end with the context.

    Arguments:
        module: of `bench`; run with `arguments` and then `folder`, where it may write.
    """
    log = folder / f"{module}.log"
    environment = {
        **clean_environment(),
        "GLOO_SOCKET_IFNAME": "lo",
        "TP_SOCKET_IFNAME": "lo",
        "RAY_USAGE_STATS_ENABLED": "0",
        "TMPDIR": str(folder),
    }
    with (
        log.open("w") as errors,
        started(
            module_command(f"bench.{module}", *arguments, folder),
            folder,
            environment,
            output=subprocess.PIPE,
            errors=errors.fileno(),
        ) as process,
    ):
        made = Peer(process, name, log)
        made.pause()
        try:
            yield made
        finally:
            tree = descendants(process.pid)
            signal_tree(process.pid, signal.SIGCONT)
            assert process.stdin is not None
            process.stdin.close()  # it ends by itself, and its processes with it
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
            end(tree)


def installed(package: str) -> bool:
    """Whether a peer's package is here."""
    return find_spec(package) is not None


def signal_tree(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that we started and to all that it has started."""
    for one in descendants(pid):
        try:
            os.kill(one, number)
        except ProcessLookupError:
            continue


def descendants(pid: int) -> list[int]:
    """A process and all its children, theirs included, parents first."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended meanwhile
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def end(tree: list[int]) -> None:
    """Kill what is left of a peer's processes: they are gone from its tree once it has ended."""
    for pid in tree[1:]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
