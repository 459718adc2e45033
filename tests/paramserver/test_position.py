"""Where a job stands: what a checkpoint keeps of it, and what one that goes on makes of it."""

import pytest

from dualshard.common.cluster import DataShape
from dualshard.common.job import Job
from dualshard.paramserver.controller.epochs import EpochLedger
from dualshard.paramserver.controller.position import (
    cut_of,
    history,
    next_evaluation,
    position_before,
    position_within,
)
from dualshard.paramserver.manifest import Position

DATA = DataShape(100, 20, 10, (8, 8), 5)
TOTALS = {"samples": 300, "test_accuracy": None, "wall_seconds": 1.5}


def test_before_an_epoch_nothing_of_it_is_done() -> None:
    position = position_before(3, Job(), DATA, TOTALS)
    assert (position.epoch, position.done, position.epochs) == (3, (), 3.0)
    assert position.totals == {"samples": 300.0, "wall_seconds": 1.5}


def test_within_an_epoch_the_done_portions_count() -> None:
    ledger = EpochLedger(2, 5, [7])
    ledger.progress(7, 5, 3, [], [4, 1], 0, {"samples": 40.0, "loss": 2.5})
    position = position_within(ledger, Job(), DATA, TOTALS)
    assert (position.epoch, position.done, position.epochs) == (2, (1, 4), 2.4)
    assert position.measures == {"samples": 40.0, "loss": 2.5}


def test_a_ledger_that_goes_on_deals_out_the_rest() -> None:
    ledger = EpochLedger(2, 7, [8, 9], done=(0, 3, 4))
    assert ledger.share == {8: [1, 5], 9: [2, 6]}
    assert not ledger.ended([1], 1.0)
    ledger.progress(8, 2, 0, [], [1, 5], 0, {})
    ledger.progress(9, 2, 0, [], [2, 6], 0, {})
    assert ledger.ended([1], 1.0)
    assert ledger.repeated == []


@pytest.mark.parametrize(
    "changes",
    [
        {"job": {"seed": 1}},
        {"data": {"batch_size": 8}},
        {"dataserver": {"portion": 2}},
        {"worker": {"count": 3}},
    ],
)
def test_whatever_moves_a_portion_is_in_the_cut(changes: dict[str, dict[str, int]]) -> None:
    assert cut_of(Job.from_dict(changes), DATA) != cut_of(Job(), DATA)
    assert cut_of(Job(), DATA) == cut_of(Job(), DATA)


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
