"""A process that is slowed down: for how long it runs, and that it is woken at the end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dualshard.bench.processes import module_command

TICK = 0.02


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def comes_to(pid: int, wanted: str) -> bool:
    """Whether a process comes to a state within some seconds."""
    deadline = time.monotonic() + 10.0
    while (found := state(pid)) != wanted and time.monotonic() < deadline:
        time.sleep(TICK)
    return found == wanted


@pytest.fixture
def busy():
    """A process that computes without end."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        yield process
        process.kill()


def slow_down(pid: int, times: float) -> "subprocess.Popen[str]":
    command = module_command("bench.slowing", times)
    slowing = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
    slowing.stdin.write(f"{pid}\n")
    slowing.stdin.flush()
    return slowing


@pytest.mark.processes
def test_a_process_stands_still_most_of_the_time_and_is_woken_at_the_end(busy):
    with slow_down(busy.pid, 1000.0) as slowing:
        assert comes_to(busy.pid, "T")
        slowing.stdin.close()  # as when the benchmark ends, or is killed
    assert slowing.returncode == 0
    assert state(busy.pid) in "RS"


@pytest.mark.processes
def test_three_times_slower_is_a_third_of_the_time(busy):
    with slow_down(busy.pid, 3.0) as slowing:
        assert comes_to(busy.pid, "T")
        began, used = time.monotonic(), cpu_seconds(busy.pid)
        time.sleep(1.0)
        share = (cpu_seconds(busy.pid) - used) / (time.monotonic() - began)
        slowing.stdin.close()
    assert 0.05 < share < 0.45


@pytest.mark.processes
def test_slowing_ends_with_the_process_that_it_slows(busy):
    slowing = slow_down(busy.pid, 3.0)
    assert comes_to(busy.pid, "T")
    busy.send_signal(signal.SIGKILL)
    busy.wait()
    assert slowing.wait() == 0
    slowing.stdin.close()
