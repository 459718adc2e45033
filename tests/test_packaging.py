"""That the wheel holds everything, and only under our own name."""

import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]
NOT_PACKAGED = {"tests", "examples", "docs"}


def folders_with_python() -> dict[str, str]:
    """`dualshard.worker.nn` -> `worker/nn`, for every folder of the product."""
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    if not files:  # an unpacked source archive
        files = [
            str(path.relative_to(ROOT))
            for path in ROOT.rglob("*.py")
            if not path.relative_to(ROOT).parts[0].startswith((".", "build"))
        ]
    folders = {str(Path(file).parent) for file in files} - {"."}
    return {
        f"dualshard.{folder.replace('/', '.')}": folder
        for folder in folders
        if folder.split("/")[0] not in NOT_PACKAGED
    }


def test_every_folder_with_python_files_is_packaged() -> None:
    found = folders_with_python()
    assert "dualshard.bench" in found
    assert sorted(SETUPTOOLS["packages"]) == sorted(found)
    assert SETUPTOOLS["package-dir"] == found


def test_every_package_has_an_init_file() -> None:
    for folder in SETUPTOOLS["package-dir"].values():
        assert (ROOT / folder / "__init__.py").is_file(), folder


def test_every_room_is_marked_as_typed() -> None:
    rooms = {folder.split("/")[0] for folder in SETUPTOOLS["package-dir"].values()}
    assert SETUPTOOLS["package-data"]["*"] == ["py.typed"]
    for room in sorted(rooms):
        assert (ROOT / room / "py.typed").is_file(), f"{room}/py.typed"


def test_types_and_import_contracts_cover_every_room() -> None:
    rooms = {name for name in SETUPTOOLS["packages"] if name.count(".") == 1}
    assert set(PYPROJECT["tool"]["mypy"]["packages"]) == rooms
    assert set(PYPROJECT["tool"]["importlinter"]["root_packages"]) == rooms


def test_the_command_shows_the_version_of_the_package() -> None:
    command = [sys.executable, "-m", "dualshard.deploy", "--version"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stdout == f"dualshard, version {version('dualshard')}\n"
    assert version("dualshard") == PYPROJECT["project"]["version"]


def test_the_changelog_has_the_version() -> None:
    headings = [
        line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## [")
    ]
    assert headings[0] == "## [Unreleased]"
    assert any(line.startswith(f"## [{PYPROJECT['project']['version']}]") for line in headings)


def test_importing_everything_leaves_the_users_own_names_alone() -> None:
    """In a folder with `common/` and `worker/`, which this one is, ours must not be those."""
    modules = list(SETUPTOOLS["packages"])
    modules += ["dualshard.deploy.cli", "dualshard.deploy.local", "dualshard.worker.process"]
    modules += ["dualshard.paramserver.process", "dualshard.dataserver.process"]
    tops = sorted({name.split(".")[1] for name in modules})
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(sorted(sys.modules.keys() & set({tops!r})))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (ran.stdout, ran.stderr, ran.returncode) == ("[]\n", "", 0)


def test_dualshard_is_a_namespace_that_owns_no_file() -> None:
    assert import_module("dualshard").__file__ is None
