"""`dualshard launch`: what it takes, what it prints without starting anything."""

import shlex

import pytest
from click.testing import CliRunner

from dualshard.deploy.commands import dualshard


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs `dualshard launch` in a folder with a hostfile; its status, output and errors."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hosts.txt").write_text("10.0.0.1\n10.0.0.2 slots=2\n")

    def launch(*arguments):
        ended = CliRunner().invoke(dualshard, ["launch", *arguments])
        return ended.exit_code, ended.stdout, ended.stderr

    yield launch
    assert [path.name for path in tmp_path.iterdir()] == ["hosts.txt"], "a dry run leaves nothing"


def test_a_dry_run_prints_the_placement_and_each_command_on_a_line(run):
    status, out, _ = run("--hostfile", "hosts.txt", "--dry-run", "--insecure", "--out", "x")
    assert status == 0
    comments = [line for line in out.splitlines() if line.startswith("#")]
    commands = [shlex.split(line) for line in out.splitlines() if not line.startswith("#")]
    assert comments == [
        "# 10.0.0.1  controller  paramserver 0  dataserver 0  worker 1",
        "# 10.0.0.2  paramserver 1  worker 0,2",
    ]
    assert [line[0] for line in commands] == ["ssh"] * 7
    assert "worker.count=3" in commands[0][-1], "each slot has a worker"


def test_workers_that_somebody_has_counted_are_as_many(run):
    _, out, err = run(
        *("--hostfile", "hosts.txt", "--dry-run", "--insecure", "--workers", "4", "--out", "x")
    )
    assert "worker 0,2,3" in out
    assert err == ("dualshard: 4 workers share 3 slots: some hosts have more workers than slots\n")


def test_the_local_launcher_prints_the_roles_of_this_machine(run):
    status, out, _ = run("--dry-run", "--workers", "1", "--servers", "1")
    assert status == 0
    assert out.splitlines()[1].startswith("dualshard controller --bind 127.0.0.1:7077")
    assert len(out.splitlines()) == 5


def test_keys_reach_every_role_and_stand_in_no_setting(run):
    _, out, _ = run("--hostfile", "hosts.txt", "--dry-run", "--keys", "/k", "--out", "x")
    assert out.count(" --keys /k") == 7
    assert "security.keys" not in out


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--launcher", "ssh"], "--hostfile = '': expected a file of hosts with --launcher ssh"),
        (["--hostfile", "none.txt"], "--hostfile = none.txt: expected a file that can be read"),
        (["--hostfile", "hosts.txt"], "--bind = 10.0.0.1:0: expected a loopback address"),
        (
            ["--hostfile", "hosts.txt", "--launcher", "local"],
            "--hostfile = hosts.txt: expected none with --launcher local",
        ),
        (["--hostfile", "hosts.txt", "--ssh", "'"], "--ssh = ': expected a command"),
        (["--option", "x"], "--option = x: expected name=value"),
        (["--launcher", "telnet"], "Invalid value for '--launcher'"),
    ],
)
def test_what_cannot_be_launched_is_refused_in_one_line(run, arguments, error):
    status, _, err = run(*arguments, "--dry-run")
    assert status == 2
    assert err.startswith(f"dualshard: {error}")
    assert err.count("\n") == 1


def test_hosts_that_would_reach_only_themselves_are_refused(run, tmp_path):
    (tmp_path / "hosts.txt").write_text("localhost\nb\n")
    assert run("--hostfile", "hosts.txt", "--dry-run")[2] == (
        "dualshard: hosts.txt line 1 = localhost: expected an address at which the other hosts "
        "reach it; give it one with address=\n"
    )
