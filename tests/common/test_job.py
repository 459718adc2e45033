"""The job's contract: defaults, checks in whole sentences, and round trips through TOML."""

import math
import tomllib
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import msgpack
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dualshard.common.errors import UserError
from dualshard.common.job import SECTIONS, SETTINGS, Job, WorkerSection, to_toml
from dualshard.common.settings import Kind, Setting
from dualshard.common.suggest import nearest
from dualshard.common.toml import literal

RULE = {
    "momentum": 0.9,
    "beta2": 0.0,
    "eps": 0.0,
    "weight_decay": 0.0,
    "rates": [],
    "warmup": 0.0,
    "step_every": 0.3334,
    "step_factor": 0.1,
}
CONTRACT = {
    "job": {
        "name": "run",
        "seed": 0,
        "epochs": 30,
        "epoch_quorum": 1.0,
        "warm_start": 0,
        "start_timeout": 60.0,
        "lease": 5.0,
        "vacancy": 0.0,
        "evaluate_every": 1.0,
        "checkpoint_every": 1.0,
        "checkpoint_keep": 3,
        "resume": "",
    },
    "model": {"ref": "mlp", "args": {}},
    "data": {
        "source": "digits",
        "test": "",
        "batch_size": 32,
        "augment": [],
        "resize": "",
        "columns": ["image", "label"],
        "corrupt": "raise",
        "sampling": "once",
        "weights": [],
        "cache": 1 << 30,
        "disk_cache": 0,
        "cache_dir": "",
        "held_out": 0.2,
    },
    "train": {
        "mode": "async",
        "transport": "auto",
        "n_push": 0,
        "n_fetch": 0,
        "in_flight": 0,
        "staleness": 4,
        "quorum": 1.0,
        "staleness_scaling": 0.5,
        "compression": "none",
        "topk": 0.01,
        "error_feedback": True,
        "factors": "auto",
        "pull_encoding": "f32",
        "nonfinite": "skip",
        "nonfinite_limit": 10,
    },
    "optimizer": {
        "rule": "rmsprop",
        "lr": 0.002,
        **RULE,
        "schedule": "linear",
        "clip": 0.0,
        "clip_value": 0.0,
        "delay_compensation": 0.0,
    },
    "outer": {"rule": "sgd", "lr": 1.0, **RULE, "schedule": "constant"},
    "paramserver": {"count": 2, "shard_bytes": 1048576, "buckets": 1024},
    "dataserver": {"count": 1, "portion": 16, "threads": 1, "backup": False},
    "worker": {"count": 2, "at_least": 0, "threads": 1, "merge_every": 0, "device": "cpu"},
    "partition": {
        "cuts": [],
        "parts": 2,
        "coupling": "activations",
        "encoding": "f32",
        "micro_batches": 1,
    },
    "admm": {
        "rho": 0.0,
        "cap": 0.0,
        "schedule": "capped",
        "gamma": 0.5,
        "c": 0.5,
        "c_middle": 1.0,
        "gamma_middle": 0.0,
        "macro_batch": 1024,
        "passes": 3,
        "wait": True,
        "ahead": 4,
        "head": True,
        "quorum": 0.75,
    },
    "security": {"keys": "", "insecure": False},
}


def message(tables: object) -> str:
    with pytest.raises(UserError) as caught:
        Job.from_dict(tables)
    return str(caught.value)


def test_defaults_are_the_contract() -> None:
    assert Job().to_dict() == CONTRACT
    assert Job.from_dict({}) == Job()


def test_types_of_the_defaults_are_exact() -> None:
    for name, table in CONTRACT.items():
        for key, value in table.items():
            assert type(Job().to_dict()[name][key]) is type(value), f"{name}.{key}"


def test_sections_are_the_fields_of_the_job() -> None:
    assert list(SECTIONS) == [item.name for item in fields(Job)]
    assert all(type(getattr(Job(), name)) is section for name, section in SECTIONS.items())


def test_every_default_passes_its_own_check_and_has_words() -> None:
    for key, rule in SETTINGS.items():
        assert rule.check(key, rule.default) == rule.default
        assert rule.doc
        assert rule.expected


def test_a_job_is_frozen_and_hashable() -> None:
    job = Job()
    with pytest.raises(FrozenInstanceError):
        job.worker.count = 3  # type: ignore[misc]
    assert hash(job) == hash(Job())
    assert job != replace(job, worker=WorkerSection(count=3))


def test_a_section_checks_itself_wherever_it_is_made() -> None:
    with pytest.raises(UserError, match=r"^worker.count = 0: expected an integer of at least 1;"):
        WorkerSection(count=0)
    with pytest.raises(UserError, match=r"^worker.threads = -1: "):
        replace(WorkerSection(), threads=-1)


def test_values_take_their_canonical_form() -> None:
    job = Job.from_dict(
        {
            "job": {"lease": "500ms", "epoch_quorum": 1},
            "paramserver": {"shard_bytes": "64KiB"},
            "data": {"augment": ["shift:2", "rotate:10"]},
            "model": {"args": {"hidden": [64, [3, 3]], "bias": True}},
        }
    )
    assert job.job.lease == 0.5
    assert type(job.job.epoch_quorum) is float
    assert job.paramserver.shard_bytes == 65536
    assert job.data.augment == ("shift:2", "rotate:10")
    assert job.model.args == {"hidden": (64, (3, 3)), "bias": True}
    assert job.to_dict()["model"]["args"] == {"hidden": [64, [3, 3]], "bias": True}


def test_the_given_table_is_copied() -> None:
    args: dict[str, Any] = {"hidden": [64]}
    job = Job.from_dict({"model": {"args": args}})
    args["hidden"].append(32)
    args["more"] = 1
    assert job.model.args == {"hidden": (64,)}


@pytest.mark.parametrize(
    ("tables", "sentence"),
    [
        (
            {"worker": {"count": 0}},
            "worker.count = 0: expected an integer of at least 1; for example worker.count = 2",
        ),
        (
            {"worker": {"count": True}},
            "worker.count = True: expected an integer of at least 1; for example worker.count = 2",
        ),
        (
            {"worker": {"count": 3.0}},
            "worker.count = 3.0: expected an integer of at least 1; write 3, without the point",
        ),
        (
            {"worker": {"count": "two"}},
            "worker.count = two: expected an integer of at least 1; for example worker.count = 2",
        ),
        (
            {"job": {"seed": 2**63}},
            "job.seed = 9223372036854775808: expected an integer of at least 0;"
            " for example job.seed = 0",
        ),
        (
            {"job": {"epoch_quorum": 0}},
            "job.epoch_quorum = 0: expected a number above 0 and of at most 1;"
            " for example job.epoch_quorum = 1.0",
        ),
        (
            {"job": {"lease": "0s"}},
            'job.lease = 0s: expected a duration above 0s; for example job.lease = "5s"',
        ),
        (
            {"optimizer": {"lr": math.nan}},
            "optimizer.lr = nan: expected a number above 0; for example optimizer.lr = 0.002",
        ),
        (
            {"optimizer": {"lr": math.inf}},
            "optimizer.lr = inf: expected a number above 0; for example optimizer.lr = 0.002",
        ),
        (
            {"optimizer": {"momentum": 1}},
            "optimizer.momentum = 1: expected a number of at least 0 and below 1;"
            " for example optimizer.momentum = 0.9",
        ),
        (
            {"optimizer": {"rule": "rmsprob"}},
            "optimizer.rule = rmsprob: expected sgd, momentum, nesterov, adagrad, rmsprop, adam or"
            " adamw;"
            " did you mean rmsprop?",
        ),
        (
            {"optimizer": {"rule": "zzz"}},
            "optimizer.rule = zzz: expected sgd, momentum, nesterov, adagrad, rmsprop, adam or"
            " adamw;"
            ' for example optimizer.rule = "rmsprop"',
        ),
        (
            {"optimizer": {"rates": ["*.bias:2", "dense1"]}},
            "optimizer.rates = dense1: expected pattern:multiplier with a finite multiplier, 0 or"
            ' more; for example optimizer.rates = ["dense1.*:0.1", "*.bias:2"]',
        ),
        (
            {"outer": {"rates": ["dense1.*:-1"]}},
            "outer.rates = dense1.*:-1: expected pattern:multiplier with a finite multiplier, 0 or"
            ' more; for example outer.rates = ["dense1.*:0.1", "*.bias:2"]',
        ),
        (
            {"train": {"mode": "lbfgs"}},
            "train.mode = lbfgs: expected async, ssp, bsp, local, easgd or admm;"
            ' this version has no lbfgs yet, write train.mode = "async"',
        ),
        *(
            (
                {"data": {"resize": text}},
                f"data.resize = {text}: expected HEIGHTxWIDTH or SIDE;"
                ' for example data.resize = "224"',
            )
            for text in ("0", "32x0", "0x32", "224,224", "a")
        ),
        (
            {"worker": {"device": "gpu"}},
            "worker.device = gpu: expected auto, cpu or cuda:N;"
            ' for example worker.device = "cuda:0"',
        ),
        (
            {"worker": {"device": "cuda:01"}},
            "worker.device = cuda:01: expected auto, cpu or cuda:N;"
            ' for example worker.device = "cuda:0"',
        ),
        (
            {"paramserver": {"shard_bytes": 1002}},
            "paramserver.shard_bytes = 1002: expected a size of at least 4B and in steps of 4;"
            ' for example paramserver.shard_bytes = "1MiB"',
        ),
        (
            {"paramserver": {"buckets": 65537}},
            "paramserver.buckets = 65537: expected an integer of at least 1 and of at most 65536;"
            " for example paramserver.buckets = 1024",
        ),
        (
            {"data": {"source": ""}},
            "data.source = '': expected text that is not empty;"
            ' for example data.source = "digits"',
        ),
        (
            {"data": {"augment": "shift:2"}},
            "data.augment = shift:2: expected a list of text;"
            ' for example data.augment = ["first", "second"]',
        ),
        (
            {"security": {"insecure": 1}},
            "security.insecure = 1: expected true or false; for example security.insecure = false",
        ),
        (
            {"model": {"args": [1]}},
            "model.args = [1]: expected a table of text, numbers, true or false, and lists of"
            " these; for example model.args = { name = 1 }",
        ),
        (
            {"model": {"args": {"hid-den": 1}}},
            "model.args = hid-den: expected a name that Python allows;"
            " the names become arguments of a Python function: letters, digits and _",
        ),
        (
            {"model": {"args": {"rate": [0.1, math.nan]}}},
            "model.args.rate = [0.1, nan]: expected text, a finite number, true or false, or a"
            " list of these; for example model.args.rate = 1",
        ),
        (
            {"worker": {"cuont": 2}},
            "worker.cuont = 2: expected a key of the job file; did you mean worker.count?",
        ),
        (
            {"train": {"lr": 0.1}},
            "train.lr = 0.1: expected a key of the job file; did you mean optimizer.lr or"
            " outer.lr?",
        ),
        (
            {"job": {"count": 2}},
            "job.count = 2: expected a key of the job file;"
            " did you mean paramserver.count or dataserver.count or worker.count?",
        ),
        (
            {"dataserver": {"zzz": 2}},
            "dataserver.zzz = 2: expected a key of the job file; [dataserver] has count, portion,"
            " threads, backup",
        ),
        (
            {"worker": {"count": 2, "at_least": 3}},
            "worker.at_least = 3: expected at most worker.count, which is 2; raise worker.count",
        ),
        (
            {"dataserver": {"backup": True}, "train": {"mode": "bsp"}},
            "dataserver.backup = true: expected false in mode bsp with train.quorum = 1; each "
            "worker has portions of its own there; lower train.quorum, or leave it out",
        ),
        (
            {"wroker": {"count": 2}},
            "wroker = {'count': 2}: expected a section of the job file; did you mean [worker]?",
        ),
        (
            {"zzz": {}},
            "zzz = {}: expected a section of the job file; sections are job, model, data,"
            " train, optimizer, outer, paramserver, dataserver, worker, partition, admm, security",
        ),
        (
            {"seed": 3},
            "seed = 3: expected a section of the job file; move it under [job]",
        ),
        (
            {"worker": 3},
            "worker = 3: expected a section [worker];"
            " write [worker] on a line of its own, and the keys below it",
        ),
        ([], "job = []: expected a table of sections; send what to_dict gives"),
        (
            {"job": {"na\nme": "a\nb"}},
            'job."na\\nme" = "a\\nb": expected a key of the job file; did you mean job.name?',
        ),
    ],
)
def test_sentence(tables: object, sentence: str) -> None:
    assert message(tables) == sentence


@pytest.mark.parametrize("key", list(SETTINGS))
@pytest.mark.parametrize("wrong", [None, object(), b"bytes", {1: 2}, {"": 1}, [None], [""]])
def test_a_wrong_type_is_refused_for_every_key(key: str, wrong: object) -> None:
    section, name = key.split(".")
    text = message({section: {name: wrong}})
    assert text.startswith(key)
    assert "\n" not in text


@pytest.mark.parametrize("key", [key for key, rule in SETTINGS.items() if rule.kind is Kind.NUMBER])
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, -1.0, 10**400, True, "1"])
def test_numbers_are_finite_and_no_booleans(key: str, wrong: object) -> None:
    section, name = key.split(".")
    assert message({section: {name: wrong}}).startswith(f"{key} = ")


def test_text_that_utf8_cannot_hold_is_refused() -> None:
    assert message({"data": {"source": "a\udc80"}}).startswith('data.source = "a\\uDC80": ')


@pytest.mark.parametrize("mode", ["lbfgs"])
def test_modes_of_the_design_are_known_but_not_there(mode: str) -> None:
    assert f"this version has no {mode} yet" in message({"train": {"mode": mode}})


def test_a_bytes_key_of_the_wire_is_unknown() -> None:
    assert message({"worker": {b"count": 2}}).startswith("worker.\"b'count'\" = 2: ")


texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = (
    st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
arguments = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=6)
names = st.from_regex(r"[A-Za-zé_][A-Za-zé0-9_]{0,8}", fullmatch=True)


def numbers(rule: Setting) -> st.SearchStrategy[float]:
    low = rule.minimum if rule.above is None else rule.above
    high = rule.maximum if rule.below is None else rule.below
    return st.floats(
        low,
        high,
        exclude_min=rule.above is not None,
        exclude_max=rule.below is not None,
        allow_nan=False,
        allow_infinity=False,
    )


def values(rule: Setting) -> st.SearchStrategy[Any]:
    if rule.choices:
        return st.sampled_from(rule.choices)
    largest = int(rule.maximum) if rule.maximum else 2**63 - 1
    match rule.kind:
        case Kind.FLAG:
            return st.booleans()
        case Kind.TEXT if rule.pattern:
            return st.from_regex(rule.pattern, fullmatch=True)
        case Kind.TEXT:
            return texts if rule.empty else texts.filter(bool)
        case Kind.TEXTS:
            return st.lists(texts.filter(bool), max_size=4)
        case Kind.TABLE:
            return st.dictionaries(names, arguments, max_size=4)
        case Kind.INTEGER | Kind.SIZE:
            steps = st.integers(
                -(-int(rule.minimum or 0) // rule.multiple), largest // rule.multiple
            )
            return steps.map(lambda step: step * rule.multiple)
        case _:
            return numbers(rule)


RATES = st.lists(st.builds("{}:{}".format, texts.filter(bool), st.floats(0, 1e6)), max_size=4)
# Those that contradict others in places have tests of their own.
SPECIAL = {"rates": RATES, "backup": st.just(False), "at_least": st.just(1)}
tables = st.fixed_dictionaries(
    {},
    optional={
        name: st.fixed_dictionaries(
            {},
            optional={
                key: SPECIAL[key] if key in SPECIAL else values(rule)
                for key, rule in section.rules().items()
            },
        )
        for name, section in SECTIONS.items()
    },
)


@given(tables)
@settings(deadline=None, max_examples=60)
def test_round_trip(table: dict[str, Any]) -> None:
    train = table.get("train", {})
    mode = train.get("mode")
    assume(not (mode == "bsp" and train.get("quorum") == 0))
    assume(not (mode == "easgd" and train.get("compression") == "topk"))
    # How these must fit each other is tested in test_partition.py.
    assume(mode != "admm" and not table.get("partition", {}).get("cuts"))
    job = Job.from_dict(table)
    assert Job.from_dict(job.to_dict()) == job
    assert Job.from_dict(tomllib.loads(to_toml(job))) == job
    assert Job.from_dict(msgpack.unpackb(msgpack.packb(job.to_dict()))) == job
    for name, given_keys in table.items():
        for key, value in given_keys.items():
            assert job.to_dict()[name][key] == value


@given(st.dictionaries(texts, arguments | st.dictionaries(texts, scalars, max_size=3), max_size=4))
@settings(deadline=None)
def test_literal_is_read_back_by_the_standard_library(table: dict[str, Any]) -> None:
    text = literal(table)
    assert tomllib.loads(f"value = {text}") == {"value": table}
    assert text.isprintable()


def test_to_toml_is_for_people() -> None:
    lines = to_toml(Job()).splitlines()
    assert lines[:4] == ["[job]", 'name = "run"', "seed = 0", "epochs = 30"]
    assert 'start_timeout = "60s"' in lines
    assert 'shard_bytes = "1MiB"' in lines
    assert "insecure = false" in lines


@pytest.mark.parametrize(
    ("wrong", "right"), [("Count", "count"), ("thread", "threads"), ("qqq", None), ("", None)]
)
def test_nearest(wrong: str, right: str | None) -> None:
    assert nearest(wrong, ["count", "threads", "device"]) == right
