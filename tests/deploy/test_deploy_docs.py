"""What docs/deploy.md tells people to type: our own commands take it, and its files are there."""

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dualshard.common.types import Role
from dualshard.deploy.launch.kubernetes_options import OPTIONS, check_option

Parsed = Callable[[list[str]], dict[str, Any]]
ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("deploy*.md"))


def lines() -> Iterator[list[str]]:
    """The commands in the shell blocks, a pipe's parts one by one."""
    for page in PAGES:
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.M | re.S):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                while "|" in words:
                    yield words[: words.index("|")]
                    words = words[words.index("|") + 1 :]
                if words:
                    yield words


OURS = [words[1:] for words in lines() if words[0] == "dualshard"]


def test_every_way_to_deploy_has_commands() -> None:
    assert {"launch", "init", "keygen", "status"} <= {words[0] for words in OURS}


@pytest.mark.parametrize("words", OURS, ids=" ".join)
def test_our_commands_take_what_the_page_says(words: list[str], parsed: Parsed) -> None:
    options = parsed(words)
    if options.get("launcher") == "kubernetes":
        for option in options["own"]:
            check_option(*option.split("=", 1))


def test_files_that_the_page_names_are_there() -> None:
    named = {word for words in lines() for word in words if word.startswith(("deploy/", "docs/"))}
    assert "deploy/docker/Dockerfile" in named
    for file in named:
        assert (ROOT / file).is_file(), file


def test_the_page_lists_every_option_of_the_kubernetes_launcher() -> None:
    text = "".join(page.read_text() for page in PAGES)
    table = text[text.index("| `--option` | means") :].split("\n\n")[0]
    first = " ".join(re.findall(r"^\|([^|]*)\|", table, re.M))
    listed = set(re.findall(r"`([a-z][a-z-]*)`", first))
    assert listed == set(OPTIONS)
    assert {str(role) for role in Role} <= listed


def test_units_and_settings_of_the_page_are_there() -> None:
    text = "".join(page.read_text() for page in PAGES)
    typed = {word for words in lines() for word in words if words[1:2] == ["systemctl"]}
    units = {word.rstrip("12") for word in typed if word.startswith("dualshard-")}
    assert len(units) == 4
    for unit in units:
        assert (ROOT / "deploy" / "systemd" / f"{unit}.service").is_file(), unit
    settings = (ROOT / "deploy" / "systemd" / "dualshard.env").read_text()
    for name in ("CONTROLLER", "LISTEN", "TRUST", "JOB", "WORKER_OPTIONS"):
        assert f"`{name}`" in text
        assert f"\n{name}=" in settings
