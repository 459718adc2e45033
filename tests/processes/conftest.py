"""Real processes for tests: started, found again by /proc, and always cleaned up.

A process is named by its pid and its start time, so that a pid that is used again is another one.
Nothing is signalled that a test has not started, or that is not a child of what it has started.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.append(HERE)  # helpers of this folder, which is no package

DUALSHARD = [sys.executable, "-P", "-m", "dualshard.deploy"]
TICK = 0.02


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes a minute or more; run with -m slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "slow" not in config.option.markexpr:
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow; run with -m slow"))


@dataclass(frozen=True)
class Process:
    """Any process of the system; `alive` stays right when the pid is used again."""

    pid: int
    began: str

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        fields = _stat(pid)
        return cls(pid, fields[19]) if fields and fields[0] != "Z" else None

    @property
    def alive(self) -> bool:
        return Process.of(self.pid) == self

    @property
    def command(self) -> list[str]:
        return Path(f"/proc/{self.pid}/cmdline").read_text().split("\0")

    @property
    def resident(self) -> int:
        """Bytes of memory in use."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def send(self, number: int) -> None:
        if self.alive:
            os.kill(self.pid, number)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


@dataclass
class Command:
    """A `dualshard` command of a test, with its output in files."""

    popen: subprocess.Popen[bytes]
    folder: Path
    name: str
    seen: set[Process] = field(default_factory=set)

    @property
    def out(self) -> str:
        return (self.folder / f"{self.name}.out").read_text()

    @property
    def err(self) -> str:
        return (self.folder / f"{self.name}.err").read_text()

    def children(self) -> list[Process]:
        """The children that run now, in the order of their start."""
        path = Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children")
        try:
            pids = path.read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            return []
        found = [child for pid in pids if (child := Process.of(int(pid))) is not None]
        self.seen.update(found)
        return found

    def roles(self, role: str) -> list[Process]:
        """The children that are this role, by rank."""
        return [child for child in self.children() if role in child.command]

    def left(self) -> list[Process]:
        """The children that were ever seen and still run."""
        return [child for child in self.seen if child.alive]

    def wait(self, timeout: float = 60.0) -> int:
        """The exit status; children are recorded until then."""

        def ended() -> bool:
            self.children()
            return self.popen.poll() is not None

        until(ended, timeout)
        return self.popen.returncode


def until(condition: Callable[[], object], timeout: float) -> None:
    """Return once the condition holds; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"still not true after {timeout:g} s"
        time.sleep(TICK)


class Commands:
    """Starts `dualshard` commands in one folder."""

    until = staticmethod(until)
    process = Process.of

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[Command] = []

    def start(
        self, *arguments: object, python: tuple[str, ...] = (), inside: Sequence[str] = ()
    ) -> Command:
        """Start a command; `python` are more options for the interpreter, `inside` is what leads
        to another host."""
        name = f"{arguments[0]}-{len(self.started)}"
        line = [*inside, DUALSHARD[0], *python, *DUALSHARD[1:], *map(str, arguments)]
        out, err = (self.folder / f"{name}.{kind}" for kind in ("out", "err"))
        with out.open("wb") as stdout, err.open("wb") as stderr:
            popen = subprocess.Popen(
                line, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, cwd=self.folder
            )
        command = Command(popen, self.folder, name)
        self.started.append(command)
        return command

    def clean(self) -> list[list[str]]:
        """End whatever is left; the command lines of children that outlived their launcher."""
        for command in self.started:
            command.children()
            if command.popen.poll() is None:
                command.popen.kill()
            command.popen.wait(10)
        orphans = []
        for child in [child for command in self.started for child in command.left()]:
            try:
                until(lambda child=child: not child.alive, 10)
            except AssertionError:
                orphans.append(child.command)
                child.send(signal.SIGKILL)
        return orphans


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    """Starts `dualshard` commands; at the end no process is left, or the test fails."""
    started = Commands(tmp_path)
    yield started
    assert started.clean() == []


def trains(run: Path) -> bool:
    """Whether an epoch of the run is done."""
    metrics = run / "metrics.jsonl"
    return metrics.exists() and '"kind": "epoch"' in metrics.read_text()


@pytest.fixture
def training(commands: Commands, tmp_path: Path) -> Callable[..., Command]:
    """Starts a long training in `tmp_path/run` and returns once its first epoch is done."""

    def start(*arguments: object) -> Command:
        command = commands.start(
            "train", "--out", tmp_path / "run", "--set", "job.epochs=1000000", *arguments
        )
        commands.until(lambda: trains(tmp_path / "run") or command.popen.poll() is not None, 60)
        assert command.popen.poll() is None, command.err
        command.children()
        return command

    return start
