"""What holds for every test: one BLAS thread, our names only, and nothing left behind."""

import gc
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from threadpoolctl import threadpool_limits
from zmq.utils import garbage

for _library in ("OPENBLAS", "MKL", "OMP"):  # read when NumPy is loaded, also by child processes
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

settings.register_profile("dualshard", deadline=None, print_blob=True)
settings.load_profile("dualshard")

BARE = ("bench", "common", "dataserver", "deploy", "paramserver", "worker")
PATIENCE = 5.0
"""Seconds that a thread which a test has told to end may take; none that is idle takes so long."""
KINDS = ("socket:", "anon_inode:[eventpoll]")
"""Descriptors of sockets; the threads of a ZeroMQ context that has, or had, sockets poll."""


STARTING = ("processes", "bench", "examples", "gpu")
"""Folders of tests that start processes: two of them at a time would measure each other."""


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).parts[0] in STARTING:
            item.add_marker(pytest.mark.xdist_group("processes"))


@pytest.fixture(scope="session", autouse=True)
def one_blas_thread() -> Iterator[None]:
    with threadpool_limits(1, "blas"):
        yield


@pytest.fixture(scope="session")
def own_mounts() -> list[str]:
    """What to write before a command so that it has mounts of its own, as root of its own kind."""
    prefix = ["unshare", "--map-root-user", "--mount", "--"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("unshare --mount is not allowed here")
    return prefix


@pytest.fixture(scope="session", autouse=True)
def zeromqs_own_thread() -> None:
    """It frees what was sent without copying, and runs from the first such message on for good."""
    garbage.gc.start()


@pytest.fixture(autouse=True)
def our_names_only() -> Iterator[None]:
    """Our folders are imported as `dualshard.common`, never as `common`: two copies of a module
    have two copies of each class."""
    yield
    bare = [name for name in BARE if name in sys.modules]
    assert not bare, f"imported without dualshard: {bare}"


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """A test that leaves a thread, a socket, a ZeroMQ context or a child process fails."""
    threads, sockets, children = set(threading.enumerate()), open_sockets(), child_processes()
    yield
    assert not (left := new_threads(threads)), f"threads left running: {left}"
    assert not (left := child_processes() - children), f"child processes left: {left}"
    if open_sockets() - sockets:
        gc.collect()  # what only a cycle holds is let go at some time anyway
    assert not (left := open_sockets() - sockets), f"sockets or contexts left open: {left}"


def new_threads(before: set[threading.Thread]) -> list[str]:
    """Names of the threads that were started since and do not end."""
    started = [thread for thread in threading.enumerate() if thread not in before]
    for thread in started:
        thread.join(PATIENCE)
    return [thread.name for thread in started if thread.is_alive()]


def open_sockets() -> set[tuple[str, str]]:
    """This process's open descriptors of sockets and events: number and what it is."""
    found = set()
    for link in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{link}")
        except OSError:  # the descriptor of this very listing
            continue
        if target.startswith(KINDS):
            found.add((link, target))
    return found


def child_processes() -> set[str]:
    """`pid: command` of each child, dead ones that nobody has waited for included."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_text().replace("\0", " ").strip()
        except OSError:  # it ended meanwhile
            continue
        # Python starts this one by itself, and ends it by itself.
        if parent == os.getpid() and "resource_tracker" not in command:
            found.add(f"{folder.name}: {command or 'not waited for'}")
    return found
