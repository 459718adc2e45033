"""Which workers `dualshard train` starts again, and how often."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dualshard.common.job import Job
from dualshard.common.types import Role
from dualshard.deploy.children import Child
from dualshard.deploy.local import LocalCluster
from dualshard.deploy.signals import Signals

CUT = {"train": {"mode": "admm"}, "worker": {"count": 2}}
Start = Callable[..., "Launched"]


class Ended:
    """A process that has ended, or runs (None)."""

    pid = 77

    def __init__(self, status: int | None) -> None:
        self._status = status

    def poll(self) -> int | None:
        return self._status


class Launched(LocalCluster):
    """Notes whom it starts instead of starting them."""

    def __init__(self, tables: dict[str, Any], folder: Path) -> None:
        super().__init__(Job.from_dict(tables), folder, Signals())
        self.folder = folder
        self.again: list[str] = []

    def _join(self, role: Role, rank: int) -> None:
        self.again.append(f"{role}-{rank}")

    def child(self, status: int | None, words: str = "", role: Role = Role.WORKER) -> Child:
        log = self.folder / "log"
        log.write_text(words)
        return Child(role, 1, Ended(status), log)  # type: ignore[arg-type]

    def looks_at(self, child: Child) -> None:
        if self._wants_another(child):
            self._replace([child])


@pytest.fixture
def launched(tmp_path: Path) -> Launched:
    return Launched(CUT, tmp_path)


@pytest.mark.parametrize("status", [-9, -11, 1, 143])
def test_one_that_died_by_itself_is_started_again_and_counts_no_more(
    launched: Launched, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    child = launched.child(status, "dualshard: out of memory\n")
    launched.looks_at(child)
    assert launched.again == ["worker-1"]
    assert capsys.readouterr().out == f"{child.ending()}: started again, 1 of 3 times\n"
    launched.looks_at(child)  # it has been replaced
    assert launched.again == ["worker-1"]
    assert child.replaced


@pytest.mark.parametrize(
    ("status", "words", "role"),
    [
        (None, "", Role.WORKER),
        (0, "", Role.WORKER),
        (2, "dualshard: partition.cuts = relu9: expected a layer\n", Role.WORKER),
        (1, "dualshard: put out by the controller: nobody took part 0\n", Role.WORKER),
        (-9, "", Role.PARAMSERVER),
        (1, "", Role.DATASERVER),
    ],
)
def test_others_are_not(launched: Launched, status: int | None, words: str, role: Role) -> None:
    launched.looks_at(launched.child(status, words, role))
    assert launched.again == []


def test_an_old_life_that_was_put_out_says_nothing_of_one_that_was_killed(
    launched: Launched,
) -> None:
    launched.looks_at(launched.child(-9, "dualshard: put out by the controller: it was slow\n"))
    assert launched.again == ["worker-1"]


def test_three_times_in_a_job(launched: Launched) -> None:
    children = [launched.child(-9) for _ in range(5)]
    launched._replace(children[:2])
    launched._replace(children[2:])
    assert launched.again == ["worker-1"] * 3
    assert [child.replaced for child in children] == [True] * 3 + [False] * 2


@pytest.mark.parametrize("tables", [{}, {"train": {"mode": "local"}}])
def test_workers_with_whole_nets_are_not(tmp_path: Path, tables: dict[str, Any]) -> None:
    launched = Launched(tables, tmp_path)
    launched.looks_at(launched.child(-9))
    assert launched.again == []
