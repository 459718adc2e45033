"""What every role's process has around its loop: transport, signals, the parent, the exit.

A role's `process.py` makes its state, hands both to `run`, and performs its own actions.
"""

import ctypes
import gc
import os
import resource
import secrets
import select
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from threadpoolctl import threadpool_limits

from .clock import SystemClock
from .delivery import Courier
from .errors import RoleError
from .keys import KeyRing
from .listening import Listening, Lookout
from .loop import Loop
from .node import Action, Exit, Failed, Node
from .session import own_versions
from .telemetry import Telemetry, log_to_stderr
from .transport import ZmqTransport, parse_address, require_keys, unprotected
from .types import Role

LINGER = 1.0
"""Seconds that last messages have to leave when a role ends."""
FILES = 1 << 16
"""Open files that a role may want."""
NAME_PAUSE = 0.5
"""Seconds between two tries to find the address of a name."""


@dataclass(frozen=True)
class Options:
    """How one role was started; times in seconds, addresses as HOST:PORT.

    `controller` may be `@FILE`: a file that the controller writes when it listens, for roles that
    are started at the same moment. With `end_with_stdin` the role ends when its standard input
    does, that is when whoever started it is gone. `keys` is the folder of this host's keys; None:
    connections have none. `interface` names the network card to listen on where `bind` is empty.
    """

    controller: str
    bind: str = ""
    advertise: str = ""
    rank: int = -1
    start_timeout: float = 60.0
    interface: str = ""
    keys: Path | None = None
    insecure: bool = False
    end_with_stdin: bool = False
    log_level: str = "info"


class Runtime:
    """The process around one role. Make it in the main thread: it takes over ending signals."""

    def __init__(self, role: Role, options: Options, *, listens: bool) -> None:
        log_to_stderr(options.log_level)
        keep_freed_memory()
        allow_many_files()
        self.options = options
        self.clock = SystemClock()
        self.incarnation = secrets.randbits(62)
        self.telemetry = Telemetry(str(role), self.clock)
        self._signal = 0
        self._lookout = Lookout()
        self._listening = Listening(role, options.bind, options.interface, options.advertise)
        bind = self._listening.bind if listens else ""
        if bind:
            require_keys(bind, keyed=options.keys is not None, insecure=options.insecure)
        ring = None if options.keys is None else KeyRing(options.keys, role)
        self.transport = ZmqTransport(self.incarnation, bind, self._listening.advertise, ring)
        if bind and (warning := unprotected(bind, keyed=ring is not None)):
            self.telemetry.log("warning", warning)
        # Last, because the handler wakes the transport.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # nohup ignores SIGHUP for the command that it starts, launch.slurm_task SIGTERM: that
            # stays so. (Shells ignore SIGINT for what runs in the background.)
            if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        self.transport.wake()

    def courier(self) -> Courier:
        """A courier under this life's incarnation."""
        return Courier(self.incarnation)

    def session(self) -> dict[str, Any]:
        """The arguments that every `Session` takes."""
        controller = self._find_controller()
        self.transport.expect(controller, Role.CONTROLLER)
        self._tell_address(controller)
        return {
            "controller": controller,
            "address": self.transport.address,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "versions": own_versions(),
            "rank": self.options.rank,
            "start_timeout": self.options.start_timeout,
        }

    def _find_controller(self) -> str:
        """The controller's address; waits for the file that holds it."""
        given = self.options.controller
        if not given.startswith("@"):
            return parse_address(given, "--controller")
        path, deadline = Path(given[1:]), self.clock.now() + self.options.start_timeout
        while not path.exists():
            if self.clock.now() > deadline:
                raise RoleError(
                    f"no controller has written {path} within {self.options.start_timeout:g} s"
                )
            ended = self.look(0.02)
            if ended is not None:
                raise RoleError(ended.reason)
        return parse_address(path.read_text().strip(), "--controller")

    def _tell_address(self, controller: str) -> None:
        """Decide what others are told; waits until the controller's name is known, where that
        matters."""
        deadline = self.clock.now() + self.options.start_timeout
        while True:
            try:
                self.transport.address = self._listening.told(self.transport.address, controller)
            except OSError as unknown:
                if self.clock.now() > deadline:
                    shown, seconds = controller.removeprefix("tcp://"), self.options.start_timeout
                    raise RoleError(
                        f"the controller's host has no IPv4 address: tried {shown} for "
                        f"{seconds:g} s ({unknown.strerror}); give its address with "
                        "--controller HOST:PORT"
                    ) from None
            else:
                return
            if (ended := self.look(NAME_PAUSE)) is not None:
                raise RoleError(ended.reason)

    def look(self, wait: float = 0.0) -> Failed | None:
        """Signals, and the end of standard input; waits up to `wait` seconds for the latter."""
        if self._signal:
            name = signal.Signals(self._signal).name
            status, self._signal = 128 + self._signal, 0
            return Failed(status, f"stopped by {name}", asked=True)
        if self.options.end_with_stdin:
            ready, _, _ = select.select([sys.stdin.fileno()], [], [], wait)
            if ready and not os.read(sys.stdin.fileno(), 4096):
                return Failed(1, "whoever started this role is gone")
        elif wait:
            select.select([], [], [], wait)
        return None

    def loop(self, node: Node, perform: Callable[[Action], object]) -> Loop:
        """The loop that joins this process to a role's state."""
        telemetry, probe = self.telemetry, self._lookout.probe
        loop = Loop(node, self.transport, self.clock, telemetry, perform, self.look, probe)
        self._lookout.post = loop.post
        if self.options.advertise:
            self._lookout.submit(lambda: self._listening.check_advertised(telemetry))
        return loop

    def run(self, loop: Loop, first: list[Action]) -> Exit:
        """Run a role to its end and close its sockets."""
        gc.collect()
        gc.freeze()
        with threadpool_limits(1, "blas"):
            loop.begin(first)
            ended = loop.run()
        self.transport.close(LINGER)
        if ended.reason and not ended.status:
            self.telemetry.log("info", f"ends: {ended.reason}")
        return ended


def allow_many_files() -> None:
    """Raise the limit of open files as far as this process may: each connection is one, also of
    those who only want to use them up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def keep_freed_memory() -> None:
    """Keep large freed blocks in the process: fresh pages cost ten times a warm copy.

    glibc maps every block over 128 KiB anew; these settings (see mallopt(3)) make it keep them, in
    one arena for all threads: ZeroMQ's own receives into what ours has freed. Without glibc nothing
    happens.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, top_pad, mmap_threshold, arena_max = -1, -2, -3, -8
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, (1 << 31) - 1)
    mallopt(top_pad, 16 << 20)
    mallopt(arena_max, 1)
