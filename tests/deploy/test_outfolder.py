"""The run directory before there is a run."""

import pytest

from dualshard.common.errors import UserError
from dualshard.deploy.outfolder import OutFolder


def test_a_new_folder_is_made_with_its_parents_and_removed_with_them(tmp_path):
    folder = OutFolder.claim(tmp_path / "a" / "b" / "run")
    assert (folder.path / "logs").is_dir()
    (folder.path / "job.toml").write_text("")
    (folder.path / "logs" / "worker-0.log").write_text("")
    folder.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_parent_that_others_use_stays(tmp_path):
    folder = OutFolder.claim(tmp_path / "runs" / "one")
    other = OutFolder.claim(tmp_path / "runs" / "two")
    folder.discard()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["two"]
    assert (other.path / "logs").is_dir()


def test_a_users_folder_keeps_what_was_in_it(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    folder = OutFolder.claim(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "notes")
    folder.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]
    assert (tmp_path / "notes" / "a.txt").read_text() == "mine"


def test_a_folder_is_claimed_by_one_run_alone(tmp_path):
    OutFolder.claim(tmp_path / "run")
    with pytest.raises(UserError, match="expected a folder without a run in it; it holds an"):
        OutFolder.claim(tmp_path / "run")
    assert (tmp_path / "run" / "logs").is_dir()


def test_new_names_never_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [OutFolder.claim(None) for _ in range(5)]
    assert len({folder.path for folder in folders}) == 5
    assert {folder.path.parent.name for folder in folders} == {"runs"}


def test_a_folder_under_a_file_is_refused_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Not a directory: choose a folder that you can write"):
        OutFolder.claim(tmp_path / "file" / "run")
    with pytest.raises(UserError, match="File name too long: choose a folder"):
        OutFolder.claim(tmp_path / "new" / ("x" * 300))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_results_are_told_apart_from_a_failed_start(tmp_path):
    folder = OutFolder.claim(tmp_path)
    assert not folder.holds_epochs()
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"kind": "event", "text": "lost"}\n')
    assert not folder.holds_epochs()
    metrics.write_text('{"kind": "event", "text": "lost"}\n{"kind": "epoch", "epoch": 0}\n')
    assert folder.holds_epochs()
