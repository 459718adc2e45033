"""Clocks: one that goes by itself, one that goes when it is told."""

import time

from dualshard.common.clock import ManualClock, SystemClock, wall_time


def test_the_manual_clock_moves_only_when_told_and_never_backwards() -> None:
    clock = ManualClock(start=5.0)
    assert [clock.now(), clock.now()] == [5.0, 5.0]
    clock.advance_to(7.5)
    assert clock.now() == 7.5
    clock.advance_to(6.0)
    assert clock.now() == 7.5
    assert ManualClock().now() == 0.0


def test_the_system_clock_is_monotonic_time() -> None:
    before = time.monotonic()
    now = SystemClock().now()
    assert before <= now <= time.monotonic()


def test_wall_time_is_seconds_since_1970() -> None:
    before = time.time_ns() / 1e9
    now = wall_time()
    assert before - 1e-3 <= now <= time.time_ns() / 1e9 + 1e-3
