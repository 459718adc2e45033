"""Coupling `weights`: nobody waits but for credit, and everyone uses the newest copies."""

from typing import Any

import pytest
from cut_net import CutNet, job_of
from fake_part import ACCURACY, LOSS, PRIMAL

from dualshard.worker.boundary.events import Forward, Train


@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("parts", [2, 3, 5])
def test_every_part_is_trained_once_on_every_sample(parts: int, head: bool) -> None:
    net = CutNet(job_of(parts, "weights", admm__head=head))
    net.run()
    net.check()


@pytest.mark.parametrize("ahead", [1, 3])
def test_a_lower_part_trains_at_once_and_goes_on_as_far_as_its_credit(ahead: int) -> None:
    """Also with `admm.wait`, which is the default: there are no targets to wait for."""
    job = job_of(2, "weights", admm__ahead=ahead)
    net = CutNet(job, compute=lambda rank: (0.01, 0.5)[rank])
    net.run(until=lambda: bool(net.part(1).trained))
    moment = net.clock.now() + 0.4
    net.at(moment, lambda: None)
    net.run(until=lambda: net.clock.now() >= moment)
    # The top part is at its first training, and has answered nothing.
    assert len(net.part(0).trained) == ahead
    turns = [(type(a).__name__, a.round) for a in net.part(0).log]
    assert turns == [turn for n in range(1, ahead + 1) for turn in (("Forward", n), ("Train", n))]
    net.run()
    net.check()


def copies_used(log: list[Any], boundary: int) -> list[int]:
    """How often the other side had trained when it made the copy that each training used: the
    one that came with it, or the last before."""
    used = [0]
    for action in log:
        if isinstance(action, Train):
            copy = action.other.get(boundary)
            used.append(used[-1] if copy is None else int(copy[1]))
    return used[1:]


def test_copies_come_from_the_other_side_and_never_get_older() -> None:
    net = CutNet(job_of(3, "weights"), portions=12, compute=lambda rank: (0.01, 0.02, 0.05)[rank])
    net.run()
    net.check()
    for rank, boundary, other in ((0, 0, 1), (1, 0, 0), (1, 1, 2), (2, 1, 1)):
        log = net.part(rank).log
        came = [a.other[boundary] for a in log if isinstance(a, Train) and boundary in a.other]
        whose = {int(copy[0]) for copy in came}
        used = copies_used(log, boundary)
        assert whose == {other}
        assert used == sorted(used)
        assert used[-1] >= 8
        assert len({float(copy[1]) for copy in came}) == len(came), "a copy is told once"
    # A round's own copy may come after its activations: of the round before it is always there.
    assert all(used >= n for n, used in enumerate(copies_used(net.part(1).log, 0)))


def test_labels_are_asked_for_only_where_there_is_a_head() -> None:
    for head in (True, False):
        net = CutNet(job_of(3, "weights", admm__head=head), portions=2)
        net.run()
        for part in net.living:
            known = [a.known is not None for a in part.log if isinstance(a, Train)]
            assert known == [head or part.rank == 2] * 2


def test_measures_of_all_parts_reach_the_bottom_with_the_answers_or_at_the_end() -> None:
    net = CutNet(job_of(3, "weights"), portions=5, compute=lambda rank: (0.01, 0.1, 0.2)[rank])
    net.run()
    net.check()
    assert net.measures["rounds"] == 5
    assert net.measures["loss"] == pytest.approx(59 * LOSS)
    for part in ("part0", "part1"):
        assert net.measures[f"{part}.accuracy"] == pytest.approx(59 * ACCURACY)
    for boundary in (0, 1):
        assert net.measures[f"primal.{boundary}"] == pytest.approx(5 * PRIMAL)
        assert net.measures[f"boundary_up.{boundary}"] == 59 * 2 * 4 + 5 * 3 * 4
        assert net.measures[f"boundary_down.{boundary}"] == 5 * 3 * 4


def test_a_new_part_above_gets_the_unanswered_rounds_and_the_newest_copy() -> None:
    job = job_of(2, "weights", admm__ahead=3)
    net = CutNet(job, portions=5, compute=lambda rank: (0.01, 50.0)[rank])
    net.run(until=lambda: len(net.part(0).trained) == 3)
    net.kill(1)
    top = net.replace(1)
    net.run()
    net.check(killed=True)
    assert sum(isinstance(a, Forward) for a in net.part(0).log) == 5
    assert net.counted("boundary_resent") == 3
    assert sorted(n for numbers in top.trained for n in numbers) == list(range(net.samples))
    assert copies_used(top.log, 0)[-1] >= 3
