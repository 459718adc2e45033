"""The command itself, with findings that are made up: status, file, what it prints."""

import json

import pytest
from click.testing import CliRunner

from dualshard.deploy.commands import dualshard
from dualshard.deploy.doctor import command
from dualshard.deploy.doctor.findings import fail, ok, warn

GOOD = ok("Python", "3.11.2")
ODD = warn("port 7077", "is in use", "choose another")
BAD = fail("packages", "pyzmq is not installed", "pip install pyzmq")


@pytest.mark.parametrize(("found", "status"), [([GOOD, ODD], 0), ([GOOD, BAD], 1)])
def test_the_status_says_whether_something_failed(found, status, monkeypatch, tmp_path):
    monkeypatch.setattr(command, "findings", lambda address, keys: found)
    file = tmp_path / "found.json"
    result = CliRunner().invoke(dualshard, ["doctor", "--json", str(file)])
    assert (result.exit_code, result.stderr) == (status, "")
    assert result.stdout.splitlines()[-1].startswith("2 checks: 1 ")
    assert f"fix: {found[1].fix}" in result.stdout
    assert [row["state"] for row in json.loads(file.read_text())] == [one.state for one in found]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--controller", "node7"], "--controller = node7: expected HOST:PORT"),
        (["--controller", "[::1]:7077"], "--controller = [::1]:7077: expected an IPv4 address"),
        (["--json", "/no/such/folder/found.json"], "--json = /no/such/folder/found.json: "),
        (["now"], "Got unexpected extra argument (now)"),
    ],
)
def test_bad_arguments_are_one_line_before_anything_is_looked_at(options, said, monkeypatch):
    def never(address, keys):
        raise AssertionError("it looked")

    monkeypatch.setattr(command, "findings", never)
    result = CliRunner().invoke(dualshard, ["doctor", *options])
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"dualshard: {said}")
