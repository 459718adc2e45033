"""A real Slurm on this machine for tests: munged, slurmctld, and three slurmds for three nodes.

All of it lives in namespaces of its own: with its own network card, which has an address for each
node, its own /etc/hosts, and its own process numbers, so that all of it, jobs included, is gone as
soon as its first process is. That one ends with its standard input, which only the test holds open.
"""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

NODES = ("n1", "n2", "n3")
NEEDED = ("unshare", "nsenter", "ip", "munged", "slurmctld", "slurmd", "sbatch", "scancel")
APART = ("--mount", "--net", "--pid", "--fork")

_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0,sched_interval=1,bf_interval=1
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

_INIT = """\
set -eu
cd "$1"
mount --bind hosts /etc/hosts
ip link set lo up
ip link add v0 type veth peer name v1
for number in 1 2 3; do ip address add 192.0.2.$number/32 dev v0; done
ip link set v0 up
ip link set v1 up
munged --foreground --force --num-threads=2 --socket="$1/munge.socket" --key-file="$1/munge.key" \\
    --pid-file="$1/munged.pid" --log-file="$1/munged.log" --seed-file="$1/munged.seed" &
while [ ! -S munge.socket ]; do sleep 0.05; done
slurmctld -D &
for node in n1 n2 n3; do slurmd -D -N "$node" & done
read -r _ || true
"""


def missing() -> str:
    """Why Slurm cannot run here; empty if it can."""
    if os.getuid() != 0:
        return "Slurm's daemons need root"
    absent = [name for name in NEEDED if shutil.which(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (Debian: slurmctld slurmd slurm-client munge)"
    apart = subprocess.run(["unshare", *APART, "true"], capture_output=True)
    return "" if apart.returncode == 0 else "no namespaces can be made here"


class SlurmCluster:
    """A context: within, Slurm runs, with nothing in its queue at first."""

    def __init__(self, folder: Path, commands: Any) -> None:
        """`folder` is where all its files go; `commands` is the fixture, which knows processes."""
        self.folder = folder
        self._until, self._process = commands.until, commands.process

    def __enter__(self) -> "SlurmCluster":
        self.folder.mkdir()
        self._write()
        # The tools of the virtual environment, and Slurm's, which may lie beyond a user's PATH.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])
        self.environment = {
            **os.environ,
            "PATH": path,
            "SLURM_CONF": str(self.folder / "slurm.conf"),
        }
        init = ["bash", "-c", _INIT, "init", str(self.folder)]
        with (self.folder / "init.log").open("wb") as log:
            self._popen = subprocess.Popen(
                ["unshare", *APART, "--kill-child=KILL", "--mount-proc", *init],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
            )
        try:
            self._until(self._stands, 30)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        """Nothing of it is left: the kernel kills what is in a process namespace without init."""
        running = self.processes()
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        try:
            self._popen.wait(5)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait(5)
        self._until(lambda: not [process for process in running if process.alive], 5)

    def processes(self, *words: str) -> list[Any]:
        """Everything that runs in it whose command holds one of `words`; without words all."""
        first = self._first()
        if first is None:
            return []
        space = os.readlink(f"/proc/{first}/ns/pid")
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                here = os.readlink(folder / "ns/pid") == space
                command = (folder / "cmdline").read_text().split("\0")
            except OSError:  # it ended meanwhile
                continue
            process = self._process(int(folder.name))
            if here and process and (not words or set(words) & set(command)):
                found.append(process)
        return found

    def shell(self, text: str, folder: Path, timeout: float = 30.0) -> str:
        """What a shell on the login node prints for a line of commands, run in `folder`."""
        within = ["nsenter", "-t", str(self._first()), "--mount", "--net", "--pid"]
        told = subprocess.run(
            [*within, "env", f"--chdir={folder}", "bash", "-ec", text],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.environment,
        )
        assert told.returncode == 0, f"{text}: {told.stderr}"
        return told.stdout

    def wait(self, job: str, *states: str, timeout: float = 60.0) -> str:
        """The state of a job (`RUNNING`, `PENDING` and so on) once it is one of these."""
        asked = f"squeue --noheader --format=%T --states=all --jobs {job}"
        wanted = "|".join(states)
        text = f"until [[ $({asked}) =~ ^({wanted})$ ]]; do sleep 0.2; done; {asked}"
        return self.shell(text, Path("/"), timeout).strip()

    def _first(self) -> str | None:
        """The number of the first process inside, as it is called outside."""
        number = self._popen.pid
        try:
            return Path(f"/proc/{number}/task/{number}/children").read_text().split()[0]
        except (OSError, IndexError):
            return None

    def _stands(self) -> bool:
        assert self._popen.poll() is None, (self.folder / "init.log").read_text()
        if not (self.folder / "munge.socket").exists() or self._first() is None:
            return False
        asked = ["sinfo", "--noheader", "--format=%D %t"]
        within = ["nsenter", "-t", str(self._first()), "--mount", "--net"]
        told = subprocess.run(
            [*within, *asked], capture_output=True, text=True, env=self.environment
        )
        return told.stdout.strip() == f"{len(NODES)} idle"

    def _write(self) -> None:
        host = socket.gethostname()
        nodes = [
            f"NodeName={name} NodeHostname={host} NodeAddr=192.0.2.{number} Port=1700{number} "
            "CPUs=4 RealMemory=1000"
            for number, name in enumerate(NODES, 1)
        ]
        text = _CONF.format(host=host, folder=self.folder, nodes="\n".join(nodes))
        (self.folder / "slurm.conf").write_text(text)
        names = [f"192.0.2.{number} {name}\n" for number, name in enumerate(NODES, 1)]
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost {host}\n{''.join(names)}")
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(1024))
