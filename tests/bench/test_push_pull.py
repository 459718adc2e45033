"""`bench wire`: its rows, and once for a moment the real thing."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from dualshard.bench import push_pull
from dualshard.bench.echo import Echo
from dualshard.bench.one_server import OneServer
from dualshard.bench.processes import module_command, started
from dualshard.bench.push_pull import LOADS, RAW, WAYS, bench_wire, make_rows
from dualshard.common.errors import RoleError


def test_rows_compare_each_way_with_the_echo_under_the_same_load():
    found = {(RAW, load): [1000.0, 2000.0, 3000.0] for load in LOADS}
    found |= {("tcp", load): [1000.0, 1000.0, 4000.0] for load in LOADS}
    found |= {("shared memory", load): [8000.0] for load in LOADS}
    rows = make_rows(found)
    assert len(rows) == len({row.name for row in rows}) == 2 * len(LOADS) * len(WAYS)
    assert {row.ratio for row in rows if "tcp" in row.name} == {0.5}
    assert {row.ratio for row in rows if "shared memory" in row.name} == {4.0}
    assert {row.value for row in rows if row.unit == "round trips/s"} == {1000.0, 8000.0}
    # 1,000 times a MiB there and a MiB back.
    assert rows[1].unit == "GB/s"
    assert rows[1].value == pytest.approx(1000 * 2 * 2**20 / 1e9)
    assert all(row.goal is None and row.holds is None for row in rows)


@pytest.mark.processes
def test_the_whole_benchmark_runs_and_checks_itself(monkeypatch):
    monkeypatch.setattr(push_pull, "keep_freed_memory", lambda: None)
    said = []
    rows = bench_wire(1, 0.01, said.append)
    assert all(row.value and row.against and row.ratio for row in rows)
    assert said == [
        "starting a parameter server and a raw ZeroMQ echo",
        "warming up",
        "round 1 of 1",
    ]


@pytest.mark.processes
def test_parameters_that_are_not_what_the_pushes_make_of_them_are_found(tmp_path):
    with OneServer(1) as server:
        command = module_command("deploy", "paramserver", "--controller", server.address)
        with started([*command, "--end-with-stdin"], tmp_path, patience=0) as process:
            server.stand(lambda: process.poll() is None)
            assert server.measure(1, 1, 0.01, shared=False) > 0
            assert server.pushes[0] > 0
            assert np.any(server.parameters)
            server.check()
            server.pushes[0] -= 1
            with pytest.raises(RoleError) as wrong:
                server.check()
    made = server.pushes[0]
    assert str(wrong.value) == f"shard 0 is not what {made} pushes make of it"


def test_an_echo_that_does_not_start_is_an_error(tmp_path):
    with started(["false"], tmp_path) as process:
        process.wait(10)
        with pytest.raises(RoleError, match=r"^the raw ZeroMQ echo did not start$"):
            Echo(process, tmp_path / "port")


@pytest.mark.processes
def test_a_paused_process_is_ended_too(tmp_path: Path):
    with started(["sleep", "60"], tmp_path, patience=10) as process:
        process.send_signal(19)
    assert process.returncode == -15
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run(["ps", "-p", str(process.pid)], check=True, capture_output=True)
