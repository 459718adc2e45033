"""A data server is killed in mid-epoch: its share is dealt again, or the job says why it ends."""

from pathlib import Path

import numpy as np
import pytest
from simulation import Simulation, make_job, one_hot

from dualshard.common.messages import Fetch
from dualshard.common.types import Role


def start(tmp_path: Path, count: int) -> Simulation:
    """The middle of the first epoch."""
    job = make_job(one_hot(tmp_path, 300), worker__count=2, dataserver__count=count)
    sim = Simulation(job)
    sim.run_until(lambda: sim.controller.ledger is not None and len(sim.controller.ledger.done) > 2)
    return sim


@pytest.mark.parametrize("rank", [0, 1])
def test_its_share_is_dealt_to_the_other(tmp_path: Path, rank: int) -> None:
    sim = start(tmp_path, 2)
    sim.kill(f"dataserver-{rank}")
    sim.run()
    sim.check()
    assert sim.model is not None
    assert sim.model.min() >= 2.0
    # What it had handed out and not reported may be served twice: two workers, two credits.
    assert sim.model.sum() - 600 <= 2 * 2 * 2 * 32
    assert [row["samples"] for row in sim.epochs()] == [300, 300]
    lost = f"lost dataserver-{rank} on memory (pid {200 + rank}): nothing heard for 5.0 s"
    assert lost in sim.events()


def test_the_last_one_ends_the_job(tmp_path: Path) -> None:
    sim = start(tmp_path, 1)
    sim.kill("dataserver-0")
    sim.run()
    sim.check(statuses=1, leases=False)
    expected = "lost the last dataserver, dataserver-0 on memory (pid 200): nothing heard for 5.0 s"
    assert sim.actors["controller-0"].ended.reason == expected
    assert sim.actors["worker-0"].ended.reason == expected
    assert sim.model is None


def test_the_test_split_is_asked_of_another(tmp_path: Path) -> None:
    """It dies after the first evaluation has asked it for the test samples."""
    sim = Simulation(make_job(one_hot(tmp_path, 300), dataserver__count=2, job__epochs=1))

    def asks_for_tests() -> bool:
        waiting = [r.message for r in sim.workers()[0].courier.open_requests()]
        return any(isinstance(message, Fetch) and message.test for message in waiting)

    sim.run_until(asks_for_tests)
    sim.kill("dataserver-0")
    sim.run()
    sim.check(leases=False)
    assert sim.evaluations()[-1]["epochs"] == 1.0
    np.testing.assert_array_equal(sim.model, np.full(300, 1.0, np.float32))


@pytest.mark.parametrize(("seconds", "serves"), [(0.02, True), (5.0, False)])
def test_another_may_take_its_place(tmp_path: Path, seconds: float, serves: bool) -> None:
    """A new data server under the old rank has its share of the next epoch if its data is open by
    then; nobody waits for it."""
    sim = start(tmp_path, 2)
    sim.opening["dataserver-1"] = seconds
    sim.kill("dataserver-1")
    sim.run_until(lambda: "dataserver-1" in sim.controller.roster.missing())
    fresh = sim.add(Role.DATASERVER, 1, life=1)
    sim.run()
    sim.check()
    assert sim.model is not None
    assert sim.model.min() >= 2.0
    assert [row["samples"] for row in sim.epochs()] == [300, 300]
    assert ("portions" in fresh.node.report()) is serves
    assert sim.clock.now() < 6.0
