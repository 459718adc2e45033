"""The run directory: what is in it, and that nothing is half-written."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from dualshard.common.cluster import Parameter
from dualshard.common.errors import UserError
from dualshard.common.job import Job
from dualshard.paramserver.controller import rundir
from dualshard.paramserver.controller.checkpoints import Place
from dualshard.paramserver.controller.rundir import RunDirectory


def test_it_starts_with_the_resolved_job(tmp_path: Path) -> None:
    job = Job.from_dict({"worker": {"count": 5}})
    RunDirectory.prepare(tmp_path / "deep" / "run", job)
    written = tomllib.loads((tmp_path / "deep" / "run" / "job.toml").read_text())
    assert Job.from_dict(written) == job
    assert (tmp_path / "deep" / "run" / "logs").is_dir()


def test_rows_are_lines_of_json(tmp_path: Path) -> None:
    run = RunDirectory.prepare(tmp_path, Job())
    run.append([{"kind": "event", "text": "ü"}, {"kind": "epoch", "loss": 0.5}])
    run.append([{"kind": "epoch", "loss": 0.25}])
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"kind": "event", "text": "ü"},
        {"kind": "epoch", "loss": 0.5},
        {"kind": "epoch", "loss": 0.25},
    ]


def test_the_model_holds_each_parameter_by_name(tmp_path: Path) -> None:
    run = RunDirectory.prepare(tmp_path, Job())
    layout = [Parameter("a.weight", True, (2, 3)), Parameter("a.bias", False, (3,))]
    run.save_model(np.arange(9, dtype=np.float32), layout)
    tensors = load_file(tmp_path / "model.safetensors")
    assert sorted(tensors) == ["a.bias", "a.weight"]
    np.testing.assert_array_equal(tensors["a.weight"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(tensors["a.bias"], [6, 7, 8])
    assert tensors["a.weight"].dtype == np.float32


def test_the_summary_says_where_the_run_is(tmp_path: Path) -> None:
    run = RunDirectory.prepare(tmp_path, Job())
    run.save_summary({"samples": 3})
    written = json.loads((tmp_path / "summary.json").read_text())
    assert written == {"samples": 3, "run_dir": str(tmp_path)}


def test_a_folder_with_a_run_in_it_is_refused(tmp_path: Path) -> None:
    RunDirectory.prepare(tmp_path, Job()).append([{"kind": "event"}])
    with pytest.raises(UserError) as refused:
        RunDirectory.prepare(tmp_path, Job())
    assert str(refused.value).endswith(
        "expected a folder without a run in it; choose another one, or remove it"
    )
    assert refused.value.key == "--out"


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError) as refused:
        RunDirectory.prepare(tmp_path / "file" / "run", Job())
    assert str(refused.value).endswith(
        "expected a folder that can be written; "
        "Not a directory: choose a folder that you can write with --out DIR"
    )


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDirectory.prepare(tmp_path, Job())
    layout = [Parameter("p", True, (3,))]
    run.save_model(np.ones(3, np.float32), layout)

    def full_disk(tensors: object, file: Path) -> None:
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rundir, "save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        run.save_model(np.zeros(3, np.float32), layout)
    np.testing.assert_array_equal(load_file(tmp_path / "model.safetensors")["p"], [1, 1, 1])


# A run that goes on.


def test_one_controller_at_a_time_has_a_run(tmp_path: Path) -> None:
    run = RunDirectory.prepare(tmp_path, Job())
    with pytest.raises(UserError, match="a run that has ended, this one still runs"):
        RunDirectory.reopen(tmp_path)
    run.close()
    RunDirectory.reopen(tmp_path).close()


def test_reopening_changes_nothing_and_going_on_keeps_the_new_job(tmp_path: Path) -> None:
    first = RunDirectory.prepare(tmp_path, Job())
    first.save_summary({"samples": 3})
    first.close()
    before = (tmp_path / "job.toml").read_bytes()
    run = RunDirectory.reopen(tmp_path)
    assert (tmp_path / "job.toml").read_bytes() == before
    assert (tmp_path / "summary.json").exists()
    run.goes_on(Job.from_dict({"job": {"epochs": 7, "resume": "runs/x"}}))
    written = tomllib.loads((tmp_path / "job.toml").read_text())["job"]
    assert (written["epochs"], written["resume"]) == (7, "")
    assert not (tmp_path / "summary.json").exists()
    run.close()


def test_a_row_that_a_kill_has_cut_short_is_left_out(tmp_path: Path) -> None:
    run = RunDirectory.prepare(tmp_path, Job())
    assert run.rows() == []
    run.append([{"kind": "epoch", "epoch": 0}])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "epo')
    run.append([{"kind": "epoch", "epoch": 1}])
    assert [row["epoch"] for row in run.rows()] == [0, 1]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3
    run.close()


def test_checkpoints_go_on_counting(tmp_path: Path) -> None:
    run = RunDirectory.prepare(tmp_path, Job())
    assert run.place() == Place(str(tmp_path.resolve() / "checkpoints"), 1)
    (tmp_path / "checkpoints" / "000012").mkdir()
    assert run.place().number == 13
    run.close()
