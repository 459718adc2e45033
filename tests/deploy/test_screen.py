"""What is shown for a report: every line fits, and the start says what it waits for."""

import io
from pathlib import Path

import pytest
from rich.console import Console, Group

from dualshard.common.job import Job
from dualshard.deploy.screen import (
    Screen,
    epoch_bar,
    headline,
    measures,
    role_table,
    waiting,
)

EPOCH = {
    "epoch": 11,
    "seconds": 3.25,
    "samples_per_second": 41_234.5,
    "loss": 0.12345,
    "accuracy": 0.96,
    "staleness": 1.04,
    "wait_seconds_per_step": 0.0000214,
}


def role(name, state="training", host="one", **counters):
    kind, _, rank = name.partition("-")
    return {
        "name": name,
        "role": kind,
        "rank": int(rank),
        "host": host,
        "pid": 4_123_456,
        "state": state,
        "counters": counters,
    }


def report(**changes):
    """The report of a job in its twelfth epoch."""
    return {
        "phase": "training",
        "epoch": 12,
        "epochs": 30,
        "epochs_done": 12.5,
        "missing": [],
        "roles": [
            role("paramserver-0", "14 shards", pushes=1_234_567, pulls=123_456, odd=5),
            role("dataserver-0", "123 portions left", portions=12_345, reissued=3),
            role("worker-0", steps=1_234_567, samples=123_456_789, refused_pushes=2),
        ],
        "samples_per_second_now": 43_210.9,
        "last_epoch": EPOCH,
        "last_evaluation": {"accuracy": 0.9888, "loss": 0.04},
        "events": [],
        "summary": {"wall_seconds": 3.4},
        **changes,
    }


def drawn(what, width=80):
    """The lines on a terminal of this width."""
    page = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    page.print(what)
    return [line.rstrip() for line in page.file.getvalue().splitlines()]


def test_the_live_display_is_one_line_a_role_on_80_columns():
    shown = report()
    lines = drawn(Group(epoch_bar(shown), headline(shown), role_table(shown)))
    assert len(lines) == 6
    assert lines[0].split()[:2] == ["epoch", "13/30"]
    assert lines[0].endswith("42 %  3 s  wait 0.021 ms/step")
    assert lines[1] == "training  43,211 samples/s  loss 0.1235  staleness 1.0  test 98.88 %"
    assert lines[2].split() == ["role", "pid", "state", "counters"]
    assert lines[3].split()[:3] == ["paramserver-0", "4123456", "14"]
    assert lines[3].endswith("pushes 1,234,567  pulls 123,456")
    assert "reissued 3" in lines[4]
    assert max(map(len, lines)) <= 80


def test_hosts_are_shown_where_there_are_several():
    two = report(roles=[role("worker-0", host="one"), role("worker-1", host="two")])
    assert drawn(role_table(two))[0].split() == ["role", "host", "pid", "state", "counters"]
    assert drawn(role_table(two))[2].split() == ["worker-1", "two", "4123456", "training"]


def test_text_of_other_machines_is_no_markup():
    odd = report(roles=[role("worker-0", "[red]state[/]", host="[b]"), role("worker-1")])
    assert "[red]state[/]" in drawn(role_table(odd))[1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"phase": "joining", "missing": ["paramserver-1", "worker-0"]},
            "waiting for paramserver-1, worker-0",
        ),
        (
            {"phase": "joining", "missing": [f"worker-{n}" for n in range(16)]},
            "waiting for worker-0, worker-1, worker-2, worker-3 and 12 more",
        ),
        (
            {"phase": "preparing", "roles": [role("worker-0", "building the model")]},
            "building the model; the first time on a machine this compiles its kernels",
        ),
        ({"phase": "preparing", "roles": []}, "opening the data, starting the shards"),
        ({"phase": "training"}, ""),
    ],
)
def test_the_start_says_what_it_waits_for(changes, words):
    shown = report(**changes)
    assert waiting(shown) == words
    if words:
        assert headline(shown) == words
        assert len(words) <= 80


def test_numbers_that_are_not_there_yet_are_left_out():
    assert measures({}, {}, 0.0) == ""
    assert measures({}, {}, 5.0) == "5 samples/s"
    assert measures({}, {"loss": 0.5}, 0.0) == "test loss 0.5000"
    assert headline(report(last_epoch={}, last_evaluation={}, samples_per_second_now=0.0)) == (
        "training"
    )


def test_without_a_terminal_each_change_is_a_line(capsys):
    screen = Screen(Job(), Path("runs/x"))
    lost = {"seconds": 3.5, "text": "lost worker-1 on one (pid 7): nothing heard for 5.1 s"}
    joined = {"seconds": 0.0, "text": "worker-0 joined from one (pid 6); all are here"}
    assert screen.joining
    with screen:
        screen.starting()
        start = report(phase="joining", missing=["worker-0"], last_epoch={}, events=[joined])
        screen.show(start)
        screen.show(start)
        assert screen.joining
        screen.show(report(events=[joined]))
        assert not screen.joining
        screen.show(report(events=[joined, lost]))
    screen.finish({})
    assert capsys.readouterr().out.splitlines() == [
        "starting a controller, 2 parameter servers, 1 data server, 2 workers",
        "waiting for worker-0",
        "    3.2 s  epoch 12/30  41,234 samples/s  loss 0.1235  staleness 1.0  test 98.88 %"
        "  wait 0.021 ms/step",
        "    3.5 s  lost worker-1 on one (pid 7): nothing heard for 5.1 s",
        "ended before the job was complete: there is no final model",
        "run directory: runs/x",
    ]


def test_quick_epochs_do_not_flood_a_log(capsys):
    screen = Screen(Job(), Path("runs/x"))
    for number in range(100):
        epoch = {**EPOCH, "epoch": number, "seconds": 0.25 + number / 20}
        screen.show(report(last_epoch=epoch))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[3] for line in lines] == ["1/30", "21/30", "41/30", "61/30", "81/30"]


def test_the_last_lines_say_what_came_out(capsys):
    totals = {
        "test_accuracy": 0.98765,
        "epochs": 1,
        "samples": 43_140,
        "wall_seconds": 1.26,
        "samples_per_second": 34_238.1,
        "staleness_mean": 0.96,
        "wait_per_step_ms": 0.0214,
    }
    screen = Screen(Job(), Path("a folder/run"))
    screen.finish(totals)
    screen.finish({**totals, "test_accuracy": None})
    screen.complain("worker-1 was ended by SIGKILL")
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "test accuracy 98.77 % after 1 epoch",
        "43,140 samples in 1.3 s (34,238 samples/s), mean staleness 1.0, "
        "wait for data 0.021 ms/step",
        "run directory: a folder/run",
        "test accuracy not measured after 1 epoch",
        "43,140 samples in 1.3 s (34,238 samples/s), mean staleness 1.0, "
        "wait for data 0.021 ms/step",
        "run directory: a folder/run",
    ]
    assert said.err == "dualshard: worker-1 was ended by SIGKILL\n"


def test_long_lines_are_not_broken_without_a_terminal(capsys):
    Screen(Job(), Path("x" * 300)).finish({})
    assert capsys.readouterr().out.splitlines()[-1] == f"run directory: {'x' * 300}"


def shown(roles):
    """The table of these roles, as text."""
    out = io.StringIO()
    Console(file=out, width=100).print(role_table(report(roles=roles)))
    return [line.split() for line in out.getvalue().splitlines()]


def test_of_a_cut_net_the_parts_are_shown():
    """With the replica where there is more than one."""
    parts = [{**role(f"worker-{rank}"), "replica": 0, "part": rank} for rank in range(2)]
    server = role("paramserver-0", "14 shards")
    assert shown([server, *parts]) == [
        ["role", "pid", "part", "state", "counters"],
        ["paramserver-0", "4123456", "14", "shards"],
        ["worker-0", "4123456", "0", "training"],
        ["worker-1", "4123456", "1", "training"],
    ]
    parts.append({**role("worker-2"), "replica": 1, "part": 0})
    assert shown(parts)[1:] == [
        ["worker-0", "4123456", "0", "of", "replica", "0", "training"],
        ["worker-1", "4123456", "1", "of", "replica", "0", "training"],
        ["worker-2", "4123456", "0", "of", "replica", "1", "training"],
    ]
    assert shown([server])[0] == ["role", "pid", "state", "counters"]
