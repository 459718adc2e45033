"""deploy/install-host.sh for real, in a bare Debian that is unpacked for it: installed twice, used,
removed."""

import subprocess
import sys
from pathlib import Path

import containers
import pytest

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(1500)]

INSIDE = (
    'mount -t proc proc "$0/proc" && mount --bind "$1" "$0/wheels" && shift '
    '&& exec chroot "$0" "$@"'
)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A Debian without Python's venv, in which a user has put the starter, a wheel and keys."""
    containers.needed("debootstrap", "unshare", "chroot")
    root = tmp_path / "debian"
    release, mirror = containers.release(), containers.MIRROR
    containers.run("debootstrap", "--variant=minbase", release, root, mirror)
    made = containers.wheels(tmp_path)
    starter = root / "opt" / "starter"
    for words in (["init", starter], ["keygen", starter / "keys"]):
        containers.run(sys.executable, "-P", "-m", "dualshard.deploy", *words)
    (wheel,) = made.glob("dualshard-*.whl")
    (starter / wheel.name).write_bytes(wheel.read_bytes())
    (root / "wheels").mkdir()
    (root / "etc" / "pip.conf").write_text((tmp_path / "pip.conf").read_text())
    (root / "etc" / "resolv.conf").write_text(Path("/etc/resolv.conf").read_text())
    return root


def test_a_bare_host_is_prepared_used_and_cleared(bare: Path, tmp_path: Path) -> None:
    def inside(*command: str) -> subprocess.CompletedProcess[str]:
        line = ["unshare", "--mount", "--", "sh", "-c", INSIDE, str(bare), str(tmp_path / "wheels")]
        environment = {"PATH": "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin", "LC_ALL": "C"}
        return subprocess.run(
            [*line, *command], capture_output=True, text=True, check=False, env=environment
        )

    (wheel,) = (bare / "opt" / "starter").glob("*.whl")
    script = "/opt/starter/install-host.sh"
    install = [script, "--package", f"/opt/starter/{wheel.name}", "--keys", "/opt/starter/keys"]
    assert inside("python3", "--version").returncode != 0
    for _ in range(2):
        ran = inside(*install)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "next: write /etc/dualshard/dualshard.env" in ran.stdout
    owned = ["/etc/dualshard/keys", "/etc/dualshard/keys/worker.key"]
    keys = inside("stat", "--format=%U %a %n", *owned)
    assert keys.stdout.splitlines() == [
        "dualshard 700 /etc/dualshard/keys",
        "dualshard 600 /etc/dualshard/keys/worker.key",
    ]
    assert (bare / "etc/systemd/system/dualshard-worker@.service").is_file()
    assert (bare / "etc/systemd/system/dualshard-.service.d/sandbox.conf").is_file()
    (bare / "etc/dualshard/dualshard.env").write_text("LISTEN=10.0.0.7\n")
    assert inside(*install).returncode == 0
    assert (bare / "etc/dualshard/dualshard.env").read_text() == "LISTEN=10.0.0.7\n"

    as_user = ["setpriv", "--reuid=dualshard", "--regid=dualshard", "--init-groups"]
    train = ["dualshard", "train", "--set", "job.epochs=2", "--out", "/var/lib/dualshard/run"]
    trained = inside(*as_user, *train)
    assert trained.returncode == 0, trained.stderr
    assert (bare / "var/lib/dualshard/run/model.safetensors").is_file()

    removed = inside(script, "--uninstall")
    assert removed.returncode == 0, removed.stderr
    assert inside("getent", "passwd", "dualshard").returncode != 0
    for path in ("opt/dualshard", "usr/local/bin/dualshard"):
        assert not (bare / path).exists()
    assert not list((bare / "etc/systemd/system").glob("dualshard*"))
    assert (bare / "etc/dualshard/keys/worker.key").is_file()
    assert (bare / "var/lib/dualshard/run/model.safetensors").is_file()
