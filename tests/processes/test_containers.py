"""The image and the compose file for real: built, started in any order, trained, with keys."""

import json
import os
import re
import signal
import sys
from pathlib import Path

import containers
import pytest

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(1500)]

OWNER = 10001
DUALSHARD = [sys.executable, "-P", "-m", "dualshard.deploy"]
IP = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a user has after `dualshard init` and `dualshard keygen`."""
    made = tmp_path / "starter"
    for command in (["init", made], ["keygen", made / "keys"]):
        containers.run(*DUALSHARD, *command)
    (made / "runs").mkdir()
    for path in [made / "runs", made / "keys", *(made / "keys").rglob("*")]:
        os.chown(path, OWNER, OWNER)
    return made


def best(metrics: Path) -> float:
    """The best accuracy so far."""
    lines = [line for line in metrics.read_text().splitlines() if '"kind": "evaluation"' in line]
    return max((json.loads(line)["accuracy"] for line in lines), default=0.0)


def test_the_compose_file_trains_and_a_killed_worker_comes_back(folder, tmp_path, commands):
    compose = str(Path(sys.executable).parent / "podman-compose")
    containers.needed("podman", "debootstrap", "netavark", "aardvark-dns", "iptables", compose)
    job = folder / "job.toml"
    endless = "epochs = 1000000\ncheckpoint_every = 100"
    job.write_text(job.read_text().replace("epochs = 30", endless))
    project = f"dualshard{os.getpid()}"
    first = f"{project}_worker_1"
    metrics = folder / "runs" / "run" / "metrics.jsonl"
    with containers.podman(tmp_path) as podman:
        podman.build(folder)
        size = int(podman.run("image", "inspect", "--format={{.Size}}", containers.IMAGE))
        assert size < 1.1e9
        podman.environment["IMAGE"] = containers.IMAGE

        def composed(*arguments: str) -> str:
            return podman.run("-p", project, *arguments, tool=compose, cwd=folder)

        def joined() -> int:
            return len(re.findall(r"worker-\d joined", metrics.read_text()))

        try:
            composed("up", "--detach")
            commands.until(lambda: metrics.exists() and joined() == 2, 180)
            assert podman.run("exec", first, "id", "-u").strip() == str(OWNER)
            assert podman.run("exec", first, "ls", "/keys").split() == ["public", "worker.key"]
            # Not `podman kill`: what a user kills is not started again.
            pid = podman.run("inspect", "--format={{.State.Pid}}", first)
            os.kill(int(pid), signal.SIGKILL)
            commands.until(lambda: joined() == 3 and best(metrics) > 0.95, 180)
            host = podman.run("inspect", f"--format={IP}", f"{project}_controller_1").strip()
            operator = ["--controller", f"{host}:7077", "--keys", folder / "keys"]
            status = json.loads(containers.run(*DUALSHARD, "status", *operator, "--json"))
            assert status["epochs_done"] > 0
            containers.run(*DUALSHARD, "stop", *operator)
            ended = podman.run("wait", *podman.run("ps", "--all", "--quiet").split())
            assert ended.split() == ["0"] * 6
        finally:
            composed("down", "--volumes")
