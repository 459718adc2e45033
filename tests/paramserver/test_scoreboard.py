"""The rows of a run: epochs, evaluations, events, totals."""

import json
from typing import Any

import pytest

from dualshard.common.messages import Progress
from dualshard.paramserver.controller.epochs import Ledger, Stretch
from dualshard.paramserver.controller.scoreboard import EVENTS_SHOWN, RATE_WINDOW, Scoreboard


def finished(epoch: int, **measures: float) -> Ledger:
    ledger = Ledger(epoch, Stretch(epoch, 0, 40, 40, 10), [70])
    ledger.progress(70, Progress(epoch, 3, 0, [], [0, 1, 2], [1], measures, 10))
    return ledger


def sums(**changes: float) -> dict[str, float]:
    return {
        "samples": 100.0,
        "steps": 10.0,
        "loss": 250.0,
        "accuracy": 60.0,
        "pushes": 20.0,
        "staleness": 30.0,
        "wait": 0.5,
        "wait_between": 0.125,
        "bytes_pushed": 800.0,
        "bytes_pulled": 400.0,
        **changes,
    }


def test_an_epoch_row_holds_means_over_samples_pushes_and_steps() -> None:
    board = Scoreboard()
    board.begin_epoch(0, 10.0)
    row = board.end_epoch(finished(0, **sums()), 14.0)
    assert row == {
        "kind": "epoch",
        "epoch": 0,
        "seconds": 4.0,
        "samples": 100,
        "pushes": 20,
        "samples_per_second": 25.0,
        "loss": 2.5,
        "accuracy": 0.6,
        "staleness": 1.5,
        "late": 0,
        "staleness_histogram": {},
        "steps": 10,
        "wait_seconds": 0.5,
        "wait_seconds_per_step": 0.0375,
        "wait_between_seconds": 0.125,
        "bytes_pushed": 800,
        "bytes_pulled": 400,
        "portions": 4,
        "dropped": 1,
        "repeated": 0,
        "reissued": 1,
        "samples_repeated": 0,
        "samples_reissued": 10,
    }
    assert json.loads(json.dumps(row)) == row


def test_an_epoch_without_samples_divides_by_nothing() -> None:
    board = Scoreboard()
    board.begin_epoch(0, 10.0)
    row = board.end_epoch(finished(0), 10.0)
    assert (row["loss"], row["staleness"], row["samples_per_second"]) == (0.0, 0.0, 0.0)


def test_a_model_without_accuracy_has_none_in_its_rows() -> None:
    board = Scoreboard()
    board.begin_epoch(0, 0.0)
    row = board.end_epoch(finished(0, samples=10.0, loss=5.0), 1.0)
    assert "accuracy" not in row
    assert row["loss"] == 0.5


def test_time_counts_from_the_first_epoch() -> None:
    board = Scoreboard()
    board.event("before", 3.0)
    board.begin_epoch(0, 10.0)
    board.begin_epoch(1, 12.0)
    board.event("after", 15.0)
    assert [(row["text"], row["seconds"]) for row in board.events] == [
        ("before", 0.0),
        ("after", 5.0),
    ]


def test_rows_are_taken_once() -> None:
    board = Scoreboard()
    board.begin_epoch(0, 0.0)
    board.event("one", 0.0)
    board.end_epoch(finished(0, **sums()), 1.0)
    board.evaluated(1, 1.0, 360, {"loss": 0.1, "accuracy": 0.9}, 2.0)
    assert [row["kind"] for row in board.take()] == ["event", "epoch", "evaluation"]
    assert board.take() == []


def test_only_the_newest_events_are_shown_but_all_are_written() -> None:
    board = Scoreboard()
    for number in range(EVENTS_SHOWN + 5):
        board.event(str(number), 0.0)
    assert [row["text"] for row in board.events] == [str(n) for n in range(5, EVENTS_SHOWN + 5)]
    assert len(board.take()) == EVENTS_SHOWN + 5


def test_the_rate_is_that_of_the_last_seconds() -> None:
    board = Scoreboard()
    assert board.rate(0.0) == 0.0
    board.begin_epoch(0, 0.0)
    board.add_samples(100.0, 1.0)
    assert board.rate(2.0) == pytest.approx(50.0)
    for second in range(2, 21):
        board.add_samples(10.0, float(second))
    # Seconds 15 to 20: six reports within the window.
    assert board.rate(20.0) == pytest.approx(60.0 / RATE_WINDOW)
    board.ended_at = 20.0
    assert board.rate(100.0) == board.rate(20.0)


def test_the_summary_adds_up_the_epochs() -> None:
    board = Scoreboard()
    board.begin_epoch(0, 10.0)
    board.end_epoch(finished(0, **sums()), 14.0)
    board.begin_epoch(1, 14.0)
    board.end_epoch(finished(1, **sums(pushes=60.0, staleness=0.0)), 20.0)
    board.evaluated(1, 2.0, 360, {"loss": 0.25, "accuracy": 0.9}, 21.0)
    board.ended_at = 20.0
    expected: dict[str, Any] = {
        "test_accuracy": 0.9,
        "test_loss": 0.25,
        "epochs": 2,
        "samples": 200,
        "samples_per_second": 20.0,
        "wall_seconds": 10.0,
        "bytes_pushed": 1600,
        "bytes_pulled": 800,
        "staleness_mean": 30 / 80,
        "wait_seconds": 1.0,
        "wait_per_step_ms": 37.5,
        "wait_between_seconds": 0.25,
        "pushes": 80,
        "portions_dropped": 2,
        "portions_repeated": 0,
        "portions_reissued": 2,
    }
    summary = board.summary(99.0)
    assert {key: summary[key] for key in expected} == expected


def test_a_run_that_starts_at_moment_zero_has_a_length() -> None:
    board = Scoreboard()
    board.begin_epoch(0, 0.0)
    board.end_epoch(finished(0, **sums()), 4.0)
    assert board.summary(5.0)["wall_seconds"] == 5.0


def test_a_run_that_never_began_has_an_empty_summary() -> None:
    summary = Scoreboard().summary(50.0)
    assert (summary["epochs"], summary["samples"], summary["wall_seconds"]) == (0, 0, 0.0)
    assert summary["test_accuracy"] is None
