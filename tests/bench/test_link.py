"""The link of `bench admm --part link`: its relay, what it really is, its rows, and that nothing of
it is left behind."""

import re
import signal
import subprocess
import sys
import time
from math import inf

import pytest

from dualshard.bench import admm_link, link
from dualshard.bench.admm_jobs import whole
from dualshard.bench.admm_link import (
    ENCODINGS,
    EXACT,
    PIECES,
    ROUNDED,
    bench_link,
    chosen,
    link_rows,
    named_ours,
    named_theirs,
    sides,
    time_to,
)
from dualshard.bench.admm_runs import Ground
from dualshard.bench.link import DELAY, RATE, Speed, joined_hosts, obstacle, probe
from dualshard.bench.relay import Direction
from dualshard.bench.runs import told
from dualshard.common.config import resolve
from dualshard.common.errors import RoleError

needs_link = pytest.mark.skipif(bool(obstacle()), reason=obstacle() or "a link can be made")


# Pure: frames.


def test_a_frame_leaves_when_those_before_it_have_and_arrives_a_delay_later():
    way = Direction(delay=0.5, rate=100.0)
    assert way.next_at == inf
    way.take(b"a" * 100, 10.0)  # leaves at 11
    way.take(b"b" * 50, 10.2)  # leaves at 11.5
    assert (way.next_at, way.arrived(11.49)) == (11.5, [])
    assert way.arrived(11.5) == [b"a" * 100]
    assert way.arrived(11.5) == []
    way.take(b"c" * 10, 13.0)  # the line is idle: leaves at 13.1
    assert way.arrived(12.0) == [b"b" * 50]
    assert way.next_at == pytest.approx(13.6)
    assert way.arrived(14.0) == [b"c" * 10]
    assert way.next_at == inf


def test_the_queue_has_no_bound_and_keeps_the_rate():
    way = Direction(delay=0.02, rate=1000.0)
    for _ in range(5000):
        way.take(bytes(100), 0.0)
    assert len(way.arrived(100.02 + 1e-6)) == 1000
    assert len(way.arrived(1e9)) == 4000


# Pure: rows, and who runs.


def times(**changed: list[float]) -> dict[str, list[float]]:
    found = {
        named_ours(encoding): [seconds] * 3
        for encoding, seconds in zip(ENCODINGS, (30.0, 16.0, 9.0), strict=True)
    }
    for kind, seconds in ((EXACT, 120.0), (ROUNDED, 80.0)):
        found |= {named_theirs(kind, count): [seconds + count] for count in PIECES}
        found[named_theirs(kind, 2)] = [seconds - 30] * 3
    return {**found, **changed}


IDEAL = Speed(round_trip=0.041, up=1.17e6, down=1.17e6)


def test_rows_are_against_the_fastest_backprop():
    rows = {row.name: row for row in link_rows(IDEAL, times())}
    against = "against exact backprop, micro_batches 2"
    ours = [rows[f"link: seconds to 97%, A, {encoding}, {against}"] for encoding in ENCODINGS]
    assert [(row.value, row.against, row.goal, row.holds) for row in ours] == [
        (30.0, 90.0, 3.0, True),
        (16.0, 90.0, 3.0, True),
        (9.0, 90.0, 3.0, True),
    ]
    extra = rows["link: seconds to 97%, A, f16, against backprop in f16, micro_batches 2"]
    assert (extra.ratio, extra.goal) == (50 / 16, None)
    alone = rows["link: seconds to 97%, exact backprop, micro_batches 4"]
    assert (alone.value, alone.ratio, alone.holds) == (124.0, None, None)
    assert [row.holds for row in list(rows.values())[:3]] == [True] * 3
    assert rows["link: round trip, against twice the delay"].value == pytest.approx(41.0)
    assert rows["link: rate, against the one set"].value == pytest.approx(9.36)


def test_a_promise_that_is_missed_and_a_target_that_is_never_reached():
    slow = link_rows(IDEAL, times(**{"A, f32": [31.0] * 3, "A, int8": [9.0, inf, inf]}))
    missed = {row.name.partition(", against")[0]: row.ratio for row in slow if row.holds is False}
    assert missed == {
        "link: seconds to 97%, A, f32": 90 / 31,
        "link: seconds to 97%, A, int8": None,
    }


@pytest.mark.parametrize(
    "speed",
    [
        Speed(0.060, 1.17e6, 1.17e6),
        Speed(0.030, 1.17e6, 1.17e6),
        Speed(0.041, 1.0e6, 1.17e6),
        Speed(0.041, 1.17e6, 5e6),
    ],
)
def test_a_link_that_is_not_what_it_should_be_is_a_row_that_fails(speed):
    assert [row.holds for row in link_rows(speed, times())[:3]].count(False) == 1


def test_every_number_of_pieces_runs_once_and_the_fastest_with_every_seed():
    everyone = chosen({})
    assert len(everyone) == len(ENCODINGS) + 2 * len(PIECES)
    assert list(chosen(times())) == [
        *map(named_ours, ENCODINGS),
        named_theirs(EXACT, 2),
        named_theirs(ROUNDED, 2),
    ]
    assert list(chosen(times(**{named_theirs(EXACT, 4): [60.0]})))[3] == named_theirs(EXACT, 4)


@pytest.mark.parametrize("name", sides())
def test_every_job_is_one_that_the_command_takes(name):
    settings = tuple(f"{key}={told(value)}" for key, value in sides()[name].items())
    job = resolve(None, {}, settings, {}).job
    assert (job.train.transport, job.train.mode, job.worker.count) == ("tcp", "admm", 2)
    assert ("int8" in name, "f16" in name) == (
        job.partition.encoding == "int8",
        job.partition.encoding == "f16",
    )


def test_without_root_the_part_is_left_out_with_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(link.os, "geteuid", lambda: 1000)
    said = []
    assert bench_link(Ground(tmp_path, tmp_path, 1, False, said.append)) == []
    assert said == ["link: left out: network namespaces need root"]
    monkeypatch.setattr(link.os, "geteuid", lambda: 0)
    monkeypatch.setattr(link.shutil, "which", lambda name: None)
    assert obstacle() == "there is no command ip (Debian package iproute2)"
    monkeypatch.setattr(link.shutil, "which", lambda name: "/sbin/ip")
    monkeypatch.setattr(link.os, "access", lambda path, mode: False)
    assert obstacle() == "there is no /dev/net/tun"


# The real one.


def left(name: str) -> str:
    """What the machine still has of a link."""
    spaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    devices = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True)
    return "".join(line for line in (spaces.stdout + devices.stdout).splitlines() if name in line)


@needs_link
@pytest.mark.processes
def test_the_link_has_its_delay_and_its_rate(tmp_path):
    with joined_hosts() as (one, other):
        speed = probe(one, other, tmp_path)
    assert 2 * DELAY < speed.round_trip < 2.5 * DELAY
    for rate in (speed.up, speed.down):
        assert 0.85 * RATE < rate < 0.97 * RATE  # TCP's and IP's headers are not counted
    assert left(one.namespace[:-1]) == ""


@needs_link
@pytest.mark.processes
def test_another_link_is_another_speed(tmp_path):
    with joined_hosts(delay=0.005, rate=5e6 / 8) as (one, other):
        speed = probe(other, one, tmp_path, rate=2.5e6 / 8)
    assert 0.010 < speed.round_trip < 0.016
    assert 0.85 < speed.up / (5e6 / 8) < 0.97


@needs_link
@pytest.mark.processes
def test_nothing_is_left_after_an_exception():
    names = []

    def fail() -> None:
        with joined_hosts() as (one, other):
            names.extend([one.namespace, other.namespace])
            assert all(left(name) for name in names)
            raise KeyError("x")

    with pytest.raises(KeyError, match="x"):
        fail()
    assert [left(name) for name in names] == ["", ""]


HOLDING = """
import sys, signal
from dualshard.bench.link import joined_hosts
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
with joined_hosts() as (one, other):
    print(one.namespace, flush=True)
    signal.pause()
"""


@needs_link
@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_after_a_kill(number):
    with subprocess.Popen(
        [sys.executable, "-P", "-c", HOLDING], stdout=subprocess.PIPE, text=True
    ) as holder:
        name = holder.stdout.readline().strip()[:-1]
        assert re.fullmatch("ds[0-9a-f]{8}", name)
        assert left(name) != ""
        holder.send_signal(number)
        holder.wait()
        # The relay's standard input is closed by now.
        deadline = time.monotonic() + 10.0
        while left(name) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert left(name) == ""


@needs_link
@pytest.mark.processes
def test_a_link_that_cannot_be_made_is_one_error(monkeypatch):
    monkeypatch.setattr(link.secrets, "token_hex", lambda size: "far too long for a device")
    with pytest.raises(RoleError, match=r"^no link between two hosts could be made: ."):  # noqa: SIM117
        with joined_hosts():
            pass


@needs_link
@pytest.mark.processes
def test_a_cluster_trains_over_the_link(images, tmp_path):
    job = {
        **whole("local", 1),
        "data.source": f"idx:{images}",
        "data.batch_size": 16,
        "train.transport": "tcp",
        "model.args": "{hidden=[8]}",
    }
    with joined_hosts(delay=0.002, rate=1e8) as (one, other):
        assert 0 < time_to(one, other, tmp_path / "near", job, target=0.0) < 60
        wrong = {**job, "data.source": "idx:/nowhere"}
        with pytest.raises(RoleError, match=r"^the controller ended with status 2: data.source = "):
            time_to(one, other, tmp_path / "wrong", wrong)
    log = (tmp_path / "near" / "worker-b.log").read_text()
    assert f"joining the controller at {one.address}:{admm_link.PORT}" in log
