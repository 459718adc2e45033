"""A cut net over bad, cut and slow links, and with a slow part: nothing is lost but time.

With one replica whose parts wait for each other nothing but the messages' order could change what
is learnt, and it does not: the same bits come out. Parts that do not wait use what has come.
"""

from functools import cache
from typing import Any

import numpy as np
import pytest
from cut_nets import (
    EPOCHS,
    PATIENT,
    CutNet,
    accuracy_of,
    cut_job,
    model_of,
    trained,
)

from dualshard.common.job import Job
from dualshard.common.memory import FaultPlan
from dualshard.common.messages import Activations, Copies, Gradients, Targets

BAD = FaultPlan(drop=0.05, duplicate=0.1, reorder=0.1, jitter=0.005)
FAULTS = ("drop", "duplicate", "reorder")
KINDS: dict[str, tuple[int, dict[str, Any]]] = {
    "activations": (3, {}),
    "activations, late": (2, {"admm__wait": False}),
    "activations, replicas": (2, {"worker__count": 4}),
    "weights": (3, {"partition__coupling": "weights"}),
    "backprop": (2, {"partition__coupling": "backprop"}),
    "backprop, pieces": (3, {"partition__coupling": "backprop", "partition__micro_batches": 2}),
}
"""Parts and settings."""
EXACT = ("activations", "backprop", "backprop, pieces")
"""Where one replica's parts wait for each other."""


def job_of(kind: str, **settings: Any) -> Job:
    parts, more = KINDS[kind]
    return cut_job(parts, **{**PATIENT, "job__epochs": 2, **more, **settings})


@cache
def undisturbed(kind: str, n_push: int = 64) -> CutNet:
    """The same job on a network without faults."""
    return trained(job_of(kind, train__n_push=n_push))


def through(job: Job, plan: FaultPlan, seed: int = 0) -> CutNet:
    """The job run to its end over a network that is bad until training is over."""
    sim = CutNet(job, plan=plan, seed=seed)
    sim.run_until(lambda: sim.controller.cluster.phase == "finishing", 5_000)
    sim.network.plan = FaultPlan()
    sim.run()
    sim.check()
    sim.check_learnt()
    return sim


def check_end(sim: CutNet, kind: str) -> None:
    """As good as undisturbed, where parts wait to the bit."""
    clean = undisturbed(kind, sim.job.train.n_push or 64)
    assert accuracy_of(sim) >= accuracy_of(clean) - 0.06
    assert [row["rounds"] for row in sim.epochs()] == [row["rounds"] for row in clean.epochs()]
    if kind in EXACT:
        np.testing.assert_array_equal(model_of(sim), model_of(clean))
        for name in ("loss", "bytes_up", "bytes_down"):
            assert [row[name] for row in sim.epochs()] == [row[name] for row in clean.epochs()]


@pytest.mark.parametrize(("seed", "kind"), list(enumerate([*KINDS, "activations"])))
def test_messages_that_are_lost_doubled_and_overtaken(seed: int, kind: str) -> None:
    sim = through(job_of(kind), BAD, seed)
    check_end(sim, kind)
    for fault in FAULTS:
        assert sim.network.counts[fault] > 0.5 * getattr(BAD, fault) * sim.network.counts["sent"]
    between = [line for line in sim.network.trace if line.split()[-3] in BETWEEN]
    for fault in FAULTS:
        assert any(line.split()[1] == fault for line in between), "also between the parts"
    assert sim.clock.now() > undisturbed(kind).clock.now()


BETWEEN = tuple(kind.__name__ for kind in (Activations, Targets, Gradients, Copies))


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_alone(fault: str) -> None:
    sim = through(job_of("activations"), FaultPlan(**{fault: 0.2}))
    check_end(sim, "activations")
    assert sim.network.counts[fault] > 50
    assert all(sim.network.counts[other] == 0 for other in FAULTS if other != fault)


@pytest.mark.parametrize("kind", ["activations", "weights", "backprop"])
def test_the_link_between_two_parts_is_cut_and_heals(kind: str) -> None:
    job = job_of(kind)
    sim = CutNet(job)
    sim.run_until(lambda: sim.controller.ledger is not None and len(sim.controller.ledger.done) > 2)
    began = sim.clock.now()
    sim.cut("worker-0", "worker-1")
    sim.run_until(lambda: sim.clock.now() >= began + 3.0)
    done = len(sim.controller.ledger.done)  # type: ignore[union-attr]
    sim.run_until(lambda: sim.clock.now() >= began + 4.0)
    assert len(sim.controller.ledger.done) == done, "nobody goes on"  # type: ignore[union-attr]
    sim.network.heal()
    sim.run()
    sim.check()
    sim.check_learnt()
    check_end(sim, kind)
    assert sim.network.counts["cut"] > 0
    assert not any(event.startswith("lost") for event in sim.events())


@pytest.mark.parametrize(
    ("other", "rank"), [("paramserver-0", 0), ("dataserver-0", 2), ("controller-0", 0)]
)
def test_the_link_to_a_server_is_cut_and_heals(other: str, rank: int) -> None:
    often = {"train__n_push": 6, "paramserver__shard_bytes": 256, "job__lease": "6s"}
    sim = CutNet(job_of("activations", **often))
    sim.run_until(lambda: sim.controller.ledger is not None and len(sim.controller.ledger.done) > 2)
    sim.cut(f"worker-{rank}", other)
    sim.at(sim.clock.now() + 4.0, sim.network.heal)
    sim.run()
    sim.check()
    sim.check_learnt()
    check_end(sim, "activations")
    assert sim.network.counts["cut"] > 0


# Slow parts.


@pytest.mark.parametrize("slow", [0, 1])
def test_a_part_three_times_slower_is_waited_for(slow: int) -> None:
    """One of the two computes at any moment: their idle fractions add up to one."""
    job = cut_job(job__epochs=2)
    sim = trained(job, compute=lambda rank: 0.03 if rank == slow else 0.01)
    np.testing.assert_array_equal(model_of(sim), model_of(trained(job)))
    for row in sim.epochs():
        idle = row["idle"]
        assert row["lateness"] == 0
        assert idle["0"] + idle["1"] == pytest.approx(1.0, abs=0.03)
        # A bottom part goes forward, too: four thirds of a step for a pass; three passes.
        share = {0: (1 / 3 + 3) * 3 / ((1 / 3 + 3) * 3 + 3), 1: 9 / (9 + 1 / 3 + 3)}[slow]
        assert 1 - idle[str(slow)] == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("slow", [0, 1])
def test_a_part_three_times_slower_works_all_the_time_where_nobody_waits(slow: int) -> None:
    waits = trained(cut_job(), compute=lambda rank: 0.03 if rank == slow else 0.01)
    job = cut_job(admm__wait=False, admm__ahead=3)
    sim = trained(job, compute=lambda rank: 0.03 if rank == slow else 0.01)
    assert sim.clock.now() < 0.85 * waits.clock.now()
    for row in sim.epochs():
        assert row["idle"][str(slow)] < 0.1
        assert row["idle"][str(1 - slow)] > 0.5
        # A slow bottom finds targets waiting, and trains before it goes forward; targets of a slow
        # top are as late as there is credit.
        assert {0: 0.9, 1: 1.8}[slow] < row["lateness"] < {0: 1, 1: 2}[slow]
    assert accuracy_of(sim) > accuracy_of(waits) - 0.15


def far_apart(job: Job) -> CutNet:
    """Two parts with 0.6 s and a megabyte a second between them: five rounds' time and more."""
    sim = CutNet(job)
    ends = [sim.actors[f"worker-{rank}"].endpoint for rank in range(2)]
    sim.network.limit(*ends, delay=0.6, bandwidth=1e6)
    sim.run()
    sim.check()
    sim.check_learnt()
    assert sim.network.counts["limit"] > 4 * sum(row["rounds"] for row in sim.epochs())
    return sim


def test_targets_that_a_slow_link_makes_late() -> None:
    """Up to ten trainings lie between outputs and their targets, five on the average: with all the
    credit used up, one round in eleven is answered at once."""
    waits = far_apart(cut_job())
    sim = far_apart(cut_job(admm__wait=False, admm__ahead=11, job__epochs=6))
    for row in sim.epochs():
        assert 4 < row["lateness"] < 10
    assert [row["lateness"] for row in waits.epochs()] == [0] * EPOCHS
    assert accuracy_of(sim) >= 0.9
    assert sim.clock.now() < 0.5 * waits.clock.now(), "though it makes twice as many sweeps"
