"""Layers of settings: which wins, what each one's text means, and the words when one is wrong."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from dualshard.common.config import FLAGS, VARIABLES, Resolved, read_job, resolve, rows, show
from dualshard.common.errors import UserError
from dualshard.common.job import SETTINGS, Job, to_toml


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def job_file(text: str | bytes) -> Path:
    path = Path("job.toml")
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def message(
    path: Path | None = None,
    environment: Mapping[str, str] | None = None,
    settings: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
) -> str:
    with pytest.raises(UserError) as caught:
        resolve(path, environment or {}, settings, flags)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def set_to(*settings: str) -> Job:
    return resolve(None, {}, settings).job


def test_nothing_given_is_all_defaults() -> None:
    resolved = resolve(None, {})
    assert resolved.job == Job()
    assert resolved.origins == dict.fromkeys(SETTINGS, "default")


def test_command_line_over_environment_over_file_over_default() -> None:
    path = job_file("[worker]\ncount = 3\nthreads = 3\n[job]\nseed = 3\nepochs = 3\nlease = '3s'\n")
    environment = {
        "DUALSHARD_WORKER_COUNT": "4",
        "DUALSHARD_WORKER_THREADS": "4",
        "DUALSHARD_JOB_SEED": "4",
        "DUALSHARD_JOB_START_TIMEOUT": "4s",
    }
    settings = ["worker.threads=5", "job.seed=5", "job.seed=6", "worker.count=5"]
    flags = {"worker.count": 7, "worker.threads": None}
    job, origins = (resolved := resolve(path, environment, settings, flags)).job, resolved.origins
    assert (job.worker.count, origins["worker.count"]) == (7, "--workers")
    assert (job.worker.threads, origins["worker.threads"]) == (5, "--set")
    assert (job.job.seed, origins["job.seed"]) == (6, "--set")
    assert (job.job.start_timeout, origins["job.start_timeout"]) == (
        4.0,
        "environment DUALSHARD_JOB_START_TIMEOUT",
    )
    assert (job.job.epochs, origins["job.epochs"]) == (3, "file job.toml")
    assert (job.job.lease, origins["job.lease"]) == (3.0, "file job.toml")
    assert (job.job.name, origins["job.name"]) == ("run", "default")


def test_a_resolved_job_written_out_resolves_to_itself() -> None:
    job = set_to(
        "worker.count=9", 'model.args={text="a\\"\\n\\\\", n=[1, 2.5]}', "data.augment=a,b"
    )
    path = job_file(to_toml(job))
    assert resolve(path, {}).job == job
    assert read_job(path) == job


@pytest.mark.parametrize("key", list(SETTINGS))
def test_every_setting_has_a_variable(key: str) -> None:
    variable = f"DUALSHARD_{key.upper().replace('.', '_')}"
    value = SETTINGS[key].write(SETTINGS[key].default).strip('"')
    resolved = resolve(None, {variable: value})
    assert resolved.job == Job()
    assert resolved.origins == dict.fromkeys(SETTINGS, "default") | {key: f"environment {variable}"}


def test_no_two_settings_share_a_variable() -> None:
    assert len(VARIABLES) == len(SETTINGS)


def test_flags_name_settings() -> None:
    assert set(FLAGS) <= set(SETTINGS)
    resolved = resolve(None, {}, (), {"model.ref": "cnn", "job.seed": 5})
    assert resolved.origins["model.ref"] == "--model"
    assert resolved.origins["job.seed"] == "command line"


def test_aliases_of_dmlc_yield_to_our_own() -> None:
    environment = {"DMLC_NUM_WORKER": "5", "DMLC_NUM_SERVER": "6", "DMLC_ROLE": "worker"}
    resolved = resolve(None, environment)
    assert (resolved.job.worker.count, resolved.job.paramserver.count) == (5, 6)
    assert resolved.origins["worker.count"] == "environment DMLC_NUM_WORKER"
    assert resolve(None, environment | {"DUALSHARD_WORKER_COUNT": "7"}).job.worker.count == 7


def test_other_variables_are_ignored() -> None:
    others = {
        "DUALSHARD_LOG": "debug",
        "DUALSHARD_WORKER": "1",
        "WORKER_COUNT": "x",
        "PATH": "/bin",
    }
    assert resolve(None, others).job == Job()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("job.seed=7", 7),
        ("job.seed = +7 ", 7),
        ("job.seed=1_000", 1000),
        ("optimizer.lr=1e-2", 0.01),
        ("optimizer.lr=1", 1.0),
        ("security.insecure=true", True),
        ("security.insecure=Yes", True),
        ("security.insecure=0", False),
        ("job.lease=500ms", 0.5),
        ("job.lease=2", 2.0),
        ("paramserver.shard_bytes=64KiB", 65536),
        ("data.source=idx:a=b c", "idx:a=b c"),
        ("data.test=", ""),
        ("job.name=1", "1"),
        ('data.augment=["shift:2", "a,b"]', ("shift:2", "a,b")),
        ("data.augment=shift:2, rotate:10", ("shift:2", "rotate:10")),
        ("data.augment=", ()),
        ("model.args={hidden=[64, 32]}", {"hidden": (64, 32)}),
        ("model.args.hidden=[64, 32]", {"hidden": (64, 32)}),
        ("model.args.rate=0.5", {"rate": 0.5}),
        ("model.args.bias=false", {"bias": False}),
        ("model.args.activation=relu", {"activation": "relu"}),
        ('model.args.activation="1"', {"activation": "1"}),
        ("model.args.text=1\nother=2", {"text": "1\nother=2"}),
    ],
)
def test_text_is_read_by_the_settings_type(text: str, value: object) -> None:
    key = ".".join(text.partition("=")[0].strip().split(".")[:2])
    found = set_to(text).value(key)
    assert found == value
    assert type(found) is type(value)


def test_entries_of_a_table_join_what_lies_below() -> None:
    path = job_file("[model.args]\nhidden = [8]\nbias = true\n")
    resolved = resolve(path, {}, ["model.args.hidden=[64]", "model.args.depth=2"])
    assert resolved.job.model.args == {"hidden": (64,), "bias": True, "depth": 2}
    assert resolved.origins["model.args"] == "file job.toml and --set"
    assert resolve(None, {}, ["model.args.depth=2"]).origins["model.args"] == "--set"


def test_a_whole_table_replaces_what_lies_below() -> None:
    path = job_file("[model.args]\nhidden = [8]\nbias = true\n")
    resolved = resolve(path, {"DUALSHARD_MODEL_ARGS": "{depth = 2}"})
    assert resolved.job.model.args == {"depth": 2}


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        (
            "worker.count",
            "--set = worker.count: expected key=value; for example --set worker.count=2",
        ),
        (
            "worker.cuont=3",
            "worker.cuont = 3: expected a key of the job file; did you mean worker.count?",
        ),
        (
            "worker.count.more=3",
            'worker."count.more" = 3: expected a key of the job file; did you mean worker.count?',
        ),
        (
            "wroker.count=3",
            "wroker.count = 3: expected section.key of the job file; did you mean worker.count?",
        ),
        (
            "seed=3",
            "seed = 3: expected section.key of the job file; did you mean job.seed?",
        ),
        (
            "worker.count=two",
            "worker.count = two: expected an integer of at least 1;"
            " for example worker.count = 2 (from --set)",
        ),
        (
            "worker.count=3.0",
            "worker.count = 3.0: expected an integer of at least 1;"
            " write 3, without the point (from --set)",
        ),
        (
            "worker.count=",
            "worker.count = '': expected an integer of at least 1;"
            " for example worker.count = 2 (from --set)",
        ),
        (
            "optimizer.lr=nan",
            "optimizer.lr = nan: expected a number above 0;"
            " for example optimizer.lr = 0.002 (from --set)",
        ),
        (
            "security.insecure=maybe",
            "security.insecure = maybe: expected true or false;"
            " for example security.insecure = false (from --set)",
        ),
        (
            "data.augment=[1]",
            "data.augment = [1]: expected a list of text;"
            ' for example data.augment = ["first", "second"] (from --set)',
        ),
        (
            "data.augment=[",
            "data.augment = [: expected a list of text;"
            ' for example data.augment = ["first", "second"] (from --set)',
        ),
        (
            "model.args.when=2020-01-01",
            "model.args.when = datetime.date(2020, 1, 1): expected text, a finite number, true or"
            " false, or a list of these; for example model.args.when = 1 (from --set)",
        ),
    ],
)
def test_sentence_of_set(setting: str, sentence: str) -> None:
    assert message(settings=[setting]) == sentence


def test_sentence_of_the_environment() -> None:
    assert message(environment={"DUALSHARD_WORKER_COUNT": "0"}) == (
        "worker.count = 0: expected an integer of at least 1;"
        " for example worker.count = 2 (from environment DUALSHARD_WORKER_COUNT)"
    )
    assert message(environment={"DMLC_NUM_SERVER": "many"}) == (
        "paramserver.count = many: expected an integer of at least 1;"
        " for example paramserver.count = 2 (from environment DMLC_NUM_SERVER)"
    )
    assert message(environment={"DUALSHARD_WORKER_CUONT": "2"}) == (
        "DUALSHARD_WORKER_CUONT = 2: expected a variable that names a setting;"
        " did you mean DUALSHARD_WORKER_COUNT?"
    )
    assert message(environment={"DUALSHARD_SECURITY_ZZZZZZZZZZZZZZZZ": "2"}) == (
        "DUALSHARD_SECURITY_ZZZZZZZZZZZZZZZZ = 2: expected a variable that names a setting;"
        " there are DUALSHARD_SECURITY_KEYS, DUALSHARD_SECURITY_INSECURE"
    )


def test_sentence_of_a_flag() -> None:
    assert message(flags={"worker.count": 0}) == (
        "worker.count = 0: expected an integer of at least 1;"
        " for example worker.count = 2 (from --workers)"
    )


def test_a_layer_is_checked_also_where_a_higher_one_hides_it() -> None:
    path = job_file("[worker]\ncount = 0\n")
    assert message(path, flags={"worker.count": 2}) == (
        "worker.count = 0: expected an integer of at least 1;"
        " for example worker.count = 2 (from file job.toml)"
    )


def test_sentence_of_an_unknown_key_in_a_file() -> None:
    assert message(job_file("[optimizer]\nlearning_rate = 1\n")) == (
        "optimizer.learning_rate = 1: expected a key of the job file;"
        " [optimizer] has rule, lr, momentum, beta2,"
        " eps, weight_decay, rates, schedule, warmup, step_every, step_factor, clip, clip_value,"
        " delay_compensation (from file job.toml)"
    )


@pytest.mark.parametrize(
    ("content", "fix"),
    [
        (b"[job]\nseed = \n", "correct the syntax: Invalid value (at line 2, column 8)"),
        (
            b"[job]\nseed = 1\nseed = 2\n",
            "correct the syntax: Cannot overwrite a value (at line 3, column 9)",
        ),
        (b"[job]\nname = '\xff'\n", "save it in UTF-8 (byte 14 is not)"),
        (b"a = " + b"[" * 5000, "its brackets are nested too deeply"),
    ],
)
def test_sentence_of_a_broken_file(content: bytes, fix: str) -> None:
    assert message(job_file(content)) == (
        f"job file = job.toml: expected a readable TOML file in UTF-8; {fix}"
    )


def test_sentence_of_a_missing_file() -> None:
    assert message(Path("nope.toml")) == (
        "job file = nope.toml: expected a readable TOML file in UTF-8;"
        " there is no such file, check the path"
    )


def test_sentence_of_a_directory() -> None:
    Path("runs").mkdir()
    assert message(Path("runs")) == (
        "job file = runs: expected a readable TOML file in UTF-8;"
        " it is a directory, name a file inside it: runs/job.toml"
    )


def test_sentence_of_a_path_through_a_file() -> None:
    job_file("")
    assert message(Path("job.toml/inner")) == (
        "job file = job.toml/inner: expected a readable TOML file in UTF-8;"
        " reading it failed: Not a directory"
    )


def test_a_byte_order_mark_and_windows_line_ends_are_fine() -> None:
    path = job_file(b"\xef\xbb\xbf[job]\r\nseed = 4\r\n")
    assert resolve(path, {}).job.job.seed == 4


def test_errors_of_odd_names_stay_on_one_line() -> None:
    assert message(settings=["a\nb=c\nd"]).startswith('"a\\nb" = "c\\nd": ')
    assert message(Path("a\nb.toml")).startswith('job file = "a\\nb.toml": ')
    assert message(environment={"DUALSHARD_JOB_SEED": "1\n2\x1b"}).startswith(
        'job.seed = "1\\n2\\u001B": '
    )


def test_show_is_aligned_toml_with_origins() -> None:
    resolved = resolve(None, {"DMLC_NUM_WORKER": "5"}, [], {"model.ref": "cnn"})
    lines = show(resolved).splitlines()
    assert [line.split(" = ")[0] for line in lines] == list(SETTINGS)
    assert len({line.rindex("#") for line in lines}) == 1
    assert "worker.count = 5                     # environment DMLC_NUM_WORKER" in lines
    assert Job.from_dict(tomllib.loads("\n".join(lines))) == resolved.job


def test_a_long_value_does_not_push_the_others_aside() -> None:
    lines = show(resolve(None, {}, [f"data.source=idx:{'x' * 100}"])).splitlines()
    assert max(len(line) for line in lines if not line.startswith("data.source")) < 60


def test_rows() -> None:
    table: list[tuple[str, str, str]] = rows(Resolved(Job(), dict.fromkeys(SETTINGS, "default")))
    assert ("job.start_timeout", '"60s"', "default") in table
    assert len(table) == len(SETTINGS)
