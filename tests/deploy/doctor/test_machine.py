"""The checks of the machine, with limits that are made up."""

import math
import resource
import socket
import tempfile
from pathlib import Path

import pytest

from dualshard.deploy.doctor import machine
from dualshard.deploy.doctor.limits import cores_limit, memory_limit

GIB = 1 << 30


@pytest.mark.parametrize(
    ("limits", "state"),
    [
        ((128, 128), "fail"),
        ((128, 512), "warn"),
        ((128, 1024), "ok"),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), "ok"),
    ],
)
def test_open_files(limits, state):
    found = machine.check_files(limits)
    assert found.state == state
    assert (state == "ok") is (not found.fix)
    assert ("no limit" in found.what) is (limits[1] == resource.RLIM_INFINITY)


def test_a_port_that_is_taken_is_a_warning():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        found = machine.check_port(port)
        assert (found.name, found.state) == (f"port {port}", "warn")
    assert machine.check_port(port).state == "ok"


def test_a_machine_that_nobody_reaches_is_a_warning():
    assert machine.check_cards({"lo": ["127.0.0.1"], "wg0": []}).state == "warn"
    found = machine.check_cards({"lo": ["127.0.0.1"], "eth0": ["10.0.0.5", "10.0.0.6"]})
    assert (found.state, found.what) == ("ok", "lo 127.0.0.1, eth0 10.0.0.5 10.0.0.6")


def test_no_shared_memory_at_all_is_a_failure(monkeypatch):
    def none(elements):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(machine.Segment, "create", none)
    found = machine.check_shared_memory()
    assert found.state == "fail"
    assert "Function not implemented" in found.what


def test_memory_and_what_a_container_leaves_of_it():
    assert machine.check_memory(math.inf, 8 * GIB).state == "ok"
    assert machine.check_memory(math.inf, GIB // 2).state == "warn"
    found = machine.check_memory(GIB // 2, 8 * GIB)
    assert found.state == "warn"
    assert found.what.endswith("; the control group of this process may have 512 MiB")


def test_cores_and_what_a_container_leaves_of_them():
    assert machine.check_cores(math.inf).state == "ok"
    found = machine.check_cores(0.5)
    assert found.state == "warn"
    assert found.what.endswith("; the control group of this process may use the time of 0.5")


def test_a_temporary_folder_that_cannot_be_written_to_is_a_failure(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert machine.check_temporary().state == "ok"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    found = machine.check_temporary()
    assert (found.state, "TMPDIR" in found.fix) == ("fail", True)


def group(root: Path, **files: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / name.replace("__", ".")).write_text(text + "\n")


def test_the_tightest_control_group_above_counts(tmp_path):
    own = tmp_path / "cgroup"
    own.write_text("0::/jobs/seven\n")
    group(tmp_path, memory__max="max", cpu__max="max 100000")
    group(tmp_path / "jobs", memory__max=str(2 * GIB), cpu__max="150000 100000")
    group(tmp_path / "jobs" / "seven", memory__max=str(4 * GIB), cpu__max="max 100000")
    assert memory_limit(tmp_path, own) == 2 * GIB
    assert cores_limit(tmp_path, own) == 1.5


def test_control_groups_of_the_first_version(tmp_path):
    own = tmp_path / "cgroup"
    own.write_text("7:memory:/box\n4:cpu,cpuacct:/box\n")
    none, most = "-1", str((1 << 63) - 4096)
    group(tmp_path / "memory", memory__limit_in_bytes=most)
    group(tmp_path / "memory" / "box", memory__limit_in_bytes=str(GIB))
    group(tmp_path / "cpu", cpu__cfs_quota_us=none, cpu__cfs_period_us="100000")
    group(tmp_path / "cpu" / "box", cpu__cfs_quota_us="50000", cpu__cfs_period_us="100000")
    assert memory_limit(tmp_path, own) == GIB
    assert cores_limit(tmp_path, own) == 0.5


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert memory_limit(tmp_path / "none", tmp_path / "no") == math.inf
    assert cores_limit(tmp_path / "none", tmp_path / "no") == math.inf
