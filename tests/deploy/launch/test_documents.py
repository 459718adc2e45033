"""The commands and hostfiles of the documentation are right: each is tried without starting."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualshard.common.config import resolve
from dualshard.deploy.commands import dualshard
from dualshard.deploy.launch.hostfile import read_hosts
from dualshard.deploy.launch.placement import place

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "deploy.md"
EXAMPLE = ROOT / "deploy" / "examples" / "ssh" / "hosts.txt"


def section():
    """The chapter about ssh."""
    return re.split(r"^## ", PAGE.read_text().partition("## ssh\n")[2], flags=re.M)[0]


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", section(), re.M | re.S)


LAUNCHES = [
    line for block in blocks("sh") for line in block.splitlines() if line.startswith("dualshard l")
]


def test_there_are_commands_to_try():
    assert len(LAUNCHES) >= 4


@pytest.mark.parametrize("line", LAUNCHES)
def test_each_command_can_be_carried_out(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hosts.txt").write_text(blocks("text")[0])
    (tmp_path / "job.toml").write_text("")
    words = shlex.split(line)[1:]
    ended = CliRunner().invoke(dualshard, [*words, "--dry-run"])
    assert ended.exit_code == 0, ended.stderr
    assert ended.stdout.count("\nssh ") >= 4


def test_the_example_can_be_read():
    hosts = read_hosts(EXAMPLE.read_text(), "hosts.txt")
    assert {one.host.name for one in place(resolve(None, {}).job, hosts)} <= {h.name for h in hosts}
