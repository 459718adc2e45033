"""Podman for tests: an image built from nothing but this repository, with storage of its own.

No image hub is asked: the base is Debian, unpacked by debootstrap, and packages come as wheels that
this interpreter's pip has gathered.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASE = "localhost/dualshard-test-base"
IMAGE = "localhost/dualshard-test"
RELEASES = {"3.11": "bookworm", "3.13": "trixie"}
"""The Debian whose Python can install the wheels of ours."""
MIRROR = "http://deb.debian.org/debian"
PLACES = os.pathsep.join(
    [os.environ["PATH"], "/usr/sbin", "/usr/lib/podman", "/usr/libexec/podman"]
)
CONTAINERS = """[containers]
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "{runtime}"
"""
STORAGE = """[storage]
driver = "overlay"
graphroot = "{folder}/storage"
runroot = "{short}"
"""


def needed(*names: str) -> None:
    """Skip the test where a tool is missing, or we are not root."""
    if missing := [name for name in names if shutil.which(name, path=PLACES) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if os.geteuid():
        pytest.skip("for root alone")
    if not release():
        pytest.skip(f"no Debian release has Python {platform.python_version()}")


def release() -> str:
    """The Debian that has this Python; empty if none has."""
    return RELEASES.get(".".join(platform.python_version_tuple()[:2]), "")


def run(*command: object, **settings: object) -> str:
    """Run a command; its output. A failure shows its last lines."""
    words = list(map(str, command))
    ran = subprocess.run(words, capture_output=True, text=True, check=False, **settings)  # type: ignore[call-overload]
    told = "\n".join([*ran.stdout.splitlines()[-20:], *ran.stderr.splitlines()[-40:]])
    assert ran.returncode == 0, f"{' '.join(words)}\n{told}"
    return str(ran.stdout)


def debian(folder: Path) -> Path:
    """A small Debian with Python, unpacked below `folder`."""
    root = folder / "debian"
    packages = "--include=ca-certificates,python3,python3-venv"
    run("debootstrap", "--variant=minbase", packages, release(), root, MIRROR)
    return root


def wheels(folder: Path) -> Path:
    """Our own wheel and all that it needs, below `folder`."""
    made, source = folder / "wheels", folder / "source"
    # A copy: what building leaves behind must not get into the next wheel.
    beside = shutil.ignore_patterns(".*", "build", "tests", "*.egg-info", "__pycache__", "runs")
    shutil.copytree(ROOT, source, ignore=beside)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", made, source)
    (folder / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    return made


@dataclass(frozen=True)
class Podman:
    """Podman with images and containers of its own."""

    folder: Path
    environment: dict[str, str]

    def run(self, *arguments: object, tool: str = "podman", cwd: Path | None = None) -> str:
        """A command of podman's, or of a tool that calls it; its output."""
        return run(tool, *arguments, env=self.environment, cwd=cwd or self.folder)

    def build(self, context: Path, *arguments: object) -> None:
        """Build the image from a folder with a Dockerfile and our wheel."""
        made = wheels(self.folder)
        (wheel,) = made.glob("dualshard-*.whl")
        shutil.copy(wheel, context)
        root = debian(self.folder)
        with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as packed:
            subprocess.run(
                ["podman", "import", "--quiet", "-", BASE],
                stdin=packed.stdout,
                env=self.environment,
                capture_output=True,
                check=True,
            )
        mounts = [
            f"--volume={made}:/wheels:ro",
            f"--volume={self.folder}/pip.conf:/etc/pip.conf:ro",
        ]
        values = [f"--build-arg=BASE={BASE}", f"--build-arg=PACKAGE={wheel.name}"]
        quiet = ["--quiet", "--isolation=chroot", f"--tag={IMAGE}"]
        self.run("build", *quiet, *mounts, *values, *arguments, context)


@contextmanager
def podman(folder: Path) -> Iterator[Podman]:
    """Podman until the end of the block; then none of its containers are left."""
    runtime = "crun" if shutil.which("crun") else "runc"
    (folder / "containers.conf").write_text(CONTAINERS.format(runtime=runtime, folder=folder))
    # Podman takes no more than 50 characters here, and else never looks after what has ended.
    short = tempfile.mkdtemp(prefix="podman-", dir="/tmp")
    (folder / "storage.conf").write_text(STORAGE.format(folder=folder, short=short))
    environment = {
        **os.environ,
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
    }
    made = Podman(folder, environment)
    try:
        yield made
    finally:
        containers, networks = ["rm", "--all", "--force", "--time=0"], ["network", "prune", "-f"]
        for what in (containers, networks, ["rmi", "--all", "--force"]):
            subprocess.run(["podman", *what], env=environment, capture_output=True, check=False)
        shutil.rmtree(short, ignore_errors=True)
