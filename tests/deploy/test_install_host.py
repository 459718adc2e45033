"""deploy/install-host.sh: what it would do, and what it refuses. For real: test_bare_host.py."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTALL = ROOT / "deploy" / "install-host.sh"
UNITS = ROOT / "deploy" / "systemd"
OWNED = "--owner dualshard --group dualshard --mode"


def install(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(INSTALL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def on_debian() -> bool:
    release = Path("/etc/os-release")
    return release.exists() and bool(
        re.search(r"^ID(_LIKE)?=.*(debian|ubuntu)", release.read_text(), re.M)
    )


needs_debian = pytest.mark.skipif(not on_debian(), reason="for Debian and Ubuntu")


@needs_debian
def test_a_dry_run_of_the_installer_prints_commands_and_does_nothing() -> None:
    ran = install("--dry-run", "--extras", "s3,parquet")
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = ran.stdout.splitlines()
    assert f"{ROOT}\\[s3\\,parquet\\]" in next(line for line in lines if "pip install" in line)
    for unit in UNITS.glob("*.service"):
        assert f"install --mode 0644 {unit} /etc/systemd/system/" in lines
    assert f"install --directory {OWNED} 0700 /etc/dualshard/keys" in lines
    assert lines[-1].startswith("# next: ")
    removed = install("--dry-run", "--uninstall")
    assert removed.returncode == 0
    assert "rm -rf /etc/systemd/system/dualshard-.service.d /opt/dualshard" in removed.stdout
    assert "/etc/dualshard/keys" not in removed.stdout


@needs_debian
def test_the_installer_takes_keys_with_the_right_modes(tmp_path: Path) -> None:
    (tmp_path / "public").mkdir()
    (tmp_path / "worker.key").touch()
    (tmp_path / "public" / "controller.pub").touch()
    lines = install("--dry-run", "--keys", tmp_path).stdout.splitlines()
    assert f"install {OWNED} 0600 {tmp_path}/worker.key /etc/dualshard/keys/" in lines
    public = "/etc/dualshard/keys/public/"
    assert f"install {OWNED} 0644 {tmp_path}/public/controller.pub {public}" in lines


@needs_debian
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--what"], "--what: expected an option that there is; see --help"),
        (["--package"], "--package: expected a value; see --help"),
        (
            ["--package", "/none.whl"],
            "/none.whl: expected a wheel; there is no such file",
        ),
        (["--package", "/etc"], "or a folder with pyproject.toml in it"),
        (["--extras", "s3; rm"], "--extras s3; rm: expected names with commas between them"),
        (["--keys", "/etc"], "--keys /etc: expected a folder with public/ in it"),
    ],
)
def test_the_installer_refuses_in_one_line(arguments: list[str], said: str) -> None:
    ran = install("--dry-run", *arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    (line,) = ran.stderr.splitlines()
    assert line.startswith("install-host.sh: ")
    assert said in line


def test_the_installer_refuses_systems_that_it_does_not_know(
    tmp_path: Path, own_mounts: list[str]
) -> None:
    other = tmp_path / "os-release"
    other.write_text("ID=fedora\n")
    script = 'mount --bind "$0" "$(realpath /etc/os-release)" && exec "$@"'
    command = [*own_mounts, "sh", "-c", script, str(other), str(INSTALL), "--dry-run"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr == (
        "install-host.sh: this system is 'fedora': expected Debian or Ubuntu; elsewhere install by "
        "hand, see docs/deploy.md\n"
    )
