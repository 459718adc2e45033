"""`bench pushpull`: its rows, its choice of variants, its checks, and once for a moment the real
thing."""

import subprocess
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from dualshard.bench import copying, push_pull
from dualshard.bench.account import account_rows, make_parts, make_protocol, time_of
from dualshard.bench.apply import start
from dualshard.bench.arena import arena
from dualshard.bench.copying import Copies
from dualshard.bench.echo import Echo
from dualshard.bench.peers import descendants, peer
from dualshard.bench.processes import module_command, running, started
from dualshard.bench.push_pull import (
    COPY,
    NAMES,
    PROCESSOR,
    RAW,
    bench_push_pull,
    make_rows,
    processor_rows,
    small_rows,
)
from dualshard.bench.report import Row
from dualshard.bench.sides import Side, in_turn
from dualshard.bench.worker_end import Model
from dualshard.common.errors import RoleError
from dualshard.common.sharding import SHARD_ELEMENTS

FOUND = {
    "tcp": [1.0, 2.0, 3.0],
    "ipc": [4.0],
    "shared memory": [12.0],
    "tcp, bf16": [3.0],
    f"{RAW}, tcp": [2.5],
    f"{RAW}, ipc": [8.0],
    COPY: [10.0],
    "Ray": [4.0],
}


def test_each_way_is_compared_with_the_same_transport_and_shared_memory_with_everyone():
    rows = {row.name: row for row in make_rows(64, "sgd", FOUND)}
    assert {name: (row.ratio, row.goal) for name, row in rows.items()} == {
        "tcp, sgd, 64 MiB, against raw ZeroMQ, tcp": (0.8, 0.9),
        "ipc, sgd, 64 MiB, against raw ZeroMQ, ipc": (0.5, 0.9),
        "shared memory, sgd, 64 MiB, against tcp": (6.0, 5.0),
        "tcp, bf16, sgd, 64 MiB, against tcp": (1.5, 1.4),
        "shared memory, sgd, 64 MiB, against copy in memory, 2 threads": (1.2, 1.0),
        "shared memory, sgd, 64 MiB, against Ray": (3.0, 3.5),
    }
    assert {row.unit for row in rows.values()} == {"GB/s"}


def test_other_rules_have_the_goals_that_were_set_for_them():
    found = {name: FOUND[name] for name in ("tcp", "ipc", "shared memory")}
    found |= {name: FOUND[name] for name in (f"{RAW}, tcp", f"{RAW}, ipc")}
    assert [row.goal for row in make_rows(256, "adam", found)] == [0.8, 0.8, None]
    assert [row.goal for row in make_rows(256, "rmsprop", found)] == [None, None, None]


def test_a_small_model_and_processor_time():
    (small,) = small_rows({"tcp": [1000.0], "shared memory": [3000.0]})
    assert (small.unit, small.ratio, small.holds) == ("exchanges/s", 3.0, True)
    found = {PROCESSOR + name: [100.0] for name in NAMES.values()}
    found |= {f"{PROCESSOR}{RAW}, tcp": [50.0], f"{PROCESSOR}{RAW}, ipc": [200.0]}
    assert [row.ratio for row in processor_rows(64, "sgd", found)] == [0.5, 2.0, 2.0]


def test_each_side_is_measured_in_its_best_variant_and_in_turn():
    calls = []

    def measure(name: str, result: float):
        return lambda seconds: calls.append((name, seconds)) or result

    @contextmanager
    def awake():
        calls.append("wakes")
        yield
        calls.append("sleeps")

    one = Side("one", {"slow": measure("slow", 1.0), "fast": measure("fast", 2.0)})
    other = Side("other", {"only": measure("only", 3.0)}, [awake])
    said = []
    assert in_turn([one, other], 2, 1.0, said.append) == {"one": [2.0, 2.0], "other": [3.0, 3.0]}
    assert said == ["  one: fast", "  other: only"]
    chosen = [("slow", 0.5), ("slow", 0.5), ("fast", 0.5), "wakes", ("only", 0.5), "sleeps"]
    assert calls == [*chosen, *[("fast", 1.0), "wakes", ("only", 1.0), "sleeps"] * 2]


def test_the_account_adds_up_to_the_whole(monkeypatch):
    monkeypatch.setattr("dualshard.bench.account.time_of", lambda part: 10.0)
    rows = account_rows([Row("tcp, sgd, 64 MiB", 1.0, "GB/s", 2.0)], lambda text: None)
    whole, raw, *parts, rest = rows
    assert whole.value == pytest.approx(2 * 4 * SHARD_ELEMENTS / 1e3)
    assert raw.value == pytest.approx(whole.value / 2)
    assert [part.value for part in parts] == [10.0] * len(make_parts())
    assert whole.value == pytest.approx(raw.value + 10.0 * len(parts) + rest.value)
    assert account_rows([], print) == []


def test_the_protocol_of_the_account_is_one_exchange_of_a_shard():
    exchange = make_protocol(start(1, 0.1, 2), start(2, 0.1, 2))
    for shard in (0, 1):
        exchange(shard)
    assert time_of(lambda shard: None) >= 0.0


def test_groups_of_shards_have_one_owner_each_and_go_to_all_servers_in_turn():
    with Model(10 * SHARD_ELEMENTS, [0, 1] * 5) as model:
        assert model.groups(2) == [[0, 2], [1, 3], [4, 6], [5, 7], [8], [9]]
        assert sorted(chain.from_iterable(model.groups(8))) == list(range(10))


def test_copies_are_checked(monkeypatch):
    monkeypatch.setattr(copying, "_in_shards", lambda target, source: None)
    with Copies(1000) as copies:
        wrong, right = copies.variants.values()
        with pytest.raises(RoleError, match=r"^a copy in memory is not what was copied$"):
            wrong(0.001)
        assert right(0.001) > 0


@pytest.mark.processes
def test_the_whole_benchmark_runs_and_checks_itself(monkeypatch):
    monkeypatch.setattr(push_pull, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(push_pull, "installed", lambda package: False)
    monkeypatch.setattr(push_pull, "IN_FLIGHT", (2,))
    said = []
    rows = bench_push_pull([2], ["sgd", "adam"], 1, 0.02, said.append)
    # So short a time may be no tick of the kernel's: then processor time is 0.
    assert all(row.value and row.ratio for row in rows if row.against and row.unit != "µs")
    assert len(rows) == len({row.name for row in rows}) == 5 + 3 + 3 + 1 + 7
    assert said[0] == "PyTorch RPC is not installed: nothing to compare with (pip install torch)"
    assert "2 MiB, sgd" in said
    assert "  shared memory: 2 shards in flight" in said


@pytest.mark.processes
@pytest.mark.parametrize("way", [("tcp", "bf16"), ("ipc", "f32"), ("shm", "f32")])
def test_parameters_that_are_not_what_the_pushes_make_of_them_are_found(tmp_path, way):
    with arena("momentum", 3 * SHARD_ELEMENTS // 2, [way], tmp_path, servers=2) as place:
        with place.running():
            assert place.ends[way].measure(2, 0.02) > 0
        assert all(place.model.pushes)
        assert np.any(place.model.parameters)
        place.check()
        place.model.pushes[1] -= 1
        made = place.model.pushes[1]
        with pytest.raises(RoleError, match=f"^shard 1 is not what {made} pushes make of it$"):
            place.check()
        place.model.pushes[1] += 1
        place.model.parameters_of(0)[7] += 1.0
        with pytest.raises(RoleError, match=r"^shard 0 is not what"):
            place.check()


@pytest.mark.processes
@pytest.mark.parametrize("way", ["tcp", "ipc"])
def test_the_raw_exchange_returns_the_first_two_frames(tmp_path, way):
    announce = tmp_path / "echo"
    command = module_command("bench.echo", announce)
    messages = [[b"header", np.full(1 << 18, n, np.uint8).data, b""] for n in range(3)]
    with (
        started(command, tmp_path, patience=0) as process,
        Echo(process, announce, way) as echo,
        running(process),
    ):
        assert echo.measure(messages, 2, 0.02) > 0
        messages[0][1] = messages[1][1]
        assert echo.measure(messages, 2, 0.02) > 0


def test_an_echo_that_does_not_start_is_an_error(tmp_path):
    with started(["false"], tmp_path) as process:
        process.wait(10)
        with pytest.raises(RoleError, match=r"^the raw ZeroMQ exchange did not start$"):
            Echo(process, tmp_path / "echo", "tcp")


@pytest.mark.processes
@pytest.mark.parametrize(("package", "module"), [("torch", "peer_torch_rpc"), ("ray", "peer_ray")])
def test_a_peer_measures_itself_and_leaves_nothing(tmp_path, package, module):
    pytest.importorskip(package)
    with peer(package, module, tmp_path, 8 * SHARD_ELEMENTS) as one:
        name, measure = next(iter(one.variants.items()))
        assert "in flight" in name
        with one.running():
            assert measure(0.05) > 0
        tree = descendants(one._process.pid)
    assert len(tree) > 1
    assert not [pid for pid in tree if Path(f"/proc/{pid}").exists()]


@pytest.mark.processes
def test_a_peer_that_fails_is_told_with_its_last_words(tmp_path):
    with (
        pytest.raises(RoleError, match=r"^Nobody failed; the last that it wrote: .*peer_nobody"),
        peer("Nobody", "peer_nobody", tmp_path, 1),
    ):
        pass


@pytest.mark.processes
def test_a_paused_process_is_ended_too(tmp_path: Path):
    with started(["sleep", "60"], tmp_path, patience=10) as process:
        process.send_signal(19)
    assert process.returncode == -15
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run(["ps", "-p", str(process.pid)], check=True, capture_output=True)
