"""The command line without any process: help, the shown configuration, and what is refused."""

import tomllib

import click
import pytest
from click.testing import CliRunner

from dualshard.common.job import Job
from dualshard.deploy import children
from dualshard.deploy.commands import dualshard

COMMANDS = [
    *("train", "controller", "paramserver", "dataserver", "worker", "status", "stop"),
    *("evaluate", "export", "checkpoint", "data", "keygen"),
]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Calls a command in an empty folder; starting a process would be a failure."""
    monkeypatch.chdir(tmp_path)

    def no_process(*arguments, **options):
        raise AssertionError(f"a process was started: {arguments}")

    monkeypatch.setattr(children.subprocess, "Popen", no_process)
    return lambda *arguments: CliRunner().invoke(dualshard, list(map(str, arguments)))


def refusal(result):
    """The one line of a command that was refused."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


@pytest.mark.parametrize("command", [[], *[[name] for name in COMMANDS]])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help_that_fits_80_columns(run, command, flag):
    result = run(*command, flag)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: {' '.join(['dualshard', *command])} [OPTIONS]")
    assert max(len(line) for line in result.stdout.splitlines()) <= 80


def test_every_option_explains_itself():
    for name, command in dualshard.commands.items():
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert option.help or option.show_default, f"{name} {option.opts}"
        assert command.get_short_help_str(), name


def test_no_command_shows_all_commands(run):
    result = run()
    assert result.exit_code == 0
    listed = [line.split()[0] for line in result.stdout.partition("Commands:\n")[2].splitlines()]
    assert set(listed) >= set(COMMANDS)


def test_the_version(run):
    result = run("--version")
    assert (result.exit_code, result.stdout.split()[0]) == (0, "dualshard,")


def test_show_config_prints_each_value_with_its_origin(run, tmp_path, monkeypatch):
    (tmp_path / "job.toml").write_text("[worker]\ncount = 3\nthreads = 2\n")
    monkeypatch.setenv("DUALSHARD_JOB_SEED", "7")
    result = run("train", "job.toml", "--threads", 4, "--set", "optimizer.lr=0.5", "--show-config")
    assert result.exit_code == 0
    shown = {line.split(" = ")[0]: line for line in result.stdout.splitlines()}
    for key, value, origin in [
        ("worker.count", "3", "file job.toml"),
        ("worker.threads", "4", "--threads"),
        ("job.seed", "7", "environment DUALSHARD_JOB_SEED"),
        ("optimizer.lr", "0.5", "--set"),
        ("data.source", '"digits"', "default"),
    ]:
        before, after = shown[key].split("# ")
        assert (before.split(" = ")[1].strip(), after) == (value, origin)
    job = tomllib.loads(result.stdout)
    assert job["worker"]["count"] == 3
    assert list(tmp_path.iterdir()) == [tmp_path / "job.toml"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--set", "data.batch_size=0"],
            "dualshard: data.batch_size = 0: expected an integer of at least 1; for example "
            "data.batch_size = 32 (from --set)",
        ),
        (
            ["--set", "optimizer.lr=-1"],
            "dualshard: optimizer.lr = -1: expected a number above 0; for example "
            f"optimizer.lr = {Job().optimizer.lr} (from --set)",
        ),
        (
            ["--workers", "0"],
            "dualshard: worker.count = 0: expected an integer of at least 1; for example "
            "worker.count = 2 (from --workers)",
        ),
        (
            ["--set", "worker.cuont=2"],
            "dualshard: worker.cuont = 2: expected a key of the job file; did you mean "
            "worker.count?",
        ),
        (
            ["--set", "worker.count"],
            "dualshard: --set = worker.count: expected key=value; for example --set worker.count=2",
        ),
        (
            ["none.toml"],
            "dualshard: job file = none.toml: expected a readable TOML file in UTF-8; there is no "
            "such file, check the path",
        ),
        (
            ["--workers", "two"],
            "dualshard: Invalid value for '--workers': 'two' is not a valid integer; see "
            "dualshard train --help",
        ),
    ],
)
def test_what_train_refuses_at_once(run, tmp_path, arguments, line):
    assert refusal(run("train", "--out", "new/run", *arguments)) == line
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_option_is_told_the_right_one(run):
    # The sentence is click's, and differs between its versions.
    line = refusal(run("train", "--wokers", "2"))
    assert line.startswith("dualshard: No such option")
    assert "--workers" in line
    assert line.endswith("; see dualshard train --help")


def test_a_time_that_is_none(run):
    line = refusal(run("train", "--start-timeout", "soon"))
    assert line.startswith(
        "dualshard: job.start_timeout = soon: expected a duration in ms, s, m or h; "
        "write it like 60s, 500ms or 2m"
    )


def test_an_unknown_key_in_a_job_file(run, tmp_path):
    (tmp_path / "job.toml").write_text("[optimizer]\nrate = 0.1\n")
    line = refusal(run("train", "job.toml"))
    assert line.startswith("dualshard: optimizer.rate = 0.1: expected a key of the job file; ")
    assert line.endswith("(from file job.toml)")
    assert not (tmp_path / "runs").exists()


def test_a_run_directory_that_cannot_be_made(run, tmp_path):
    (tmp_path / "file").write_text("")
    assert refusal(run("train", "--out", "file/run")) == (
        "dualshard: --out = file/run: expected a folder that can be written; Not a directory: "
        "choose a folder that you can write with --out DIR"
    )
    assert refusal(run("train", "--out", "file")) == (
        "dualshard: --out = file: expected a folder that can be written; File exists: "
        "choose a folder that you can write with --out DIR"
    )


def test_a_run_directory_that_holds_a_run(run, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "metrics.jsonl").write_text("")
    words = (
        " = old: expected a folder without a run in it; it holds an earlier one: choose another "
        "folder, or remove it"
    )
    assert refusal(run("train", "--out", "old")) == f"dualshard: --out{words}"
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize(
    ("place", "why"),
    [(".", "it is a directory"), ("no/where.json", "there is no folder no")],
)
def test_a_result_file_that_cannot_be_written_is_refused_before_the_training(
    run, tmp_path, place, why
):
    assert refusal(run("train", "--json", place)) == (
        f"dualshard: --json = {place}: expected a file that can be written; {why}: choose another"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("role", ["paramserver", "dataserver", "worker"])
def test_a_role_needs_the_controllers_address(run, role):
    assert refusal(run(role)) == (
        f"dualshard: Missing option '--controller'; see dualshard {role} --help"
    )
    assert refusal(run(role, "--controller", "here")) == (
        "dualshard: --controller = here: expected HOST:PORT with a port from 1 to 65535; "
        "for example --controller 127.0.0.1:7077"
    )
    assert refusal(run(role, "--controller", "h:1", "--start-timeout", "-1s")) == (
        "dualshard: --start-timeout = -1s: expected a duration in ms, s, m or h; write it like "
        "60s, 500ms or 2m"
    )


@pytest.mark.parametrize("command", ["status", "stop"])
def test_an_operator_is_told_that_nobody_answers(run, command, monkeypatch):
    monkeypatch.setattr("dualshard.deploy.commands.PATIENCE", 0.05)
    assert refusal(run(command, "--controller", "127.0.0.1:9")) == (
        "dualshard: --controller = 127.0.0.1:9: expected a controller that answers within "
        "0.05 s; start one there, or give its address"
    )
    assert refusal(run(command, "--controller", "127.0.0.1:0")) == (
        "dualshard: --controller = 127.0.0.1:0: expected HOST:PORT with a port from 1 to 65535; "
        "for example --controller 127.0.0.1:7077"
    )


def test_keys_that_are_not_there_are_found_before_anything_is_started(run, tmp_path):
    line = refusal(run("train", "--keys", "keys"))
    assert line == (
        "dualshard: --keys = keys: expected a folder of keys; make it with `dualshard keygen "
        "keys`, or name another"
    )
    assert run("keygen", "keys").exit_code == 0
    (tmp_path / "keys" / "operator.key").unlink()
    assert "expected the key of this role in operator.key" in refusal(
        run("train", "--keys", "keys")
    )
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


@pytest.mark.parametrize("command", ["status", "stop"])
def test_an_operator_needs_a_key_where_keys_are_given(run, command):
    run("keygen", "keys", "--name", "worker")
    line = refusal(run(command, "--keys", "keys"))
    assert "--keys = keys: expected the key of this role in operator.key; copy it from" in line


def test_show_config_tells_where_keys_come_from(run):
    shown = run("train", "--keys", "my keys", "--show-config").stdout
    (line,) = [line for line in shown.splitlines() if "my keys" in line]
    assert "--keys" in line.replace("my keys", "")
