"""Log lines and counters of a role."""

import logging
import sys

import pytest

from dualshard.common.clock import ManualClock
from dualshard.common.telemetry import RARELY, Telemetry, log_to_stderr


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level("DEBUG", "dualshard")
    return caplog


def test_lines_bear_the_role_and_later_its_rank(lines: pytest.LogCaptureFixture) -> None:
    telemetry = Telemetry("worker", ManualClock())
    telemetry.log("info", "joining")
    telemetry.rename("worker-3")
    telemetry.log("error", "100 % lost")
    assert lines.record_tuples == [
        ("dualshard", logging.INFO, "worker: joining"),
        ("dualshard", logging.ERROR, "worker-3: 100 % lost"),
    ]


def test_counters_are_sums_from_zero() -> None:
    telemetry = Telemetry("worker", ManualClock())
    telemetry.count("repeats")
    telemetry.count("repeats", 4)
    assert telemetry.counters == {"repeats": 5}
    assert telemetry.counters["never"] == 0


def test_a_flood_is_one_line_now_and_then_with_its_size(lines: pytest.LogCaptureFixture) -> None:
    clock = ManualClock(start=100.0)
    telemetry = Telemetry("worker", clock)
    for _ in range(7):
        telemetry.log_rarely("warning", "dropped")
    clock.advance_to(100.0 + RARELY)
    for _ in range(3):
        telemetry.log_rarely("warning", "dropped")
    clock.advance_to(100.0 + 2 * RARELY)
    telemetry.log_rarely("warning", "dropped")
    clock.advance_to(100.0 + 3 * RARELY)
    telemetry.log_rarely("warning", "dropped")
    assert lines.messages == [
        "worker: dropped",
        "worker: dropped (6 more like it were not logged)",
        "worker: dropped (2 more like it were not logged)",
        "worker: dropped",
    ]


def test_all_goes_to_the_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()  # pytest's own, which basicConfig would close
    try:
        log_to_stderr("warning")
        telemetry = Telemetry("worker-0", ManualClock())
        telemetry.log("info", "not shown")
        telemetry.log("warning", "shown")
        sys.stderr.flush()
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.endswith(" WARNING worker-0: shown\n")
    assert "not shown" not in shown.err
