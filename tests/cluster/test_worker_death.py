"""A worker is killed in mid-epoch: the others finish what it had begun."""

from pathlib import Path

import numpy as np
from simulation import CONTROLLER, Simulation, make_job, one_hot

from dualshard.common.delivery import Courier
from dualshard.common.messages import Evaluate, Obituary
from dualshard.common.types import Role
from dualshard.common.wire import encode

PID = 301


def start(tmp_path: Path, **settings: object) -> Simulation:
    """Three workers in the middle of the first epoch; worker-1 holds a portion."""
    sim = Simulation(make_job(one_hot(tmp_path, 300), worker__count=3, **settings))
    sim.run_until(lambda: sim.controller.ledger is not None and len(sim.controller.ledger.done) > 3)
    assert PID in sim.dataservers()[0].standing()[3]
    return sim


def check_all_served(sim: Simulation) -> None:
    """Every sample counted once, and applied at least once, in each epoch; who died is named."""
    sim.run()
    sim.check()
    assert sim.model is not None
    assert sim.model.min() >= 2.0
    # What the dead worker held is at most two portions of one minibatch.
    assert 0 <= sim.model.sum() - 600 <= 32
    first, second = sim.epochs()
    assert (first["samples"], second["samples"]) == (300, 300)
    assert 1 <= first["reissued"] <= 2
    assert second["reissued"] == 0
    (named,) = [event for event in sim.events() if event.startswith("served again: ")]
    count = first["reissued"]
    noun = "portion" if count == 1 else "portions"
    assert named.startswith(f"served again: {count} {noun} of epoch 0 (samples ")
    assert first["samples_reissued"] <= 16 * count


def test_its_portions_are_served_again_when_its_lease_has_run_out(tmp_path: Path) -> None:
    sim = start(tmp_path)
    sim.kill("worker-1")
    killed_at = sim.clock.now()
    check_all_served(sim)
    lost = "lost worker-1 on memory (pid 301): nothing heard for 5.0 s"
    assert lost in sim.events()
    row = next(row for row in sim.rows if row.get("text") == lost)
    assert killed_at + 4.0 < row["seconds"] < killed_at + 6.0


def test_a_launcher_that_saw_it_die_saves_the_wait(tmp_path: Path) -> None:
    sim = start(tmp_path)
    sim.kill("worker-1")
    launcher = sim.network.transport(999)
    notice = Courier(999).notify(CONTROLLER, Obituary("memory", PID, -9))
    launcher.send(CONTROLLER, encode(notice.envelope))
    check_all_served(sim)
    assert "lost worker-1 on memory (pid 301): its process ended with signal 9" in sim.events()
    assert sim.clock.now() < 2.0


def test_the_final_evaluation_is_asked_of_another(tmp_path: Path) -> None:
    sim = start(tmp_path)
    sim.run_until(lambda: sim.controller.cluster.phase == "finishing")
    asked = sim.controller.courier.open_requests()
    assert any(isinstance(request.message, Evaluate) for request in asked)
    sim.kill("worker-0")
    sim.run()
    sim.check()
    assert sim.evaluations()[-1]["epochs"] == 2.0
    np.testing.assert_array_equal(sim.model, np.full(300, 2.0, np.float32))


def test_the_last_worker_ends_the_job(tmp_path: Path) -> None:
    sim = Simulation(make_job(one_hot(tmp_path, 300), worker__count=1))
    sim.run_until(lambda: sim.pushes() > 10)
    sim.kill("worker-0")
    sim.run()
    sim.check(statuses=1, leases=False)
    expected = "lost the last worker, worker-0 on memory (pid 300): nothing heard for 5.0 s"
    assert sim.actors["controller-0"].ended.reason == expected
    assert sim.actors["paramserver-1"].ended.reason == expected
    assert sim.model is None


def test_a_worker_that_nobody_hears_is_put_out(tmp_path: Path) -> None:
    """It is alive, but cut from the controller for good: the others go on, and it ends too."""
    sim = start(tmp_path, job__epochs=2)
    sim.cut("worker-1", "controller-0")
    sim.run()
    assert sim.network.counts["cut"] > 0
    assert sim.actors["controller-0"].ended.status == 0
    ended = sim.actors["worker-1"].ended
    assert ended.status == 1
    assert (
        "lost the controller at 10.0.0.1:7077: nothing heard for 6.0 s (lease 5 s)" in ended.reason
    )
    assert [row["samples"] for row in sim.epochs()] == [300, 300]
    assert sim.model is not None
    assert sim.model.min() >= 2.0


def test_another_may_take_its_place(tmp_path: Path) -> None:
    sim = start(tmp_path, job__epochs=3)
    sim.kill("worker-1")
    sim.run_until(lambda: "worker-1" in sim.controller.roster.missing())
    fresh = sim.add(Role.WORKER, 1, life=1)
    sim.run()
    sim.check()
    assert sim.model is not None
    assert sim.model.min() >= 3.0
    assert [row["samples"] for row in sim.epochs()] == [300] * 3
    assert fresh.node.report()["steps"] > 0
