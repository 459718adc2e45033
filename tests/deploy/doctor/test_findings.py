"""What follows from findings, and how they are shown: nothing of this machine."""

from rich.console import Console

from dualshard.deploy.doctor.command import table
from dualshard.deploy.doctor.findings import (
    as_rows,
    examine,
    exit_status,
    fail,
    ok,
    verdict,
    warn,
)

GOOD = ok("Python", "3.11.2")
ODD = warn("port 7077", "is in use", "choose another")
BAD = fail("packages", "zmq is not installed", "pip install pyzmq")


def test_only_a_failure_makes_the_command_fail():
    assert [exit_status(found) for found in ([], [GOOD], [GOOD, ODD], [GOOD, BAD])] == [0, 0, 0, 1]


def test_the_verdict_counts():
    assert verdict([GOOD, GOOD]) == "2 checks: all is well"
    assert verdict([GOOD, ODD]) == "2 checks: 1 warning"
    assert verdict([BAD, GOOD, ODD, BAD]) == "4 checks: 2 failures, 1 warning"


def test_a_check_that_breaks_is_a_finding_and_stops_no_other():
    found = examine([("Python", lambda: GOOD), ("GPU", lambda: 1 / 0), ("port", lambda: ODD)])
    assert [finding.state for finding in found] == ["ok", "fail", "warn"]
    assert found[1].name == "GPU"
    assert found[1].what.startswith("the check itself failed: ZeroDivisionError: ")


def test_the_fix_stands_below_what_is_not_well():
    console = Console(width=80, record=True, file=None, quiet=True)
    with console.capture() as captured:
        Console(width=80, file=console.file).print("")
        console.quiet = False
        console.print(table([GOOD, ODD, BAD]))
    lines = [line.rstrip() for line in captured.get().splitlines() if line.strip()]
    assert lines == [
        "ok    Python     3.11.2",
        "warn  port 7077  is in use",
        "                 fix: choose another",
        "fail  packages   zmq is not installed",
        "                 fix: pip install pyzmq",
    ]


def test_rows_for_programs_have_every_field():
    assert as_rows([GOOD, BAD]) == [
        {"name": "Python", "state": "ok", "what": "3.11.2", "fix": ""},
        {
            "name": "packages",
            "state": "fail",
            "what": "zmq is not installed",
            "fix": "pip install pyzmq",
        },
    ]
