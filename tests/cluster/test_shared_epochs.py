"""Data servers share an epoch: with kills, also on a bad network, nothing is missed."""

from pathlib import Path

import pytest
from simulation import make_job, one_hot
from watching import Watching

from dualshard.common.memory import FaultPlan

SAMPLES, BATCH, PORTION = 300, 8, 3
BAD = FaultPlan(drop=0.1, duplicate=0.2, reorder=0.2, jitter=0.01)


def after_kills(
    tmp_path: Path,
    victims: list[str],
    seed: int,
    plan: FaultPlan | None = None,
    dataservers: int = 3,
    portion: int = PORTION,
) -> Watching:
    """A job of two epochs, in the first of which these are killed, after 10 to 20 minibatches."""
    job = make_job(
        one_hot(tmp_path, SAMPLES),
        data__batch_size=BATCH,
        worker__count=3,
        dataserver__count=dataservers,
        dataserver__portion=portion,
        job__start_timeout="1h",
    )
    sim = Watching(job, seed=seed, plan=plan)
    sim.run_until(lambda: len(sim.batches) >= 10 + seed)
    for victim in victims:
        sim.kill(victim)
    sim.run()
    sim.check(leases=False)
    return sim


def twice(sim: Watching) -> set[int]:
    """The portions of the first epoch of which a minibatch was computed on twice."""
    keys = [(batch.portion, batch.number) for batch in sim.epoch(0)]
    return {portion for portion, number in keys if keys.count((portion, number)) > 1}


def named(sim: Watching) -> int:
    """Portions of the first epoch that the controller has told were served or done twice."""
    row = sim.epochs()[0]
    return int(row["repeated"]) + int(row["reissued"])


VICTIMS = [["worker-1"], ["dataserver-1"], ["dataserver-0", "dataserver-2"],
           ["worker-2", "dataserver-0"]]  # fmt: skip


@pytest.mark.parametrize(
    ("victims", "seed", "bad"),
    [*((victims, 9, False) for victims in VICTIMS), (VICTIMS[-1], 3, True)],
)
def test_with_kills_each_sample_comes_at_least_once(
    tmp_path: Path, victims: list[str], seed: int, bad: bool
) -> None:
    sim = after_kills(tmp_path, victims, seed, BAD if bad else None)
    assert sim.model is not None
    assert sim.model.min() >= 2.0
    assert [row["samples"] for row in sim.epochs()] == [SAMPLES] * 2
    # Of each that died: the portions that it had asked for, or that it had handed out.
    held = sum(2 * 3 * BATCH * PORTION for _ in victims)
    assert sim.model.sum() - 2 * SAMPLES <= held
    assert len(twice(sim)) <= 6 * len(victims)
    labels = {int(one) for batch in sim.epoch(1) for one in batch.inputs.argmax(axis=1)}
    assert labels == set(range(SAMPLES))


@pytest.mark.parametrize("seed", [0, 5])
def test_what_a_killed_worker_had_done_twice_is_counted(tmp_path: Path, seed: int) -> None:
    sim = after_kills(tmp_path, ["worker-1"], seed)
    assert sim.model is not None
    repeated = sim.model.sum() - 2 * SAMPLES
    assert len(twice(sim)) <= named(sim) <= 6
    assert repeated <= named(sim) * BATCH * PORTION


@pytest.mark.parametrize(
    ("dataservers", "portion", "seed"), [(3, 3, 0), (3, 3, 5), (2, 1, 0), (2, 2, 7)]
)
def test_what_a_killed_data_server_had_done_twice_is_counted(
    tmp_path: Path, dataservers: int, portion: int, seed: int
) -> None:
    sim = after_kills(tmp_path, ["dataserver-1"], seed, dataservers=dataservers, portion=portion)
    assert twice(sim)
    assert sim.model is not None
    # Its workers tell another one of what they finish. What they have not finished when the epoch
    # ends is part of what it had handed out.
    row = sim.epochs()[0]
    unnoticed = sim.model.sum() - 2 * SAMPLES - row["samples_repeated"]
    assert 0 <= unnoticed <= row["samples_reissued"]
