"""The files in deploy/ that are no Python: linters, what they tell our commands, the package."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dualshard.common.types import Role
from dualshard.deploy.launch.pods import USER

Parsed = Callable[[list[str]], dict[str, Any]]
ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = DEPLOY / "systemd"
COMPOSE = DEPLOY / "docker" / "compose.yaml"
DOCKERFILE = DEPLOY / "docker" / "Dockerfile"
INSTALL = DEPLOY / "install-host.sh"
YAMLLINT = (
    "{extends: default, rules: {line-length: {max: 100}, document-start: disable,"
    " comments: {min-spaces-from-content: 2}}}"
)


def shipped() -> set[str]:
    """Every file below deploy/ that is no Python, as the repository has it."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "deploy"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    paths = [Path(line) for line in listed.splitlines()] or [
        path.relative_to(ROOT) for path in DEPLOY.rglob("*") if path.is_file()
    ]
    return {
        str(path.relative_to("deploy"))
        for path in paths
        if path.suffix not in (".py", ".pyc") and path.name != "py.typed"
    }


def tool(name: str) -> str:
    """A linter beside this interpreter, or anywhere; the test is skipped without it."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}")
    if found is None:
        pytest.skip(f"{name} is not installed: it comes with the extra `dev`")
    return found


def clean(*command: object) -> None:
    """The tool has nothing to say."""
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_the_package_holds_every_file_that_is_shipped() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = settings["package-data"]["dualshard.deploy"]
    matched = {
        str(path.relative_to(DEPLOY))
        for pattern in patterns
        for path in DEPLOY.glob(pattern)
        if path.is_file()
    }
    assert matched >= shipped()
    assert {"docker/Dockerfile", "install-host.sh", "starter/job.toml"} <= shipped()


def test_shellcheck() -> None:
    scripts = sorted(DEPLOY / name for name in shipped() if name.endswith(".sh"))
    assert INSTALL in scripts
    clean(tool("shellcheck"), *scripts)


def test_scripts_can_be_run() -> None:
    assert os.access(INSTALL, os.X_OK)


def test_hadolint() -> None:
    clean(tool("hadolint"), DOCKERFILE)


def test_yamllint() -> None:
    files = sorted(DEPLOY / name for name in shipped() if name.endswith((".yaml", ".yml")))
    assert COMPOSE in files
    clean(tool("yamllint"), "--strict", "-d", YAMLLINT, *files)


def test_the_compose_file_is_one() -> None:
    checker = tool("check-jsonschema")
    command = [checker, "--builtin-schema", "vendor.compose-spec", "--output-format", "json"]
    ran = subprocess.run([*command, str(COMPOSE)], capture_output=True, text=True, check=False)
    assert json.loads(ran.stdout)["status"] == "ok", ran.stdout


# What they tell our own commands.


def with_defaults(text: str) -> str:
    """`${NAME:-2}` as compose fills it in where NAME is not set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(with_defaults(COMPOSE.read_text()))["services"]
    return found


@pytest.mark.parametrize("role", list(Role))
def test_our_commands_take_what_the_compose_file_tells_them(role: Role, parsed: Parsed) -> None:
    service = services()[role]
    options = parsed(service["command"])
    assert service["command"][0] == role
    assert options["bind"] == "0.0.0.0:7077"
    assert str(options["keys"]) == "/keys"
    mounts = {one.split(":")[1]: one.split(":") for one in service["volumes"]}
    assert mounts[f"/keys/{role}.key"] == [f"./keys/{role}.key", f"/keys/{role}.key", "ro"]
    assert mounts["/keys/public"][2] == "ro"
    assert not [path for path in mounts if path.endswith(".key") and role not in path]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    if role is not Role.CONTROLLER:
        assert options["controller"] == "controller:7077"
        assert service["restart"].startswith("on-failure")


def test_the_compose_files_counts_are_those_of_its_job(parsed: Parsed) -> None:
    found = services()
    job = parsed(found["controller"]["command"])
    assert job["servers"] == int(found["paramserver"]["scale"])
    assert job["data_servers"] == int(found["dataserver"]["scale"])
    assert job["workers"] == int(found["worker"]["scale"])


def test_the_image_runs_as_the_user_that_kubernetes_is_told() -> None:
    text = DOCKERFILE.read_text()
    assert re.findall(r"^USER (.*)$", text, re.M) == [f"{USER}:{USER}"]
    assert re.findall(r"^ENTRYPOINT (.*)$", text, re.M) == ['["dualshard"]']
    assert re.findall(r"^FROM (.*) AS cpu$", text, re.M)
    last = [line for line in text.splitlines() if line.startswith("FROM ")][-1]
    assert last.endswith(" AS cpu"), "the last target is what is built by itself"


def environment() -> dict[str, str]:
    lines = (UNITS / "dualshard.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def started(unit: Path, **given: str) -> list[str]:
    """The argument list of a unit's ExecStart, as systemd makes it: `${X}` is one word, `$X` any
    number."""
    text = unit.read_text()
    (line,) = re.findall(r"^ExecStart=(.*)$", text, re.M)
    own = dict(re.findall(r"^Environment=(\w+)=(.*)$", text, re.M))
    values = {**own, **environment(), **given}
    words = []
    for word in shlex.split(line):
        if name := re.fullmatch(r"\$(\w+)", word):
            words += values[name[1]].split()
        else:
            words.append(re.sub(r"\$\{(\w+)\}", lambda name: values[name[1]], word))
    return words


@pytest.mark.parametrize("role", list(Role))
def test_our_commands_take_what_the_units_tell_them(role: Role, parsed: Parsed) -> None:
    (unit,) = UNITS.glob(f"dualshard-{role}*.service")
    command, *words = started(unit)
    assert command == "/opt/dualshard/bin/dualshard"
    options = parsed(words)
    port = 7077 if role is Role.CONTROLLER else 0
    assert options["bind"] == f"127.0.0.1:{port}"
    assert options["keys"] is None
    keyed = started(unit, TRUST="--keys /etc/dualshard/keys", LISTEN="10.0.0.7")[1:]
    options = parsed(keyed)
    assert (str(options["keys"]), options["bind"]) == ("/etc/dualshard/keys", f"10.0.0.7:{port}")
    hidden = re.findall(r"/etc/dualshard/keys/(\w+)\.key", unit.read_text())
    assert sorted(hidden) == sorted({*map(str, Role), "operator"} - {str(role)})


# systemd's own opinion.


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units with a command that is there."""
    tool("systemd-analyze")
    there = tmp_path / "units"
    shutil.copytree(UNITS, there)
    for unit in there.glob("*.service"):
        text = unit.read_text().replace("/opt/dualshard/bin/dualshard", sys.executable)
        unit.write_text(text)
    return there


def test_systemd_finds_nothing_wrong_with_the_units(units: Path) -> None:
    files = sorted(units.glob("*.service"))
    assert len(files) == 4
    clean("systemd-analyze", "verify", "--man=no", *files)
    files[0].write_text(files[0].read_text() + "\n[Service]\nRestrt=no\n")
    with pytest.raises(AssertionError, match="Restrt"):
        clean("systemd-analyze", "verify", "--man=no", files[0])


def test_units_are_shut_in_as_far_as_they_can_be(units: Path) -> None:
    for unit in units.glob("*.service"):
        command = ["systemd-analyze", "security", "--offline=true", "--json=short"]
        rate = [*command, "--threshold=20", str(unit)]
        ran = subprocess.run(rate, capture_output=True, text=True, check=False)
        if "unrecognized option" in ran.stderr:
            pytest.skip("this systemd-analyze cannot rate units that are not installed")
        assert ran.returncode == 0, ran.stdout
