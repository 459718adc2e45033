"""Three hosts on one machine: network namespaces on a bridge of their own, a real sshd in each.

Every set of hosts has names of its own. What runs in a namespace is the test's own, and is ended
with it. Needs root, iproute2 and openssh-server.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

NAMES = ("host-a", "host-b", "host-c")
SSHD = "/usr/sbin/sshd"
PRIVILEGES = Path("/run/sshd")
"""A folder that sshd wants to be there."""
SSHD_CONFIG = """
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
"""
SSH_CONFIG = """
Host *
    IdentityFile {folder}/user_key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    StrictHostKeyChecking accept-new
    LogLevel ERROR
"""


def obstacle() -> str:
    """Why there can be no hosts here; empty if nothing stands in the way."""
    if os.geteuid():
        return "network namespaces need root"
    for tool, package in (("ip", "iproute2"), ("ssh", "openssh-client"), (SSHD, "openssh-server")):
        if shutil.which(tool) is None:
            return f"there is no {tool} (Debian package {package})"
    tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "the kernel makes no network namespaces here"


def ip(*arguments: str) -> str:
    """Run `ip`; what it prints."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done.stdout


@dataclass
class Hosts:
    """The hosts, by name; `ssh` is the command with which each reaches the others, and one called
    `closed` where nobody listens."""

    folder: Path
    token: str = field(default_factory=lambda: secrets.token_hex(3))

    @property
    def switch(self) -> str:
        return f"ds{self.token}-sw"

    @property
    def ssh(self) -> str:
        return f"ssh -F {self.folder}/ssh_config"

    def namespace(self, host: str) -> str:
        return f"ds{self.token}-{host}"

    def address(self, host: str) -> str:
        return f"10.78.0.{1 + NAMES.index(host)}"

    def device(self, host: str) -> str:
        """The host's port of the switch."""
        return f"ds{self.token}{host[-1]}"

    def inside(self, host: str) -> list[str]:
        """What a command is preceded by to run on a host."""
        return ["ip", "netns", "exec", self.namespace(host)]

    def cut(self, host: str) -> None:
        """Pull the host's plug: nothing reaches it, and nobody is told."""
        ip("-n", self.switch, "link", "set", self.device(host), "nomaster")

    def heal(self, host: str) -> None:
        ip("-n", self.switch, "link", "set", self.device(host), "master", "br0")

    def roles(self, host: str) -> dict[int, list[str]]:
        """The command lines of the roles that run on a host, by pid."""
        found = {}
        for pid in map(int, ip("netns", "pids", self.namespace(host)).split()):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                if "--end-with-stdin" in words or "tether" in words:
                    found[pid] = words
        return found

    def everything(self) -> list[str]:
        """All roles on all hosts, in words."""
        return [
            f"{host}: {' '.join(words)}" for host in NAMES for words in self.roles(host).values()
        ]

    def up(self) -> None:
        """Make the hosts, and start what they run."""
        ip("netns", "add", self.switch)
        ip("-n", self.switch, "link", "set", "lo", "up")
        ip("-n", self.switch, "link", "add", "br0", "type", "bridge")
        ip("-n", self.switch, "link", "set", "br0", "up")
        for host in NAMES:
            name, device = self.namespace(host), self.device(host)
            ip("netns", "add", name)
            ip(
                "-n",
                self.switch,
                "link",
                "add",
                device,
                "type",
                "veth",
                "peer",
                "eth0",
                "netns",
                name,
            )
            ip("-n", self.switch, "link", "set", device, "master", "br0", "up")
            ip("-n", name, "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        self._start_sshds()

    def _start_sshds(self) -> None:
        for key in ("host_key", "user_key"):
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / key)]
            subprocess.run(make, check=True)
        text = SSH_CONFIG.format(folder=self.folder)
        for host in NAMES:
            text += f"Host {host}\n    HostName {self.address(host)}\n"
        text += f"Host closed\n    HostName {self.address('host-b')}\n    Port 9\n"
        (self.folder / "ssh_config").write_text(text)
        for host in NAMES:
            config = self.folder / f"{host}.sshd"
            config.write_text(SSHD_CONFIG.format(folder=self.folder, address=self.address(host)))
            log = str(self.folder / f"{host}.log")
            start = [*self.inside(host), SSHD, "-f", str(config), "-E", log]
            subprocess.run(start, check=True)  # it goes into the background
        for host in NAMES:
            self._wait_for_sshd(host)

    def _wait_for_sshd(self, host: str) -> None:
        ask = "import socket, sys; socket.create_connection((sys.argv[1], 22), 1).close()"
        command = [*self.inside(host), sys.executable, "-c", ask, self.address(host)]
        deadline = time.monotonic() + 20
        while subprocess.run(command, capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, (self.folder / f"{host}.log").read_text()
            time.sleep(0.1)

    def down(self) -> None:
        """End what runs on the hosts, which is all ours, and remove them."""
        for host in NAMES:
            with contextlib.suppress(AssertionError):
                for pid in map(int, ip("netns", "pids", self.namespace(host)).split()):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        for name in (*map(self.namespace, NAMES), self.switch):
            with contextlib.suppress(AssertionError):
                ip("netns", "del", name)


@contextmanager
def three_hosts(folder: Path) -> Iterator[Hosts]:
    """Hosts that are gone when the context is left."""
    made = not PRIVILEGES.exists()
    PRIVILEGES.mkdir(exist_ok=True)
    hosts = Hosts(folder)
    try:
        hosts.up()
        yield hosts
    finally:
        hosts.down()
        if made:
            with contextlib.suppress(OSError):
                PRIVILEGES.rmdir()
