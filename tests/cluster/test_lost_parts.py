"""Parts of a cut net: each on shards of its own; one is killed, replaced, given up; checkpoints go
on with other cuts. What a part computes is as simple as can be (see `part_sessions`)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from part_sessions import CutSimulation
from simulation import Simulation, make_job, one_hot

from dualshard.common.job import Job
from dualshard.common.types import Role

SAMPLES, STARTS = 100, (0, 37)
"""Shards of 16 elements: three of the lower part, four of the upper one."""


def cut_job(folder: Path, **settings: Any) -> Job:
    values: dict[str, Any] = {
        "train__mode": "admm",
        "worker__count": 2,
        "paramserver__shard_bytes": 64,
        "admm__macro_batch": 16,
        **settings,
    }
    return make_job(one_hot(folder, SAMPLES), **values)


def started(folder: Path, done: int = 2, **settings: Any) -> CutSimulation:
    """A cut net in mid-epoch."""
    sim = CutSimulation(cut_job(folder, **settings), STARTS)

    def begun() -> bool:
        ledger = sim.controller.ledger
        return ledger is not None and len(ledger.done) >= done

    sim.run_until(begun)
    return sim


def replaced(sim: CutSimulation, rank: int) -> None:
    """Another worker takes the place of one that was killed, once that is known."""
    missing = f"part {rank} of replica 0 is missing"
    sim.run_until(lambda: any(event.startswith(missing) for event in sim.events()))
    sim.add(Role.WORKER, rank, life=1)


def counts(sim: Simulation) -> list[Any]:
    """How often each sample was trained on, in the lower part and in the upper one."""
    assert sim.model is not None
    return np.split(sim.model, [STARTS[1]])


def test_each_part_learns_on_shards_of_its_own(tmp_path: Path) -> None:
    sim = CutSimulation(cut_job(tmp_path), STARTS)
    sim.run()
    sim.check()
    np.testing.assert_array_equal(sim.model, np.full(SAMPLES, 2.0, np.float32))
    assert sim.controller.cluster.starts == STARTS
    assert sim.shards() == 7
    (lower, upper) = (sim.part(f"worker-{rank}").replica for rank in range(2))
    assert lower is not None
    assert upper is not None
    assert (lower.numbers, upper.numbers) == (range(3), range(3, 7))


@pytest.mark.parametrize("name", ["worker-0", "worker-1"])
def test_a_killed_part_is_replaced_and_all_goes_on(tmp_path: Path, name: str) -> None:
    sim = started(tmp_path)
    sim.kill(name)
    rank = int(name[-1])
    replaced(sim, rank)
    sim.run()
    sim.check()
    assert f"{name} holds part {rank} of replica 0 again" in sim.events()
    first, second = sim.epochs()
    assert (first["samples"], second["samples"]) == (SAMPLES, SAMPLES)
    for part in counts(sim):  # what was under way may have been done twice
        assert part.min() >= 2.0
        assert part.max() <= 3.0


def test_a_portion_under_way_is_sent_again_to_a_new_upper_part(tmp_path: Path) -> None:
    sim = started(tmp_path)
    sim.kill("worker-1")
    replaced(sim, 1)
    assert sim.part("worker-0").repeated_rounds == 0
    sim.run()
    sim.check()
    assert sim.part("worker-0").repeated_rounds == 1


def test_a_part_that_nobody_takes_ends_the_job_in_words(tmp_path: Path) -> None:
    sim = started(tmp_path, job__start_timeout="20s")
    sim.kill("worker-1")
    killed_at = sim.clock.now()
    sim.run()
    sim.check(statuses=1, leases=False)
    reason = "nobody took part 1 of replica 0 within 20 s, and no other replica is whole"
    assert sim.controller.cluster.reason == reason
    assert 20.0 < sim.clock.now() - killed_at < 32.0


def test_another_replica_does_what_the_broken_one_had_begun(tmp_path: Path) -> None:
    sim = started(tmp_path, worker__count=4, job__start_timeout="20s")
    sim.kill("worker-1")
    sim.run()
    assert sim.actors.pop("worker-0").ended.status == 1
    sim.check()
    why = "nobody took part 1 of replica 0 within 20 s"
    assert f"goes on without replica 0: {why}; put out: worker-0" in sim.events()
    first, second = sim.epochs()
    assert (first["samples"], second["samples"]) == (SAMPLES, SAMPLES)
    assert first["reissued"] >= 1
    for part in counts(sim):
        assert part.min() >= 2.0


@pytest.mark.parametrize("starts", [(0, 37), (0, 16), (0, 8, 90)])
def test_a_checkpoint_of_a_cut_net_goes_on_with_any_cuts(
    tmp_path: Path, starts: tuple[int, ...]
) -> None:
    job = cut_job(tmp_path, job__epochs=1)
    first = CutSimulation(job, STARTS, run=tmp_path)
    first.run()
    assert first.checkpoint().manifest.starts == STARTS
    parts = {"partition__parts": len(starts), "worker__count": len(starts)}
    again = cut_job(tmp_path, job__epochs=3, job__resume=str(tmp_path), **parts)
    sim = CutSimulation(again, starts, run=tmp_path, rows=first.rows)
    sim.run_until(lambda: sim.controller.cluster.phase == "training")
    held = {n: one for server in sim.servers() for n, one in server.store.shards.items()}  # type: ignore[union-attr]
    spans = [sim.controller.cluster.shards(64, 1024).span(n) for n in sorted(held)]
    assert [held[n].values.size for n in sorted(held)] == [end - begin for begin, end in spans]
    values = np.concatenate([held[n].values for n in sorted(held)])
    np.testing.assert_array_equal(values, np.ones(SAMPLES, np.float32))
    if len(starts) == 2:  # what such a part computes is made for a net of two
        sim.run()
        np.testing.assert_array_equal(sim.model, np.full(SAMPLES, 3.0, np.float32))
        assert sim.checkpoint().manifest.starts == starts


def test_a_cut_net_and_a_whole_one_go_on_from_each_other(tmp_path: Path) -> None:
    job = cut_job(tmp_path, job__epochs=1)
    first = CutSimulation(job, STARTS, run=tmp_path)
    first.run()
    whole = replace(
        cut_job(tmp_path, job__epochs=2, job__resume=str(tmp_path)),
        train=replace(job.train, mode="local"),
        worker=replace(job.worker, count=1),
    )
    second = Simulation(whole, run=tmp_path, rows=first.rows)
    second.run()
    np.testing.assert_array_equal(second.model, np.full(SAMPLES, 2.0, np.float32))
    assert second.checkpoint().manifest.starts == ()
    again = cut_job(tmp_path, job__epochs=3, job__resume=str(tmp_path))
    third = CutSimulation(again, STARTS, run=tmp_path, rows=second.rows)
    third.run()
    np.testing.assert_array_equal(third.model, np.full(SAMPLES, 3.0, np.float32))
