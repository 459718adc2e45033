"""The image and the compose file for real: built, started in any order, trained, with keys."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import containers
import pytest

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(1500)]

OWNER = 10001


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a user has after `dualshard init` and `dualshard keygen`."""
    made = tmp_path / "starter"
    for command in (["init", made], ["keygen", made / "keys"]):
        containers.run(sys.executable, "-P", "-m", "dualshard.deploy", *command)
    (made / "runs").mkdir()
    for path in [made / "runs", made / "keys", *(made / "keys").rglob("*")]:
        os.chown(path, OWNER, OWNER)
    return made


def test_the_compose_file_trains_and_a_killed_worker_comes_back(folder, tmp_path, commands):
    compose = str(Path(sys.executable).parent / "podman-compose")
    containers.needed("podman", "debootstrap", "netavark", "aardvark-dns", "iptables", compose)
    job = folder / "job.toml"
    longer = "epochs = 300\ncheckpoint_every = 100"
    job.write_text(job.read_text().replace("epochs = 30", longer))
    project = f"dualshard{os.getpid()}"
    with containers.podman(tmp_path) as podman:
        podman.build(folder)
        size = int(podman.run("image", "inspect", "--format={{.Size}}", containers.IMAGE))
        assert size < 1.2e9
        podman.environment["IMAGE"] = containers.IMAGE

        def composed(*arguments: str) -> str:
            return podman.run("-p", project, *arguments, tool=compose, cwd=folder)

        def log(service: str) -> str:
            return subprocess.run(
                ["podman", "logs", f"{project}_{service}_1"],
                env=podman.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=True,
            ).stdout

        try:
            composed("up", "--detach")
            commands.until(lambda: "all are here" in log("controller"), 120)
            inside = podman.run("exec", f"{project}_worker_1", "id", "-u")
            assert inside.strip() == str(OWNER)
            keys = podman.run("exec", f"{project}_worker_1", "ls", "/keys").split()
            assert keys == ["public", "worker.key"]
            # Not `podman kill`: what a user kills is not started again.
            pid = podman.run("inspect", "--format={{.State.Pid}}", f"{project}_worker_1")
            os.kill(int(pid), signal.SIGKILL)
            commands.until(lambda: len(re.findall(r"worker-\d joined", log("controller"))) == 3, 60)
            statuses = podman.run("wait", *podman.run("ps", "--all", "--quiet").split()).split()
            assert statuses == ["0"] * 6, log("controller")
        finally:
            composed("down", "--volumes")
    summary = json.loads((folder / "runs" / "run" / "summary.json").read_text())
    assert summary["test_accuracy"] > 0.95
    assert (summary["workers"], summary["servers"]) == (2, 2)
