"""Where a job stands: what a checkpoint keeps of it, and what one that goes on makes of it."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from dualshard.common.cluster import DataShape
from dualshard.common.job import Job
from dualshard.common.messages import Progress
from dualshard.paramserver.controller.epochs import Ledger, Stretch
from dualshard.paramserver.controller.position import (
    GoingOn,
    going_on,
    history,
    next_evaluation,
    position_after,
    position_within,
)
from dualshard.paramserver.manifest import Position

DATA = DataShape(100, 20, 10, (8, 8), 20)
"""Five portions of 20 samples."""
ANOTHER = "epoch 2 starts over: its order is another one now"
TOTALS = {"samples": 300, "test_accuracy": None, "wall_seconds": 1.5}


def ledger(end: int, begin: int = 0, done: tuple[int, ...] = ()) -> Ledger:
    """A leg of epoch 2, with these sums before."""
    before = Counter({"samples": float(begin), "portions": begin // 20})
    return Ledger(9, Stretch(2, begin, end, 100, 20), [7], done, before)


def done(ledger: Ledger, *portions: int, samples: float = 0.0) -> None:
    ledger.progress(7, Progress(9, 5, 0, [], list(portions), [], {"samples": samples}))


def test_after_the_last_leg_of_an_epoch_nothing_of_the_next_is_done() -> None:
    position = position_after(ledger(100, 40), Job(), DATA, TOTALS)
    assert (position.epoch, position.begin, position.done, position.epochs) == (3, 0, (), 3.0)
    assert position.measures == {}
    assert position.totals == {"samples": 300.0, "wall_seconds": 1.5}


def test_after_a_leg_within_an_epoch_its_samples_are_done() -> None:
    leg = ledger(60, 20)
    done(leg, 0, 1, samples=40.0)
    position = position_after(leg, Job(), DATA, TOTALS)
    assert (position.epoch, position.begin, position.done, position.epochs) == (2, 60, (), 2.6)
    assert position.measures == {"samples": 60.0, "portions": 3.0}


def test_within_a_leg_the_done_portions_count() -> None:
    leg = ledger(100, 20)
    done(leg, 3, 1, samples=40.0)
    position = position_within(leg, Job(), DATA, TOTALS)
    assert (position.epoch, position.begin, position.done, position.epochs) == (2, 20, (1, 3), 2.6)
    assert position.measures == {"samples": 60.0, "portions": 1.0}
    assert leg.position == 2.6


def test_a_ledger_that_goes_on_deals_out_the_rest() -> None:
    leg = Ledger(0, Stretch(2, 0, 140, 140, 20), [8, 9], done=(0, 3, 4))
    assert leg.share == {8: [1, 5], 9: [2, 6]}
    assert leg.position == 2 + 60 / 140
    leg.progress(8, Progress(0, 2, 0, [], [1, 5], [], {}))
    assert not leg.ended([1], 1.0)
    leg.progress(9, Progress(0, 2, 0, [], [2, 6], [], {}))
    assert leg.ended([1], 1.0)
    assert leg.repeated == []


SAVED = position_within(ledger(100, 40, done=(1,)), Job(), DATA, TOTALS)


@pytest.mark.parametrize(
    ("job", "data", "expected"),
    [
        ({}, DATA, GoingOn(40, (1,))),
        ({"worker": {"count": 7}}, DATA, GoingOn(40, (1,))),
        (
            {},
            replace(DATA, portion_size=10),
            GoingOn(
                lost="1 portions of epoch 2 are done again: they are cut otherwise now", begin=40
            ),
        ),
        ({"job": {"seed": 1}}, DATA, GoingOn(lost=ANOTHER)),
        ({"data": {"sampling": "balanced"}}, DATA, GoingOn(lost=ANOTHER)),
        ({}, replace(DATA, samples=101), GoingOn(lost=ANOTHER)),
    ],
)
def test_what_of_a_position_holds_for_another_job(
    job: dict[str, Any], data: DataShape, expected: GoingOn
) -> None:
    assert going_on(SAVED, Job.from_dict(job), data) == expected


def test_a_whole_number_of_samples_holds_however_portions_are_cut() -> None:
    saved = position_after(ledger(60), Job(), DATA, TOTALS)
    assert going_on(saved, Job(), replace(DATA, portion_size=7)) == GoingOn(60)
    before = position_after(ledger(100), Job(), DATA, TOTALS)
    assert going_on(before, Job.from_dict({"job": {"seed": 1}}), DATA) == GoingOn()


def test_history_ends_at_the_position_and_holds_each_epoch_once() -> None:
    rows = [
        {"kind": "event", "text": "x"},
        {"kind": "epoch", "epoch": 0, "loss": 3},
        {"kind": "epoch", "epoch": 1, "loss": 2},
        {"kind": "evaluation", "epochs": 2.0},
        {"kind": "epoch", "epoch": 2, "loss": 1},
        {"kind": "evaluation", "epochs": 3.0},
        {"kind": "epoch", "epoch": 1, "loss": 5},
    ]
    epochs, evaluations = history(rows, Position(2))
    assert [(row["epoch"], row["loss"]) for row in epochs] == [(0, 3), (1, 5)]
    assert [row["epochs"] for row in evaluations] == [2.0]


@pytest.mark.parametrize(
    ("every", "epochs", "measured", "due"),
    [
        (1.0, 0.0, None, 1.0),
        (1.0, 2.0, 2.0, 3.0),
        (1.0, 2.0, 1.0, 2.0),
        (0.5, 2.25, 2.0, 2.5),
        (3.0, 2.0, None, 3.0),
    ],
)
def test_an_evaluation_that_did_not_come_is_made_up_for(
    every: float, epochs: float, measured: float | None, due: float
) -> None:
    rows = [] if measured is None else [{"kind": "evaluation", "epochs": measured}]
    assert next_evaluation(every, epochs, rows) == due
