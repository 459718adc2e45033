"""`bench encrypted`: its rows, and once for a moment the real thing."""

import pytest

from dualshard.bench import encrypted, push_pull
from dualshard.bench.encrypted import (
    CURVE,
    GOAL,
    PLAIN,
    SEALED,
    SHARED,
    bench_encrypted,
    cipher,
    make_rows,
)
from dualshard.bench.push_pull import PROCESSOR

FOUND = {
    PLAIN: [2.0, 4.0, 3.0],
    CURVE: [1.0],
    SEALED: [2.4],
    SHARED: [9.0],
    PROCESSOR + PLAIN: [1000.0],
    PROCESSOR + CURVE: [4000.0],
    PROCESSOR + SEALED: [1600.0],
}


def test_each_way_is_compared_with_plain_tcp_and_less_processor_time_is_better():
    rows = {row.name: row for row in make_rows(64, "sgd", FOUND)}
    assert {name: (row.ratio, row.goal) for name, row in rows.items()} == {
        "sealed, sgd, 64 MiB, against plain tcp": (pytest.approx(0.8), GOAL),
        "CURVE alone, sgd, 64 MiB, against plain tcp": (pytest.approx(1 / 3), None),
        "sealed, sgd, 64 MiB, against CURVE alone": (pytest.approx(2.4), None),
        "shared memory, sgd, 64 MiB, against plain tcp": (3.0, None),
        f"{PROCESSOR}sealed, sgd, 64 MiB, against plain tcp": (0.625, None),
        f"{PROCESSOR}CURVE alone, sgd, 64 MiB, against plain tcp": (0.25, None),
    }


def test_the_cipher_alone_seals_and_opens():
    assert cipher(0.001, opens=False) > 0
    assert cipher(0.001, opens=True) > 0


@pytest.mark.processes
def test_the_whole_benchmark_runs_and_checks_itself(monkeypatch):
    monkeypatch.setattr(encrypted, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(encrypted, "TURNS", 1)
    monkeypatch.setattr(encrypted, "LONG", 0.05)
    monkeypatch.setattr(push_pull, "IN_FLIGHT", (2,))
    rows = bench_encrypted(2, ["sgd"], 1, 0.05, lambda text: None)
    # So short a time may be no tick of the kernel's: then processor time is 0.
    assert all(row.value and row.ratio for row in rows if row.against and row.unit != "µs")
    assert len(rows) == len({row.name for row in rows}) == 6 + 2
