"""Rows, their ratios and goals, and the table."""

import io
import json
from math import inf

import pytest
from rich.console import Console

from dualshard.bench.report import Row, compare, make_table, number


def test_more_is_better_by_default():
    row = compare("speed", "samples/s", [30.0, 10.0, 20.0], [4.0, 8.0, 100.0], goal=2.5)
    assert row == Row("speed", 20.0, "samples/s", 8.0, 2.5, 2.5)
    assert row.holds is True


def test_less_is_better_for_seconds():
    row = compare("time", "s", [2.0, 3.0, 4.0], [5.0, 5.0, 9.0], goal=2.0, less_is_better=True)
    assert (row.value, row.against) == (3.0, 5.0)
    assert row.ratio == pytest.approx(5 / 3)
    assert row.holds is False


def test_an_even_number_of_rounds_takes_the_mean_of_the_middle_two():
    assert compare("speed", "GB/s", [1.0, 9.0, 2.0, 4.0]).value == 3.0


def test_without_a_goal_nothing_holds_or_fails():
    assert compare("speed", "GB/s", [1.0], [2.0]).holds is None


def test_without_the_other_side_there_is_no_ratio():
    row = compare("speed", "GB/s", [1.0])
    assert (row.value, row.against, row.ratio, row.holds) == (1.0, None, None, None)


@pytest.mark.parametrize(
    ("ours", "theirs", "value", "against"),
    [
        ([inf, 1.0, inf], [5.0, 5.0, 5.0], None, 5.0),
        ([1.0, 1.0, inf], [inf, inf, 5.0], 1.0, None),
    ],
)
def test_what_most_rounds_never_reached_has_no_ratio_and_misses_its_goal(
    ours, theirs, value, against
):
    row = compare("time", "s", ours, theirs, 2.0, less_is_better=True)
    assert (row.value, row.against, row.ratio, row.holds) == (value, against, None, False)


def test_a_row_is_strict_json():
    rows = [compare("time", "s", [inf], [inf], 2.0, less_is_better=True), Row("a", 1.5, "s")]
    assert json.loads(json.dumps([row.to_dict() for row in rows], allow_nan=False)) == [
        {
            "name": "time",
            "value": None,
            "unit": "s",
            "against": None,
            "ratio": None,
            "goal": 2.0,
            "holds": False,
        },
        {
            "name": "a",
            "value": 1.5,
            "unit": "s",
            "against": None,
            "ratio": None,
            "goal": None,
            "holds": None,
        },
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, ""), (0.0, "0.00"), (97.456, "97.46"), (999.99, "999.99"), (24000.4, "24,000")],
)
def test_numbers_are_short(value, shown):
    assert number(value) == shown


def test_the_table_is_markdown_with_a_line_a_row():
    rows = [
        compare("speed", "samples/s", [50_000.0], [20_000.0], 2.5),
        compare("time to 97.5 %", "s", [inf], [6.0], 2.0, less_is_better=True),
        compare("test accuracy", "%", [98.21]),
    ]
    page = io.StringIO()
    Console(file=page, width=160).print(make_table(rows))
    head, rule, *lines = [line.strip() for line in page.getvalue().splitlines() if line.strip()]
    assert _cells(head) == ["measured", "value", "against", "ratio", "goal", "holds"]
    assert set(rule) == {"|", "-"}
    assert list(map(_cells, lines)) == [
        ["speed", "50,000 samples/s", "20,000", "2.50", "2.50", "yes"],
        ["time to 97.5 %", "not reached", "6.00", "", "2.00", "no"],
        ["test accuracy", "98.21 %", "", "", "", ""],
    ]


def _cells(line):
    assert (line[0], line[-1]) == ("|", "|")
    return [cell.strip() for cell in line[1:-1].split("|")]
