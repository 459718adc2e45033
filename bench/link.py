"""Two hosts on one machine, joined by a slow link: network namespaces, and a relay (see `relay`)
that lives in a process of its own. Here they are made, measured and removed.

Whatever ends the benchmark, nothing is left: the relay ends with its standard input and takes its
namespaces and devices along. Every link has names of its own.
"""

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..common.errors import RoleError
from .processes import finish, module_command, started
from .relay import ADDRESSES, names, remove

DELAY = 0.02
"""Seconds that a frame travels."""
RATE = 10e6 / 8
"""Bytes a second in each direction: 10 Mbit/s."""
PROBED = 2.0
"""Seconds for which the probe fills each direction."""
PATIENCE = 10.0
"""Seconds that the relay has to remove what it has made."""
PROBE_LIMIT = 60.0


@dataclass(frozen=True)
class Host:
    """One of the two: the name of its namespace, and its IP address."""

    namespace: str
    address: str

    def command(self, command: Sequence[str]) -> list[str]:
        """A command as it is started on this host."""
        return ["ip", "netns", "exec", self.namespace, *command]


@dataclass(frozen=True)
class Speed:
    """What the probe found: seconds of a round trip, payload bytes a second each way."""

    round_trip: float
    up: float
    down: float


def obstacle() -> str:
    """Why no link can be made here; empty if nothing stands in the way."""
    if os.geteuid():
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "there is no command ip (Debian package iproute2)"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "there is no /dev/net/tun"
    return ""


@contextmanager
def joined_hosts(delay: float = DELAY, rate: float = RATE) -> Iterator[tuple[Host, Host]]:
    """Two hosts whose only way to each other is the link; gone when the context is left.

    Arguments:
        delay: seconds each way. rate: bytes a second each way.
    Raises:
        RoleError: the kernel does not let us.
    """
    link = f"ds{secrets.token_hex(4)}"
    relay = subprocess.Popen(
        module_command("bench.relay", link, delay, rate),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the benchmark, which then leaves this context
    )
    with relay:
        assert relay.stdin is not None
        assert relay.stdout is not None
        assert relay.stderr is not None
        try:
            if relay.stdout.readline() != "ready\n":
                said = relay.stderr.read().strip().splitlines() or ["it wrote nothing"]
                raise RoleError(f"no link between two hosts could be made: {said[-1]}")
            host_a, host_b = map(Host, names(link), ADDRESSES)
            yield host_a, host_b
        finally:
            relay.stdin.close()
            try:
                relay.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                relay.kill()
            for namespace in names(link):  # there only if the relay was killed
                remove(namespace)


def probe(asking: Host, serving: Host, folder: Path, rate: float = RATE) -> Speed:
    """Measure the link between two hosts.

    Raises:
        RoleError: the probe failed.
    """
    size = int(PROBED * rate)
    serve = serving.command(module_command("bench.probe", "serve", serving.address))
    ask = asking.command(module_command("bench.probe", "ask", serving.address, size))
    pipes = subprocess.PIPE
    with started(serve, folder, output=pipes) as server:
        assert server.stdout is not None
        server.stdout.readline()
        with started(ask, folder, output=pipes) as asker:
            found = json.loads(finish(asker, "the probe of the link", PROBE_LIMIT))
    return Speed(**found)
