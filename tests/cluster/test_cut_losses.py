"""Parts of a cut net are lost in mid-epoch, and others take their places, or nobody does.

Whoever takes a part goes on from what the servers have of it: the steps since its last push are
lost with the worker, and its optimizer's state. The rest of its replica waits, and sends again what
has not been answered.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cut_nets import (
    EPOCHS,
    SAMPLES,
    CutNet,
    accuracy_of,
    check_rows,
    cut_job,
    model_of,
    replace_worker,
    trained,
)

from dualshard.common.errors import UserError
from dualshard.common.job import Job
from dualshard.common.node import Failed
from dualshard.common.types import Role

Settings = dict[str, Any]
COUPLINGS: dict[str, Settings] = {
    "activations": {},
    "activations, late": {"admm__wait": False},
    "weights": {"partition__coupling": "weights"},
    "backprop": {"partition__coupling": "backprop"},
    "backprop, pieces": {"partition__coupling": "backprop", "partition__micro_batches": 2},
}
WHO = [
    *[("activations", rank) for rank in range(3)],
    *[(coupling, rank) for coupling in ("weights", "backprop") for rank in (0, 2)],
    *[(coupling, 1) for coupling in COUPLINGS if coupling != "activations"],
]
"""In which coupling which of three parts is lost."""
SOON = {"train__n_push": 8, "job__lease": "2s"}
"""Little is lost, and losses are noticed soon."""
PORTION = 64
"""Samples that are handed out at once."""


def in_the_middle(job: Job, **options: Any) -> CutNet:
    """A run of which some portions of the second epoch are done."""
    sim = CutNet(job, **options)
    sim.run_until(lambda: in_epoch(sim, 1) and len(ledger(sim).done) > 4)
    return sim


def ledger(sim: CutNet) -> Any:
    assert sim.controller.ledger is not None
    return sim.controller.ledger


def in_epoch(sim: CutNet, epoch: int) -> bool:
    return sim.controller.ledger is not None and ledger(sim).epoch == epoch


_UNDISTURBED: dict[str, float] = {}


def undisturbed(job: Job) -> float:
    """What the net gets right in the end if nothing happens."""
    if repr(job) not in _UNDISTURBED:
        _UNDISTURBED[repr(job)] = accuracy_of(trained(job))
    return _UNDISTURBED[repr(job)]


def check_as_good(sim: CutNet, job: Job, apart: float = 0.03) -> None:
    """All samples in all epochs, and a net as good as the undisturbed job's."""
    rows = sim.epochs()
    assert [row["samples"] for row in rows] == [SAMPLES] * job.job.epochs
    assert accuracy_of(sim) >= undisturbed(job) - apart


@pytest.mark.parametrize(("coupling", "rank"), WHO)
def test_another_takes_the_part_of_one_that_was_killed(coupling: str, rank: int) -> None:
    job = cut_job(3, **SOON, **COUPLINGS[coupling])
    sim = in_the_middle(job)
    sim.kill(f"worker-{rank}")
    replace_worker(sim, rank)
    sim.run()
    sim.check()
    check_as_good(sim, job)
    assert f"worker-{rank} holds part {rank} of replica 0 again" in sim.events()
    # Only the bottom part holds portions, as many as it has credit for.
    reissued = [row["reissued"] for row in sim.epochs()]
    assert (sum(reissued) > 0) is (rank == 0)
    # Nobody learns a sample more often than it has to: what was under way, once more.
    for part in range(3):
        for epoch in range(EPOCHS):
            learnt = Counter(sim.learnt[part, epoch])
            if learnt:
                assert set(learnt) == set(range(SAMPLES)), (part, epoch)
                again = sum(learnt.values()) - SAMPLES
                assert again <= (6 * PORTION if epoch == 1 else 0), (part, epoch)


def test_a_part_is_killed_again_and_again() -> None:
    job = cut_job(3, **SOON)
    sim = in_the_middle(job)
    for life, rank in enumerate((1, 1, 0, 2), 1):
        sim.kill(f"worker-{rank}")
        sim.run_until(lambda rank=rank: f"worker-{rank}" in sim.controller.roster.missing())  # type: ignore[misc]
        sim.add(Role.WORKER, rank, life=life)
        moment = sim.clock.now() + 1.0
        sim.run_until(lambda moment=moment: sim.clock.now() >= moment)  # type: ignore[misc]
    sim.run()
    sim.check()
    check_as_good(sim, job)


def test_two_parts_are_killed_at_once() -> None:
    job = cut_job(3, **SOON)
    for pair in ((0, 1), (1, 2), (0, 2)):
        sim = in_the_middle(job)
        for rank in pair:
            sim.kill(f"worker-{rank}")
        for rank in pair:
            replace_worker(sim, rank)
        sim.run()
        sim.check()
        check_as_good(sim, job)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_nobody_comes_and_the_job_says_so(rank: int) -> None:
    sim = in_the_middle(cut_job(3, **SOON, job__start_timeout="10s"))
    sim.kill(f"worker-{rank}")
    sim.run()
    sim.check(statuses=1, leases=False)
    why = f"nobody took part {rank} of replica 0 within 10 s, and no other replica is whole"
    assert sim.actors["controller-0"].ended.reason == why
    missing = (
        f"part {rank} of replica 0 is missing; whoever takes it within 10 s goes on with it: "
        f"dualshard worker --controller 10.0.0.1:7077 --rank {rank}"
    )
    assert sum(event.startswith(missing) for event in sim.events()) == 1
    assert sim.model is None


@pytest.mark.parametrize(
    ("coupling", "rank"), [("activations", 0), ("weights", 1), ("backprop", 0)]
)
def test_the_other_replica_goes_on_alone(coupling: str, rank: int) -> None:
    settings = {**SOON, **COUPLINGS[coupling], "worker__count": 4, "job__start_timeout": "1s"}
    job = cut_job(2, **settings)
    sim = in_the_middle(job)
    sim.kill(f"worker-{rank}")
    sim.run()
    ended = sim.actors.pop(f"worker-{1 - rank}").ended
    assert ended.status == 1
    assert f"nobody took part {rank} of replica 0" in ended.reason
    sim.check()
    check_as_good(sim, job)
    # In the last epoch nobody of replica 0 is there.
    assert sorted(sim.learnt[2, EPOCHS - 1]) == list(range(SAMPLES))


def test_a_data_server_is_lost_while_parts_ask_it_for_samples() -> None:
    job = cut_job(3, **SOON, dataserver__count=2)
    for rank in (0, 1):
        sim = in_the_middle(job)

        def asks(sim: CutNet = sim, rank: int = rank) -> bool:
            address = sim.actors[f"dataserver-{rank}"].endpoint.address
            open_ones = [r for w in sim.workers()[1:] for r in w.courier.open_requests(address)]
            return any(type(request.message).__name__ == "AskSamples" for request in open_ones)

        sim.run_until(asks)
        sim.kill(f"dataserver-{rank}")
        sim.run()
        sim.check()
        check_as_good(sim, job)


@pytest.mark.parametrize("coupling", ["activations", "weights", "backprop"])
def test_a_part_that_diverges_ends_the_job_at_once(coupling: str) -> None:
    """Another one would come to the same."""
    wild = {"optimizer__rule": "sgd", "optimizer__lr": 1e30}
    sim = CutNet(cut_job(2, **wild, **COUPLINGS[coupling]))
    with np.errstate(all="ignore"):
        sim.run()
    controller = sim.actors["controller-0"].ended
    assert controller.status == 2
    assert 2 in [sim.actors[f"worker-{rank}"].ended.status for rank in range(2)]
    fix = "hold NaN or infinity (model.ref = mlp); lower optimizer.lr (1e+30) or set optimizer.clip"
    assert controller.reason.startswith("worker-")
    assert controller.reason.endswith(fix)
    assert sim.clock.now() < 1.5
    assert sim.model is None


# Parts that are asked to end.


@pytest.mark.parametrize(("coupling", "rank"), WHO[1::2])
def test_a_part_that_is_asked_to_end_loses_nothing(coupling: str, rank: int) -> None:
    job = cut_job(3, **SOON, **COUPLINGS[coupling])
    sim = in_the_middle(job)
    sim.actors[f"worker-{rank}"].loop.post(Failed(143, "stopped by SIGTERM", asked=True))
    sim.run_until(lambda: not sim.actors[f"worker-{rank}"].running)
    ended = sim.actors.pop(f"worker-{rank}").ended
    assert ended.status == 143
    assert ended.reason.endswith("it has handed back what it had not trained on")
    replace_worker(sim, rank)
    sim.run()
    sim.check()
    check_as_good(sim, job)
    check_rows(sim)
    assert all(row["reissued"] == 0 for row in sim.epochs())
    # What was under way through a middle part that nobody waits for goes through the next one.
    most = PORTION * 4 if coupling == "activations, late" else 0
    for part in range(3):
        learnt = sim.learnt[part, 1]
        assert not learnt or set(learnt) == set(range(SAMPLES))
        assert not learnt or len(learnt) <= SAMPLES + most


def test_all_parts_are_asked_to_end_one_after_the_other() -> None:
    job = cut_job(3, **SOON)
    sim = in_the_middle(job)
    for rank in (2, 0, 1):
        sim.actors[f"worker-{rank}"].loop.post(Failed(143, "stopped by SIGTERM", asked=True))
        sim.run_until(lambda rank=rank: not sim.actors[f"worker-{rank}"].running)  # type: ignore[misc]
        sim.actors.pop(f"worker-{rank}")
        replace_worker(sim, rank)
    sim.run()
    sim.check()
    check_as_good(sim, job)
    check_rows(sim)


# The whole job is killed, and goes on from a checkpoint.


def killed(job: Job, run: Path, checkpoints: int) -> CutNet:
    """The job killed, whole, a moment after so many checkpoints are complete."""
    sim = CutNet(job, run=run)
    sim.run_until(lambda: len(sim.checkpoints()) >= checkpoints)
    moment = sim.clock.now() + 0.3
    sim.run_until(lambda: sim.clock.now() >= moment)
    assert sim.controller.cluster.phase == "training"
    return sim


def goes_on(before: CutNet, **settings: Any) -> CutNet:
    """The job that goes on from the last checkpoint, to its end."""
    tables = before.job.to_dict()
    for key, value in {"job__resume": str(before.folder), **settings}.items():
        section, name = key.split("__")
        tables[section][name] = value
    job = Job.from_dict(tables)
    sim = CutNet(job, run=before.folder, rows=before.rows)
    sim.run()
    sim.check()
    return sim


HALVES = {"job__checkpoint_every": 0.5}
"""The third checkpoint is in the middle of the second epoch."""


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_a_job_goes_on_from_the_middle_of_an_epoch(tmp_path: Path, coupling: str) -> None:
    job = cut_job(3, **HALVES, **COUPLINGS[coupling])
    before = killed(job, tmp_path / "run", 3)
    sim = goes_on(before)
    assert [row["epoch"] for row in sim.epochs()] == [1, 2]
    check_rows(sim)
    assert accuracy_of(sim) >= undisturbed(job) - 0.03
    # The second half of the second epoch, and nothing else of it.
    for part in range(3):
        if sim.learnt[part, 2]:
            learnt = sim.learnt[part, 1]
            assert len(set(learnt)) == len(learnt)
            assert SAMPLES / 2 - 3 * PORTION <= len(learnt) <= SAMPLES / 2


def test_backprop_by_sgd_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Its rule remembers nothing, so that nothing is lost with the workers."""
    rule = {"optimizer__rule": "sgd", "optimizer__lr": 0.1}
    job = cut_job(2, **HALVES, **rule, partition__coupling="backprop")
    expected = CutNet(job, run=tmp_path / "whole")
    expected.run()
    sim = goes_on(killed(job, tmp_path / "run", 3), paramserver__count=3)
    np.testing.assert_array_equal(model_of(sim), model_of(expected))


OTHERS: dict[str, Settings] = {
    "cut elsewhere": {"partition__cuts": ["relu2"]},
    "more parts": {"partition__cuts": ["relu1", "relu2", "relu3"], "worker__count": 4},
    "another coupling": {"partition__coupling": "backprop"},
    "two replicas": {"worker__count": 4},
    "not cut": {"train__mode": "local", "partition__cuts": [], "worker__count": 1},
    "not cut, two workers": {"train__mode": "local", "partition__cuts": []},
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_job_goes_on_from_it(tmp_path: Path, other: str) -> None:
    before = killed(cut_job(2, **HALVES), tmp_path / "run", 3)
    sim = goes_on(before, **OTHERS[other])
    check_rows(sim)
    assert [row["epoch"] for row in sim.epochs()] == [1, 2]
    assert accuracy_of(sim) >= 0.85


def test_a_cut_job_goes_on_from_one_that_was_not(tmp_path: Path) -> None:
    whole = {"train__mode": "local", "partition__cuts": []}
    before = killed(cut_job(2, **HALVES, **whole), tmp_path / "run", 3)
    sim = goes_on(before, train__mode="admm", partition__cuts=["relu1"])
    check_rows(sim)
    assert accuracy_of(sim) >= 0.85


def test_servers_with_another_rule_do_not_go_on_from_it(tmp_path: Path) -> None:
    before = killed(cut_job(2, **HALVES), tmp_path / "run", 1)
    why = "optimizer.rule = adam: expected sgd, as in the checkpoint; leave it as it was"
    with pytest.raises(UserError, match=f"^{re.escape(why)}$"):
        goes_on(before, train__mode="async", partition__cuts=[])
