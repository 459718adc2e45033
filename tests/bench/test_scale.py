"""`bench scale` and `bench memory`: their rows, what is saturated, and once the real thing."""

import os
from time import process_time

import pytest

from dualshard.bench import resident, scale
from dualshard.bench.scale import LAYOUTS, WAYS, Rounds, bench_scale, layout_name, make_rows, told
from dualshard.bench.usage import cpu_seconds, machine_seconds, saturated
from dualshard.bench.usage import resident as memory_of


def test_rows_compare_each_layout_with_one_of_each_the_same_way():
    found = {(way, *layout): Rounds([4.0]) for way in WAYS for layout in LAYOUTS}
    found["tcp", 2, 1] = Rounds([6.0])
    rows = {row.name: row for row in make_rows(found)}
    assert len(rows) == len(WAYS) * len(LAYOUTS)
    assert rows["tcp, 1 server, 1 worker"].against is None
    assert rows["tcp, 2 servers, 1 worker, against one of each"].ratio == 1.5
    assert rows["shared memory, 1 server, 4 workers, against one of each"].ratio == 1.0
    assert layout_name("tcp", 4, 1) == "tcp, 4 servers, 1 worker"


@pytest.mark.parametrize(
    ("busy", "machine", "words"),
    [
        ({"worker 0": 0.5, "server 0": 0.95}, 1.5, "the server is saturated"),
        ({"worker 0": 0.95, "worker 1": 0.99}, 2.1, "the worker is saturated"),
        ({"worker 0": 1.0, "server 0": 0.95}, 2.1, "the worker and the server are saturated"),
        ({"worker 0": 1.9, "server 0": 1.9}, 4.0, "the machine is saturated"),
        (
            {"worker 0": 1.0, "server 0": 0.5},
            3.9,
            "the machine is saturated, by other programs too",
        ),
        ({"worker 0": 0.5}, 0.5, "nothing is saturated: they wait for each other"),
    ],
)
def test_what_is_saturated_is_told(busy, machine, words):
    assert saturated(4, busy, machine) == words


def test_one_line_tells_medians(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    rounds = Rounds([1.0], [{"worker 0": 0.1}, {"worker 0": 0.3}, {"worker 0": 0.9}], [1.0])
    assert told(*rounds.typical()) == (
        "cores used: worker 0 0.30, the machine 1.00 of 3: "
        "nothing is saturated: they wait for each other"
    )


def test_the_kernel_tells_time_and_memory():
    assert cpu_seconds(os.getpid()) == pytest.approx(process_time(), abs=0.1)
    assert machine_seconds() > cpu_seconds(os.getpid())
    held = memory_of(os.getpid())
    assert held["VmRSS"] == pytest.approx(
        held["RssAnon"] + held["RssFile"] + held["RssShmem"], rel=0.05
    )


def test_a_server_may_hold_what_it_must_and_a_little_more():
    (row,) = resident.make_rows("adam", "tcp", 100, 500.0)
    assert row.against == pytest.approx(1.15 * 300 + 64)
    assert (row.holds, row.unit) == (False, "MiB")
    assert resident.make_rows("sgd", "tcp", 100, 100.0)[0].holds


@pytest.mark.processes
def test_scale_runs_and_checks_itself(monkeypatch):
    monkeypatch.setattr(scale, "LAYOUTS", ((1, 1), (2, 1), (1, 2)))
    said = []
    rows = bench_scale(1, 0.02, said.append, shards=4)
    assert all(row.value for row in rows)
    assert len(rows) == 6
    assert said[:3] == ["starting all servers and workers' ends", "warming up", "round 1 of 1"]
    assert said[4].startswith("tcp, 2 servers, 1 worker: cores used: worker 0 ")


@pytest.mark.processes
def test_memory_of_a_small_model(monkeypatch):
    monkeypatch.setattr(resident, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(resident, "RULES", ("momentum",))
    monkeypatch.setattr(resident, "GUESS", 0.05)
    said = []
    rows = resident.bench_memory(2, said.append)
    assert [row.name.partition(":")[0] for row in rows] == [
        "momentum, tcp",
        "momentum, shared memory",
    ]
    assert all(row.value > 4 for row in rows)
    assert "RssShmem 0 MiB" in said[0]
