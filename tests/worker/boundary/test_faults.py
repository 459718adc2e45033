"""A network that loses, repeats and reorders, and parts that die and are replaced in mid-round."""

from typing import Any

import pytest
from cut_net import FAULTS, HEARING, CutNet, job_of

JOBS: dict[str, dict[str, Any]] = {
    "waits": {},
    "ahead": {"admm__wait": False, "admm__ahead": 3},
    "backprop": {"coupling": "backprop", "partition__micro_batches": 3},
    "weights": {"coupling": "weights", "admm__ahead": 2},
    "headless": {"coupling": "weights", "admm__head": False},
}
COUPLINGS = pytest.mark.parametrize("name", JOBS)
MOMENTS = (0.36, 0.45, 0.6)


@COUPLINGS
@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_a_bad_network_changes_nothing(name: str, parts: int, seed: int) -> None:
    net = CutNet(job_of(parts, **JOBS[name]), seed=seed, plan=FAULTS)
    net.run()
    net.check()
    counts = net.network.counts
    assert min(counts[fate] for fate in ("drop", "duplicate", "reorder", "delay")) > 0
    assert sum(part.courier.counters.retries for part in net.living) > 0
    assert sum(part.courier.counters.repeats for part in net.living) > 0


@COUPLINGS
@pytest.mark.parametrize("faulty", [False, True])
@pytest.mark.parametrize("rank", [0, 1, 2])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_part_dies_in_mid_round_and_is_replaced(
    name: str, faulty: bool, rank: int, moment: float
) -> None:
    seed = int(1000 * moment)
    net = CutNet(job_of(3, **JOBS[name]), seed=seed, plan=FAULTS if faulty else None)
    net.at(moment, lambda: net.kill(rank))
    net.at(moment + 2 * HEARING, lambda: net.replace(rank))
    net.run()
    net.check(killed=True)
    if net.job.partition.coupling != "weights":  # there nobody waits for a dead part to learn
        for part in range(3):
            assert set(net.trained(part)) == set(range(net.samples))


@COUPLINGS
def test_all_parts_die_one_after_the_other(name: str) -> None:
    net = CutNet(job_of(3, **JOBS[name]), portions=40, seed=3)
    for step, rank in enumerate((1, 0, 2, 1, 1, 0)):
        net.at(0.5 + step * 0.35, lambda rank=rank: net.kill(rank))
        net.at(0.5 + step * 0.35 + 0.05 * step, lambda rank=rank: net.replace(rank))
    net.run()
    net.check(killed=True)
    assert net.counted("boundary_resent") > 0


@COUPLINGS
def test_two_neighbours_die_at_once(name: str) -> None:
    net = CutNet(job_of(3, **JOBS[name]), portions=12, seed=4)
    for rank in (1, 2):
        net.at(0.5, lambda rank=rank: net.kill(rank))
        net.at(0.7 + 0.1 * rank, lambda rank=rank: net.replace(rank))
    net.run()
    net.check(killed=True)


def test_a_new_part_above_gets_every_unanswered_round() -> None:
    job = job_of(2, **JOBS["ahead"])
    net = CutNet(job, compute=lambda rank: 0.01 if rank == 0 else 50.0)
    net.run(until=lambda: net.most_open[0] == 3)
    unanswered = set(net._open[0])
    net.kill(1)
    top = net.replace(1)
    net.run(until=lambda: net.counted("boundary_resent") > 0)
    assert net.counted("boundary_resent") == 3
    net.run()
    net.check(killed=True)
    assert unanswered == {1, 2, 3}
    assert sorted(n for numbers in top.trained for n in numbers) == list(range(net.samples))


def test_targets_for_a_bottom_that_is_gone_are_counted_and_ignored() -> None:
    """The middle has sent up rounds of a bottom that died: they use its credit up, not more."""
    job = job_of(3, **JOBS["ahead"])
    net = CutNet(job, portions=20, compute=lambda rank: (0.01, 0.01, 0.5)[rank])
    net.run(until=lambda: net.most_open[1] == 3)
    net.kill(0)
    net.replace(0)
    net.run()
    net.check(killed=True)
    assert net.part(1).boundary is not None
    assert net.counted("boundary_late") == 3
    assert net.most_open[1] == 3


def test_what_a_former_neighbour_still_says_is_refused_and_counted() -> None:
    net = CutNet(job_of(2), portions=30, compute=lambda rank: 0.1)
    net.run(until=lambda: net.clock.now() > 1.0)
    old = net._actors.pop(0)  # out of the view, but alive: its lease has run out
    net.supply += sorted(net._held)
    net._held.clear()
    net._actors[0] = net._make(0)
    net.gone.append(old.member)
    net.announce()
    net.run(until=lambda: net.clock.now() > 2.0)
    boundary = old.part.boundary
    assert boundary is not None
    assert boundary._above is not None
    net.run(until=lambda: net.clock.now() > 3.0)
    message = next(round.message for round in boundary._rounds.values() if round.message)  # type: ignore[attr-defined]
    old.part.ask(boundary._above.address, message)
    old.loop._perform(old.part.take())
    net._actors[9] = old
    net.run(until=lambda: net.counted("boundary_stranger") == 1)
    assert net.counted("boundary_stale") == 1
    assert not old.part.failure


@COUPLINGS
def test_one_seed_replays_one_history(name: str) -> None:
    def history() -> list[str]:
        net = CutNet(job_of(3, **JOBS[name]), seed=9, plan=FAULTS)
        net.at(0.5, lambda: net.kill(1))
        net.at(0.7, lambda: net.replace(1))
        net.run()
        return net.network.trace

    assert history() == history()
