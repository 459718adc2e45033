"""What a launch says at its end, with and without a file system that hosts share."""

import json
from types import SimpleNamespace

from dualshard.common.job import Job
from dualshard.deploy.launch.ssh import _finish
from dualshard.deploy.screen import Screen

SUMMARY = {
    "test_accuracy": 0.97,
    "epochs": 2,
    "samples": 100,
    "wall_seconds": 2.0,
    "samples_per_second": 50.0,
    "staleness_mean": 0.5,
    "wait_per_step_ms": 0.1,
}


def ended(out, **report):
    known = {"epochs_done": 2, "epochs": 2, "summary": SUMMARY, **report}
    screen = Screen(Job(), out, events=False)
    return SimpleNamespace(screen=screen, report=known, failed=[], results_at="host-a")


def test_a_shared_run_directory_has_the_summary(tmp_path, capsys):
    (tmp_path / "summary.json").write_text(json.dumps({**SUMMARY, "test_accuracy": 0.5}))
    _finish(ended(tmp_path), tmp_path)
    said = capsys.readouterr().out
    assert "test accuracy 50.00 % after 2 epochs" in said
    assert "the model lies" not in said


def test_else_the_last_report_tells_and_the_host_is_named(tmp_path, capsys):
    _finish(ended(tmp_path), tmp_path)
    said = capsys.readouterr().out
    assert "test accuracy 97.00 % after 2 epochs" in said
    assert said.endswith("the model lies in that folder on host-a\n")
    _finish(ended(tmp_path, epochs_done=1.5), tmp_path)
    assert "ended before the job was complete" in capsys.readouterr().out
