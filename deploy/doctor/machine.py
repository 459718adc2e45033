"""Checks of the machine: files, ports, network cards, shared memory, memory, cores, folders."""

import errno
import math
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from ...common.listening import CONTROLLER_PORT
from ...common.segment import Segment, place
from ...common.transport.local import network_cards
from .findings import Check, Finding, fail, ok, warn
from .limits import cores_limit, memory_limit

FEW_FILES, ENOUGH_FILES = 256, 1024
"""Open files below which a role may fail, and from which even a large cluster fits."""
SPARE = 1 << 30
"""Bytes of memory, or of a folder's disk, below which a job may not fit."""
CHILD_PATIENCE = 3.0
"""Seconds that another process has to look at our memory."""
LOOK = (
    "import os, sys\n"
    "file = os.open(f'/proc/{sys.argv[1]}/fd/{sys.argv[2]}', os.O_RDWR)\n"
    "os.write(file, b'seen')\n"
)
"""What a server does with a worker's memory, in small: run by another process of this user."""


def checks() -> list[tuple[str, Check]]:
    """The checks of this file, by the names of their findings."""
    return [
        ("open files", check_files),
        (f"port {CONTROLLER_PORT}", check_port),
        ("network cards", lambda: check_cards(network_cards())),
        ("shared memory", check_shared_memory),
        ("memory", check_memory),
        ("cores", check_cores),
        ("temporary folder", check_temporary),
    ]


def check_files(limits: tuple[int, int] | None = None) -> Finding:
    """A socket is an open file; a controller has one for each role, a worker one for each server
    and data server. A role raises its own limit as far as it may, so the hard one counts."""
    soft, hard = limits or resource.getrlimit(resource.RLIMIT_NOFILE)
    number = math.inf if hard == resource.RLIM_INFINITY else hard
    shown = ["no limit" if one == resource.RLIM_INFINITY else f"{one:,}" for one in (soft, hard)]
    what = f"{shown[1]} for a role (soft limit {shown[0]})"
    fix = (
        "raise nofile in /etc/security/limits.conf to 4096, LimitNOFILE in a systemd unit, or the "
        "ulimits of the container"
    )
    if number < FEW_FILES:
        return fail("open files", what, fix)
    if number < ENOUGH_FILES:
        return warn("open files", f"{what}: enough for small clusters only", fix)
    return ok("open files", what)


def check_port(port: int = CONTROLLER_PORT) -> Finding:
    """Whether a controller could listen at the default port."""
    name = f"port {port}"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104 (closed at once, it never listens)
        except OSError as refused:
            if refused.errno == errno.EADDRINUSE:
                return warn(
                    name,
                    "is in use on this machine, perhaps by a controller that runs",
                    "that is well where the controller is meant to run; another one needs another "
                    "port: --bind HOST:PORT",
                )
            why = refused.strerror or str(refused)
            return fail(name, f"cannot be bound: {why}", "choose another: --bind HOST:PORT")
    return ok(name, "is free: a controller can listen there")


def check_cards(cards: dict[str, list[str]]) -> Finding:
    """What `--interface` may name."""
    shown = ", ".join(f"{name} {' '.join(cards[name])}" for name in cards if cards[name])
    others = [name for name in cards if cards[name] and not cards[name][0].startswith("127.")]
    if not others:
        return warn(
            "network cards",
            f"{shown or 'none'}: no other machine reaches this one",
            "give a network card an IPv4 address, unless this machine trains alone",
        )
    return ok("network cards", shown)


def check_shared_memory() -> Finding:
    """The lane past the sockets between processes of this machine: memory that another process of
    this user opens and writes to."""
    name, slower = "shared memory", "until then train.transport = tcp works, more slowly"
    try:
        segment = Segment.create(1024)
    except OSError as refused:
        return fail(
            name,
            f"none can be made (memfd_create): {refused.strerror}",
            f"allow memfd_create to this user or container; {slower}",
        )
    try:
        line = [sys.executable, "-I", "-S", "-c", LOOK, str(os.getpid()), str(segment.descriptor)]
        looked = subprocess.run(  # noqa: S603 (our own interpreter and text)
            line, capture_output=True, timeout=CHILD_PATIENCE, text=True, check=False
        )
        why = looked.stderr.strip().rpartition("\n")[2] if looked.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as failed:
        why = f"no other process could be asked: {failed}"
    finally:
        seen = segment.array[:1].tobytes() == b"seen"
        os.close(segment.descriptor)
    if why or not seen or not place():
        return warn(
            name,
            f"another process of this user cannot open it: {why or 'it is not the same memory'}",
            "let /proc show a user's own processes (no hidepid, no seccomp rule against "
            f"/proc/PID/fd), one user for all roles; {slower}",
        )
    return ok(name, f"shared between processes; {_dev_shm()}")


def _dev_shm(folder: Path = Path("/dev/shm")) -> str:  # noqa: S108 (looked at, not written to)
    if not folder.is_dir():
        return f"there is no {folder}, which dualshard does not need"
    size = shutil.disk_usage(folder).total
    return f"{folder} has {_gib(size)}, of which dualshard needs none"


def check_memory(limit: float | None = None, available: float | None = None) -> Finding:
    """The machine's memory, and what a container leaves of it."""
    machine = psutil.virtual_memory()
    limit = memory_limit() if limit is None else limit
    free = min(machine.available if available is None else available, limit)
    what = f"{_gib(machine.total)}, {_gib(free)} available"
    if limit < machine.total:
        what += f"; the control group of this process may have {_gib(limit)}"
    if free < SPARE:
        return warn(
            "memory",
            what,
            "end what else runs, raise the container's limit, or lower data.cache and the number "
            "of roles on this machine",
        )
    return ok("memory", what)


def check_cores(limit: float | None = None) -> Finding:
    """The cores that this process may run on, and the time that a container leaves it."""
    mine, all_of_them = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    limit = cores_limit() if limit is None else limit
    what = f"{mine} of {all_of_them}, load average {os.getloadavg()[0]:.1f}"
    if limit < mine:
        what += f"; the control group of this process may use the time of {limit:.3g}"
    if limit < 1:
        return warn("cores", what, "give the container at least one core's time for each role")
    return ok("cores", what)


def check_temporary() -> Finding:
    """Where images are cached (`data.cache_dir`), and tools put what they need for a moment."""
    name = "temporary folder"
    try:
        folder = Path(tempfile.gettempdir())
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"dualshard")
            file.flush()
        free = shutil.disk_usage(folder).free
    except OSError as refused:
        why = refused.strerror or str(refused)
        return fail(
            name, f"cannot be written to: {why}", "set TMPDIR to a folder of this user's with room"
        )
    what = f"{folder}, {_gib(free)} free"
    if free < SPARE:
        return warn(name, what, "make room there, or set TMPDIR to a folder with more")
    return ok(name, what)


def _gib(size: float) -> str:
    """Bytes for people."""
    if size < 1 << 30:
        return f"{size / (1 << 20):.0f} MiB"
    return f"{size / (1 << 30):.1f} GiB"
