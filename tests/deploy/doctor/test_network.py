"""The checks of the way to a controller, with clocks and name servers that are made up; keys."""

import threading

import pytest

from dualshard.common.errors import UserError
from dualshard.deploy.doctor import network
from dualshard.deploy.doctor.network import check_controller, check_keys, judge_clock


@pytest.mark.parametrize(
    ("skew", "state", "what"),
    [
        (0.25, "ok", "the controller's is 250.0 ms ahead of this one (± 2.0 ms)"),
        (-0.25, "ok", "the controller's is 250.0 ms behind this one (± 2.0 ms)"),
        (-3600.0, "warn", "the controller's is 3600.0 s behind this one (± 2.0 ms)"),
        (1.5, "warn", "the controller's is 1.5 s ahead of this one (± 2.0 ms)"),
        (None, "warn", "the controller does not tell its time"),
    ],
)
def test_clocks_may_differ_by_a_second(skew, state, what):
    found = judge_clock(skew, 0.004)
    assert (found.state, found.what) == (state, what)


def test_a_name_server_that_does_not_answer_is_not_waited_for(monkeypatch):
    forever = threading.Event()
    monkeypatch.setattr(network, "PATIENCE", 0.05)
    monkeypatch.setattr(network, "resolve", lambda host: [str(forever.wait())])
    (found,) = check_controller("node7:7077", None)
    forever.set()
    assert (found.name, found.state) == ("controller", "fail")
    assert found.what == "node7:7077 cannot be found: no answer about its name within 0.05 s"


def test_what_is_no_address_is_bad_input():
    with pytest.raises(UserError, match="HOST:PORT"):
        check_controller("node7", None)


def test_without_keys_nothing_is_wrong():
    assert check_keys(None).state == "ok"


@pytest.fixture
def folder(tmp_path):
    """Keys of a worker's host, all well."""
    folder = tmp_path / "keys"
    (folder / "public").mkdir(mode=0o755, parents=True)
    folder.chmod(0o700)
    (folder / "worker.key").touch()
    (folder / "worker.key").chmod(0o600)
    for name in ("worker", "controller"):
        (folder / "public" / f"{name}.pub").touch()
    return folder


def test_keys_that_are_well_are_named(folder):
    found = check_keys(folder)
    assert (found.state, found.what) == ("ok", f"{folder}: worker, and 2 public keys")


def test_a_folder_that_is_none_is_told_how_keys_are_made(tmp_path):
    found = check_keys(tmp_path / "none")
    assert (found.state, found.fix) == ("fail", "make keys with dualshard keygen DIR")


def test_keys_are_for_their_owner_alone(folder):
    (folder / "worker.key").chmod(0o640)
    found = check_keys(folder)
    assert (found.state, found.what) == ("fail", f"others may read worker.key in {folder}")
    (folder / "worker.key").chmod(0o600)
    folder.chmod(0o777)
    assert check_keys(folder).what == f"others may write to {folder}"


def test_what_is_missing_of_keys_is_named(folder):
    (folder / "worker.key").rename(folder / "else")
    assert check_keys(folder).what == f"{folder} has not a pair (*.key)"
    (folder / "else").rename(folder / "worker.key")
    for file in (folder / "public").iterdir():
        file.unlink()
    assert check_keys(folder).what == f"{folder} has not public keys (public/*.pub)"
