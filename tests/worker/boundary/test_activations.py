"""Coupling `activations`: who is trained on what, in which order, and what is measured."""

from collections import Counter
from typing import Any

import pytest
from cut_net import CutNet, job_of
from fake_part import ACCURACY, DUAL, GAP, LOSS, PRIMAL, RHO

from dualshard.worker.boundary.events import Forward, Train

SLOW_TOP = {0: 0.01, 1: 0.1, 2: 0.1}


def orders(log: list[Any]) -> list[tuple[str, int]]:
    return [(type(action).__name__, action.round) for action in log]


def lateness(log: list[Any]) -> int:
    """Trainings between going forward with a round and training on it, summed up."""
    total, made, forwarded = 0, 0, {}
    for action in log:
        if isinstance(action, Forward):
            forwarded[action.round] = made
        elif isinstance(action, Train):
            total += made - forwarded[action.round]
            made += 1
    return total


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("parts", [2, 3, 4, 5])
def test_every_part_is_trained_once_on_every_sample(parts: int, wait: bool) -> None:
    net = CutNet(job_of(parts, admm__wait=wait))
    net.run()
    net.check()
    assert all(not +part.boundary.counters for part in net.living if part.boundary)


@pytest.mark.parametrize("parts", [2, 3])
def test_a_part_that_waits_has_one_round_from_forward_to_trained(parts: int) -> None:
    net = CutNet(job_of(parts))
    net.run()
    net.check()
    for rank in range(parts - 1):
        turns = [turn for n in range(1, 7) for turn in (("Forward", n), ("Train", n))]
        assert orders(net.part(rank).log) == turns
    assert orders(net.part(parts - 1).log) == [("Train", n) for n in range(1, 7)]
    assert net.most_open[: parts - 1] == [1] * (parts - 1)
    assert net.measures.get("lateness", 0) == 0


@pytest.mark.parametrize("ahead", [1, 2, 3])
def test_one_that_does_not_wait_fills_its_credit_and_trains_first_and_in_order(ahead: int) -> None:
    job = job_of(2, admm__wait=False, admm__ahead=ahead)
    net = CutNet(job, portions=8, compute=lambda rank: SLOW_TOP[rank])
    net.run()
    net.check()
    log = net.part(0).log
    assert net.most_open == [ahead, 0]
    assert [type(action) for action in log[:ahead]] == [Forward] * ahead
    trained = [action.round for action in log if isinstance(action, Train)]
    assert trained == list(range(1, 9))
    # Forward goes on only when an answer has been trained on: 2 after 1 has come, and so on.
    assert orders(log)[ahead : ahead + 2] == [("Train", 1), ("Forward", ahead + 1)]
    assert net.measures["lateness"] == lateness(log)
    assert (lateness(log) > 0) == (ahead > 1)


def test_a_slow_bottom_keeps_nobody_from_anything() -> None:
    net = CutNet(job_of(3, admm__wait=False), compute=lambda rank: 0.2 if rank == 0 else 0.01)
    net.run()
    net.check()


def test_what_is_measured_with_two_parts() -> None:
    net = CutNet(job_of(2), portions=5)
    net.run()
    net.check()
    assert net.samples == 59
    sent = 59 * 2 * 4
    assert net.measures == pytest.approx(
        {
            "rounds": 5,
            "boundary_up": sent,
            "boundary_down": sent,
            "lateness": 0,
            "primal": 5 * PRIMAL,
            "rho": 5 * RHO,
            "dual": 5 * DUAL,
            "gap": 5 * GAP,
            "loss": 59 * LOSS,
            "accuracy": 59 * ACCURACY,
        }
    )


def test_what_is_measured_at_each_boundary_of_more_parts() -> None:
    net = CutNet(job_of(3, admm__wait=False, partition__encoding="f16"), portions=5)
    net.run()
    net.check()
    for boundary in (".0", ".1"):
        for name, each in (("primal", PRIMAL), ("rho", RHO), ("dual", DUAL), ("gap", GAP)):
            assert net.measures[name + boundary] == pytest.approx(5 * each)
        assert net.measures[f"boundary_up{boundary}"] == 59 * 2 * 2
        assert net.measures[f"boundary_down{boundary}"] == 59 * 2 * 2
    assert net.measures["loss"] == pytest.approx(59 * LOSS)
    assert net.measures["rounds"] == 5
    late = [net.measures[f"lateness.{boundary}"] for boundary in (0, 1)]
    assert late == [lateness(net.part(rank).log) for rank in (0, 1)]
    assert "primal" not in net.measures


@pytest.mark.parametrize("encoding", ["f16", "bf16"])
def test_small_whole_numbers_travel_exactly_in_half_the_bytes(encoding: str) -> None:
    net = CutNet(job_of(3, partition__encoding=encoding))
    net.run()
    net.check()


def test_the_last_dual_residual_of_the_part_below_comes_with_a_round() -> None:
    net = CutNet(job_of(3))
    net.run()
    for rank in (1, 2):
        duals = [action.rows.dual for action in net.part(rank).log if isinstance(action, Train)]
        assert duals == [0.0] + [DUAL] * 5


def test_seeds_and_minibatches_of_upper_parts_are_those_of_the_bottom() -> None:
    net = CutNet(job_of(4))
    net.run()
    rows = [
        [(a.rows.batch, a.rows.seeds) for a in part.log if isinstance(a, Train)]
        for part in net.living
    ]
    assert rows[0] == [(4, (0, 12 * number, 0)) for number in range(6)]
    assert rows == [rows[0]] * 4


def test_one_sample_is_a_portion() -> None:
    net = CutNet(job_of(2), portions=2, size=1 + 1)
    net.run()
    net.check()
    assert [len(numbers) for numbers in net.part(1).trained] == [2, 1]


@pytest.mark.parametrize("coupling", ["activations", "weights", "backprop"])
def test_a_portion_that_comes_in_part_goes_up_as_the_runs_that_are_left(coupling: str) -> None:
    net = CutNet(job_of(3, coupling), portions=3)
    net.learnt[0, 1, 1] = 1  # somebody else has: numbers 0 and 2 of the second portion come
    net.run()
    net.check(killed=True)
    done = set(map(int, net._portions[1][4:8]))
    for part in net.living:
        assert net.trained(part.rank) == Counter(set(range(net.samples)) - done)
    if coupling == "activations":
        assert net.measures["rounds"] == 4


def test_not_waiting_pays_where_the_link_is_far() -> None:
    """A link whose latency is four times what a part computes (ADMM.md, "Where it wins")."""
    ends = {}
    for wait in (True, False):
        net = CutNet(job_of(2, admm__wait=wait), portions=30, compute=lambda rank: 0.1)
        bottom, top = (net._actors[rank].endpoint for rank in (0, 1))
        net.network.limit(bottom, top, delay=0.4, bandwidth=float("inf"))
        net.run()
        net.check()
        ends[wait] = net.clock.now()
    assert ends[True] > 30 * (2 * 0.4 + 3 * 0.1)
    assert ends[False] < ends[True] / 2
